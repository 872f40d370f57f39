"""The study file: what is searched, on what, how. One model for each part, every key with its meaning."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    field_validator,
    model_validator,
)

from cl_core.dataset import DataSpec
from cl_core.errors import BadRequest, unknown
from cl_core.metrics import OBJECTIVES
from cl_core.scenarios import ScenarioSpec
from spaces.budget import BudgetPart
from spaces.data_part import DataPart, data_from_name
from spaces.part import Part
from spaces.protocol import FinalPart, ProtocolPart, judging_data, tuning_data
from spaces.splits import scenarios_of
from spaces.storage_url import split_password
from spaces.strategies import LEARNING, SAMPLERS, STOPPERS, arguments, described

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MOST_TRIALS = 1_000_000  # a cell; beyond it stands a slip of the hand, not a search


class Entry(Part):
    """One label of `methods`. Every other key is a hyperparameter: a value fixes it, a domain narrows it."""

    method: str = Field(description="the method; left out, the label is its name")
    recipe: dict[str, Any] = Field(default={}, description="like the study's recipe, for this label alone")
    hp: dict[str, Any] = Field(default={}, description="written beside these: name: value, or name: domain")

    def to_plain(self) -> dict[str, Any]:
        """As a study file writes it."""
        out: dict[str, Any] = {"method": self.method}
        if self.recipe:
            out["recipe"] = copy.deepcopy(self.recipe)
        return {**out, **copy.deepcopy(self.hp)}


class SearchPart(Part):
    """How each cell is searched."""

    sampler: Literal["random", "grid", "tpe", "gp", "nsga2"] = Field(
        default="tpe", description="who proposes configurations"
    )
    sampler_args: dict[str, Any] = Field(default={}, description=f"of the sampler. {described(SAMPLERS)}")
    trials: int = Field(
        default=20, ge=1, le=MOST_TRIALS, description="configurations a cell; every cell gets the same number"
    )
    seed: int = Field(default=0, ge=0, description="of the sampler; training seeds are in `protocol`")
    objective: dict[str, Literal["max", "min"]] = Field(
        default={"average_incremental_accuracy": "max"},
        min_length=1,
        description="a metric on the validation rows, or a cost: max or min; of several, a Pareto front",
    )
    stopper: Literal["none", "asha", "hyperband", "median", "wilcoxon"] = Field(
        default="none",
        description="stops trials that fall behind in the accuracy over their increments, from the end of "
        "their second task on; wilcoxon: a race over class orders",
    )
    stopper_args: dict[str, Any] = Field(default={}, description=f"of the stopper. {described(STOPPERS)}")
    audit: float = Field(
        default=0.0, ge=0, lt=1, description="share of the trials to be stopped that run on, as a check"
    )
    start_from: list[str] = Field(
        default=["paper"],
        description="paper: the published defaults are tried first; another run's folder: its trials are "
        "known to the sampler; [] for nothing",
    )

    @model_validator(mode="before")
    @classmethod
    def _all_arguments(cls, value: object) -> object:
        """Put every argument of sampler and stopper in its place, so that all are stored."""
        if not isinstance(value, Mapping):
            return value
        out = dict(value)
        for key, default, known in (("sampler", "tpe", SAMPLERS), ("stopper", "none", STOPPERS)):
            name, given = out.get(key, default), out.get(f"{key}_args", {})
            if isinstance(name, str) and name in known and isinstance(given, Mapping):
                out[f"{key}_args"] = arguments(f"search.{key}_args", name, known[name], given)
        return out

    @field_validator("objective", mode="before")
    @classmethod
    def _objectives(cls, value: object) -> object:
        given = value if isinstance(value, list) else [value]
        out: dict[str, object] = {}
        for item in given:
            if isinstance(item, str):
                item = {item: OBJECTIVES[item][0] if item in OBJECTIVES else "max"}
            if not isinstance(item, Mapping):
                return value
            for name, direction in item.items():
                if name not in OBJECTIVES:
                    raise unknown("objective", name, OBJECTIVES)
                if name in out:
                    raise BadRequest(
                        f"search.objective names {name} twice, as {out[name]} and {direction}: keep one"
                    )
                out[name] = direction
        return out

    @field_validator("start_from")
    @classmethod
    def _starts(cls, value: list[str]) -> list[str]:
        for start in value:
            if not start.strip() or value.count(start) > 1:
                raise BadRequest(
                    f"search.start_from takes paper and folders of other runs, each once, not {value!r}"
                )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> SearchPart:
        if self.audit and self.stopper == "none":
            raise BadRequest(
                f"search.audit {self.audit:g} lets trials run on that would be stopped, but search.stopper "
                "is none: choose one, or leave audit out"
            )
        if self.sources and self.sampler not in LEARNING:
            raise BadRequest(
                f"search.start_from {self.sources[0]} informs {' and '.join(LEARNING)}, but search.sampler "
                f"{self.sampler} does not learn from it: change the sampler, or leave it out"
            )
        return self

    @property
    def sources(self) -> list[str]:
        """The folders of other runs that the search starts from."""
        return [start for start in self.start_from if start != "paper"]


class ResourcesPart(Part):
    """What one run may use, and how many run at a time."""

    cpu: float | None = Field(default=None, gt=0, description="CPUs a run, also its threads; left out, 1")
    gpu: float | None = Field(
        default=None, ge=0, description="GPUs a run, e.g. 0.25; left out, all are shared"
    )
    concurrent: int | None = Field(default=None, ge=1, description="runs at a time; left out, as many as fit")


class StoragePart(Part):
    """Where a run's folder lies."""

    @field_validator("root", "stages")
    @classmethod
    def _mounted(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise BadRequest(f"storage takes folders that are local or mounted here, not {value!r}: mount it")
        return value

    root: str = Field(
        default="runs/", min_length=1, description="the run's folder is made in here, named as the study"
    )
    stages: str | None = Field(
        default=None,
        min_length=1,
        description="a stage store shared with other runs; left out, the run's own",
    )
    share: bool = Field(
        default=True,
        description="train a first task once for all runs that share it; off, each trains its own",
    )
    optuna: str | None = Field(
        default=None,
        description="journal or sqlite (a file in the run's folder), sqlite:///path, or "
        "postgresql://user@host/database (password: ~/.pgpass or PGPASSWORD); left out, journal",
    )
    _password: str | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _out_of_sight(cls, value: object, handler: ModelWrapValidatorHandler[StoragePart]) -> StoragePart:
        """Take the password out of the URL before anything can show or store it."""
        given = value.get("optuna") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(given, str):
            return handler(value)
        url, password = split_password(given)
        part = handler({**value, "optuna": url})
        part._password = password
        return part

    @property
    def password(self) -> str | None:
        """The password that stood in the URL of `optuna`; it is in no dump of this part."""
        return self._password


class Study(Part):
    """A study file."""

    study: str = Field(description="the study's name: letters, digits, dot, dash and underscore")
    data: Annotated[DataPart, BeforeValidator(data_from_name)] = Field(
        description="a data set's name, or a mapping with its name"
    )
    scenarios: list[str | dict[str, Any]] = Field(
        min_length=1,
        description="B0-10tasks, B50-inc5, or {base, increments, class_order, name}; {grid: {base: [0, 4], "
        "increment: [1, 2], class_order: [...]}} for every combination; class_order hardest or easiest: the "
        "order alone is searched",
    )
    methods: dict[str, Entry] = Field(
        min_length=1, description="a list of names, or label: {method, recipe, <hyperparameter>: ...}"
    )
    recipe: dict[str, Any] = Field(
        default={}, description="recipe fields, net and init; under base and increment for those tasks alone"
    )
    search: SearchPart = Field(default=SearchPart(), description="how each cell is searched")
    protocol: ProtocolPart = Field(default=ProtocolPart(), description="on what a configuration is judged")
    final: FinalPart = Field(default=FinalPart(), description="how chosen configurations are trained again")
    budget: BudgetPart = Field(default=BudgetPart(), description="what the study may spend")
    resources: ResourcesPart = Field(default=ResourcesPart(), description="what one run may use")
    storage: StoragePart = Field(default=StoragePart(), description="where the run's folder lies")

    @field_validator("study")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return _checked_name("study's name", value)

    @field_validator("methods", mode="before")
    @classmethod
    def _labels(cls, value: object) -> object:
        if isinstance(value, list):
            for name in value:
                if not isinstance(name, str):
                    raise BadRequest(
                        f"methods must be a list of names, or a mapping by label, not {name!r} in a list"
                    )
            if len(set(value)) < len(value):
                twice = next(name for name in value if value.count(name) > 1)
                raise BadRequest(
                    f"methods names {twice!r} twice: give each a label, as in {{a: {{method: {twice}}}}}"
                )
            value = dict.fromkeys(value)
        if isinstance(value, Mapping):
            value = {_checked_name("label", label): _entry(label, given) for label, given in value.items()}
        return value

    @model_validator(mode="after")
    def _scenarios_differ(self) -> Study:
        self.specs()
        return self

    @property
    def tuning_data(self) -> DataSpec:
        """The images on which configurations are searched."""
        return tuning_data(self.data, self.protocol)

    @property
    def judging_data(self) -> DataSpec:
        """The images on which chosen configurations are judged."""
        return judging_data(self.data, self.protocol)

    def specs(self) -> list[ScenarioSpec]:
        """The scenarios, in the study's order, grids spread out."""
        return scenarios_of(self.scenarios)

    def on(self, classes: int) -> Study:
        """The same study for data of so many classes: grids spread out, splits that a grid gives twice
        once. Raises BadRequest where a combination does not fit."""
        specs = scenarios_of(self.scenarios, classes)
        return self.model_copy(update={"scenarios": [spec.to_dict() for spec in specs]})

    def with_trials(self, trials: int) -> Study:
        """The same study with another number of trials a cell."""
        if not 1 <= trials <= MOST_TRIALS:
            raise BadRequest(f"search.trials must lie in [1, {MOST_TRIALS}], not {trials}")
        return self.model_copy(update={"search": self.search.model_copy(update={"trials": trials})})

    def to_plain(self) -> dict[str, Any]:
        """As a study file, with every default spelled out."""
        out = self.model_dump()
        out["methods"] = {label: entry.to_plain() for label, entry in self.methods.items()}
        out["scenarios"] = [spec.to_dict() for spec in self.specs()]
        return out

    def fixed_part(self) -> dict[str, Any]:
        """What may not change when a run is continued, as dotted key -> value."""
        plain = self.to_plain()
        plain["data"] = {k: v for k, v in plain["data"].items() if k not in ("root", "download")}
        plain["search"].pop("trials")
        plain["protocol"] = self.protocol.fixed()
        return flat({key: plain[key] for key in ("data", "recipe", "search", "protocol")})


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted key -> value."""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            out.update(flat(inner, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = inner
    return out


def _checked_name(what: str, value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise BadRequest(
            f"a {what} has letters, digits, '.', '_' and '-', and begins with a letter or digit, "
            f"not {value!r}: rename it"
        )
    return value


def _entry(label: str, given: object) -> dict[str, Any]:
    """An entry of `methods` split into what `Entry` holds."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise BadRequest(f"methods.{label} must be a mapping of hyperparameters or nothing, not {given!r}")
    if isinstance(given.get("hp"), Mapping) and set(given) <= {"method", "recipe", "hp"}:
        given = {**{k: v for k, v in given.items() if k != "hp"}, **given["hp"]}
    hp = {key: value for key, value in given.items() if key not in ("method", "recipe")}
    for key in hp:
        if not isinstance(key, str):
            raise BadRequest(f"methods.{label}: {key!r} is no hyperparameter's name")
    recipe = given.get("recipe")
    return {"method": given.get("method", label), "recipe": {} if recipe is None else recipe, "hp": hp}

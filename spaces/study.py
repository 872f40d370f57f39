"""The study file: what is searched, on what, how. One model for each part, every key with its meaning."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cl_core.dataset import DataSpec
from cl_core.errors import BadRequest, unknown
from cl_core.metrics import OBJECTIVES
from cl_core.scenarios import ScenarioSpec, parse_scenario

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MOST_TRIALS = 1_000_000  # a cell; beyond it stands a slip of the hand, not a search
MOST_REPEATS = 1_000  # class orders or seeds of a configuration


class Part(BaseModel):
    """A part of a study file: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataPart(Part):
    """Which images, and how many of them."""

    name: str = Field(description="a data set (`cl-search list datasets`), or module:function of your own")
    root: str | None = Field(
        default=None, description="folder of its files; left out, the data set's usual place"
    )
    size: int | None = Field(default=None, ge=1, description="side of the images in pixels")
    classes: int | None = Field(
        default=None, ge=2, description="keep the first N classes in the data set's order"
    )
    per_class: int | None = Field(
        default=None, ge=2, description="cut the training split to N images a class"
    )
    download: bool = Field(default=False, description="fetch the data set if it is missing")

    def spec(self) -> DataSpec:
        """What `cl_core.load` takes."""
        return DataSpec(**self.model_dump())


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

    sampler: Literal["random", "grid", "tpe"] = Field(
        default="tpe", description="who proposes configurations"
    )
    trials: int = Field(
        default=20, ge=1, le=MOST_TRIALS, description="configurations a cell; every cell gets the same number"
    )
    seed: int = Field(default=0, ge=0, description="of the sampler; training seeds are in `protocol`")
    objective: dict[str, Literal["max", "min"]] = Field(
        default={"average_incremental_accuracy": "max"},
        description="one metric on the validation rows: max or min",
    )
    stopper: Literal["none", "asha", "hyperband", "median"] = Field(
        default="none", description="stops trials that fall behind, from the end of their second task on"
    )
    start_from: list[Literal["paper"]] = Field(
        default=["paper"], description="tried first: paper, the published defaults; [] for nothing"
    )

    @field_validator("objective", mode="before")
    @classmethod
    def _one_objective(cls, value: object) -> object:
        if isinstance(value, str):
            value = {value: OBJECTIVES[value][0] if value in OBJECTIVES else "max"}
        if isinstance(value, Mapping):
            for name in value:
                if name not in OBJECTIVES:
                    raise unknown("objective", name, OBJECTIVES)
            if len(value) != 1:
                raise BadRequest(
                    f"search.objective must be exactly one of {', '.join(OBJECTIVES)}, "
                    f"not {len(value)} of them: {', '.join(map(str, value)) or '{}'}"
                )
        return value


class ProtocolPart(Part):
    """On which rows, class orders and seeds a configuration is judged."""

    select_on: Literal["validation"] = Field(
        default="validation", description="rows that decide: validation (held out of the training split)"
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="share of each class's training rows held out"
    )
    orders: int = Field(
        default=1,
        ge=1,
        le=MOST_REPEATS,
        description="class orders a configuration: natural, then seed:1, seed:2, ...",
    )
    seeds: int = Field(
        default=1, ge=1, le=MOST_REPEATS, description="training seeds a configuration: 0, 1, ..."
    )


class FinalPart(Part):
    """How the chosen configurations are trained again for the sealed test."""

    orders: int = Field(default=5, ge=1, description="class orders")
    seeds: int = Field(default=1, ge=1, description="training seeds")


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
    optuna: Literal["journal"] | None = Field(
        default=None, description="journal (optuna.journal in the run's folder); left out, the same"
    )


def _data_from_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Study(Part):
    """A study file."""

    study: str = Field(description="the study's name: letters, digits, dot, dash and underscore")
    data: Annotated[DataPart, BeforeValidator(_data_from_name)] = Field(
        description="a data set's name, or a mapping with its name"
    )
    scenarios: list[str | dict[str, Any]] = Field(
        min_length=1, description="B0-10tasks, B50-inc5, ... or {base, increments, class_order, name}"
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
        seen: dict[str, ScenarioSpec] = {}
        for spec in self.specs():
            if spec.name in seen:
                raise BadRequest(f"scenarios names {spec.name!r} twice: remove one, or give one another name")
            seen[spec.name] = spec
        return self

    def specs(self) -> list[ScenarioSpec]:
        """The scenarios, in the study's order."""
        return [parse_scenario(value) for value in self.scenarios]

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
        plain["protocol"] = {k: v for k, v in plain["protocol"].items() if k not in ("orders", "seeds")}
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

"""The study file: what is searched, on what, how. One model for each part, every key with its meaning."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.scenarios.scenarios import ScenarioSpec
from spaces.space.scenario_axis import scenarios_of
from spaces.study.budget import BudgetPart
from spaces.study.data import DataPart, data_from_name
from spaces.study.part import Part
from spaces.study.protocol import FinalPart, ProtocolPart, judging_data, tuning_data
from spaces.study.search import MOST_TRIALS, SearchPart
from spaces.study.storage import StoragePart

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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


LEAST_CPU, LEAST_GPU = 0.25, 0.05  # of a run


class ResourcesPart(Part):
    """What one run may use, and how many run at a time."""

    cpu: float | None = Field(
        default=None, description=f"CPUs a run, also its threads; {LEAST_CPU} or more; left out, 1"
    )
    gpu: float | None = Field(
        default=None,
        description=f"GPUs a run, e.g. 0.25; 0, or {LEAST_GPU} or more; left out, all are shared",
    )
    concurrent: int | None = Field(
        default=None, ge=1, le=10_000, description="runs at a time; left out, as many as fit"
    )

    @field_validator("cpu")
    @classmethod
    def _cpu_of_a_process(cls, value: float | None) -> float | None:
        if value is not None and not LEAST_CPU <= value < math.inf:
            raise BadRequest(
                f"resources.cpu must be {LEAST_CPU} or more, not {value:g}: every run is a process with a "
                "thread of its own; take 0.5 for two runs a CPU"
            )
        return value

    @field_validator("gpu")
    @classmethod
    def _gpu_of_a_process(cls, value: float | None) -> float | None:
        if value and not LEAST_GPU <= value < math.inf:
            raise BadRequest(
                f"resources.gpu must be 0, or {LEAST_GPU} or more, not {value:g}: every run takes memory of "
                "the GPU before its first image; take 0.25 for four runs a GPU"
            )
        return value


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

    @model_validator(mode="after")
    def _judged_on_others(self) -> Study:
        other = self.protocol.evaluate_on
        if other is not None and other.spec().identity() == self.data.spec().identity():
            raise BadRequest(
                "protocol.evaluate_on must be other images than those of data: name others, "
                "or leave it out for the other half of the classes"
            )
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

    def left_to_chf(self, label: str, hyperparameter: str) -> bool:
        """Whether a label's hyperparameter is chosen task by task: under chf, unless the study fixes it."""
        said = self.methods[label].hp
        chf = self.protocol.select_on == "chf"
        return chf and (hyperparameter not in said or isinstance(said[hyperparameter], Mapping))

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
        own = (
            f": write mine: {{method: {value!r}}}" if what == "label" and ":" in str(value) else ": rename it"
        )
        raise BadRequest(
            f"a {what} has letters, digits, '.', '_' and '-', and begins with a letter or digit, "
            f"not {value!r}{own}"
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

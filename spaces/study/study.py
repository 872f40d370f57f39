"""The study file: one model for each part, and every key with its meaning."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.scenarios.scenarios import ScenarioSpec
from spaces.space.scenario_axis import scenarios_of
from spaces.study.budget import BudgetPart
from spaces.study.data import DataPart, data_from_name
from spaces.study.part import Part
from spaces.study.protocol import FinalPart, ProtocolPart
from spaces.study.published import PublishedPart, check_labels
from spaces.study.search import MOST_TRIALS, SearchPart
from spaces.study.storage import StoragePart

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")  # of a node, as Ray takes them


HYPERPARAMETER = "hyperparameter, written beside method and recipe: a value, or a range to search"


class Entry(Part):
    """One label of `methods`. Its other keys are hyperparameters: a value fixes one, a range narrows it."""

    model_config = ConfigDict(extra="allow")

    method: str = Field(description="the method, or your own as module:Class; by default the label")
    recipe: dict[str, Any] = Field(default={}, description="as the study's recipe, for this label only")

    @field_validator("recipe", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    @property
    def hp(self) -> dict[str, Any]:
        """The hyperparameters that the study gives, by name."""
        return self.model_extra or {}


LEAST_CPU, LEAST_GPU = 0.25, 0.05  # of one run


class ResourcesPart(Part):
    """The resources of one run, and the number of runs at a time."""

    cpu: float | None = Field(
        default=None, description=f"CPUs of one run, and its threads; {LEAST_CPU} or more; by default 1"
    )
    gpu: float | Literal["auto"] | None = Field(
        default=None,
        description=f"GPUs of one run, such as 0.25; 0, or {LEAST_GPU} or more; by default all are shared; "
        "auto: as together: auto",
    )
    concurrent: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="runs at a time; by default as many as fit; with gpu, nodes of a cluster may come later",
    )
    together: bool | Literal["auto"] = Field(
        default=False,
        description="runs on one GPU, or on one node without GPUs, train in threads of one process (on Ray); "
        "auto: as many on a GPU as a short probe finds worth it",
    )
    custom: dict[str, float] = Field(
        default={}, description="custom resources of one run on a cluster, such as {a100: 0.25}"
    )
    labels: dict[str, str] = Field(
        default={}, description="labels of the cluster's nodes that may train, such as {zone: west}"
    )

    @field_validator("cpu")
    @classmethod
    def _cpu_of_a_process(cls, value: float | None) -> float | None:
        if value is not None and not LEAST_CPU <= value < math.inf:
            raise BadRequest(
                f"resources.cpu must be {LEAST_CPU} or more, not {value:g}, because every run is a process: "
                "take 0.5 for two runs on a CPU"
            )
        return value

    @field_validator("gpu")
    @classmethod
    def _gpu_of_a_process(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, float) and value and not LEAST_GPU <= value < math.inf:
            raise BadRequest(
                f"resources.gpu must be 0, or {LEAST_GPU} or more, not {value:g}, because every run needs "
                "GPU memory: take 0.25 for four runs on a GPU"
            )
        return value

    @field_validator("custom")
    @classmethod
    def _named_resources(cls, value: dict[str, float]) -> dict[str, float]:
        for name, share in value.items():
            if name.lower() in ("cpu", "gpu") or not 0 < share < math.inf:
                raise BadRequest(
                    f"resources.custom must give other resources than cpu and gpu, and shares above 0, not "
                    f"{name}: {share:g}: correct it"
                )
        return value

    @model_validator(mode="after")
    def _a_whole_gpu(self) -> ResourcesPart:
        if self.together == "auto" and self.gpu not in (None, "auto", 0, 1):
            raise BadRequest(
                f"resources.together auto finds how many runs share one GPU, so resources.gpu must not give "
                f"{self.gpu:g}: leave it out, or set together to true"
            )
        return self

    @property
    def gpus(self) -> float:
        """Return the GPUs of one run, as far as the study gives a number."""
        return self.gpu if isinstance(self.gpu, float) else 0.0

    @property
    def packed(self) -> bool:
        """Tell whether a probe finds how many runs share a GPU."""
        return "auto" in (self.gpu, self.together)

    @field_validator("labels")
    @classmethod
    def _plain_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not LABEL.fullmatch(text):
                raise BadRequest(
                    f"resources.labels must have values of letters, digits, '.', '_' and '-', not {name}: "
                    f"{text!r}: correct it"
                )
        return value


class Study(Part):
    """A study file."""

    study: str = Field(
        description="letters, digits, dot, dash, underscore; by default the name of the study file"
    )
    data: Annotated[DataPart, BeforeValidator(data_from_name)] = Field(
        description="name of a data set, or a mapping with the keys below"
    )
    scenarios: list[str | dict[str, Any]] = Field(
        min_length=1,
        description="how the classes arrive: names such as B0-10tasks and B50-inc5, or mappings; see "
        "Scenarios",
    )
    methods: dict[str, Entry] = Field(
        min_length=1, description="list of names, or mapping from label to the keys below"
    )
    recipe: dict[str, Any] = Field(
        default={},
        description="training recipe: the fields below, net and init; base and increment hold fields for "
        "those tasks only",
    )
    search: SearchPart = Field(default=SearchPart(), description="the search of each cell")
    protocol: ProtocolPart = Field(default=ProtocolPart(), description="how trials are judged and selected")
    final: FinalPart = Field(
        default=FinalPart(), description="the final runs, which `cl-search evaluate` trains"
    )
    budget: BudgetPart = Field(
        default=BudgetPart(), description="limits of the spending; at a limit no new run starts"
    )
    resources: ResourcesPart = Field(
        default=ResourcesPart(),
        description="resources of one run; --address or RAY_ADDRESS names the cluster: host:port, auto (the "
        "Ray on this machine) or local (none). ray:// is refused: under Ray Client, Tune would move the "
        "search away from the run folder",
    )
    storage: StoragePart = Field(default=StoragePart(), description="where the run folder is kept")
    published: PublishedPart | None = Field(
        default=None, description="published figures that the study is compared with at its end"
    )

    @field_validator("study")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return _checked_name("study's name", value)

    @model_validator(mode="before")
    @classmethod
    def _labelled(cls, value: Any) -> Any:
        """Give every method its label, and every label its method."""
        methods = value.get("methods") if isinstance(value, Mapping) else None
        if isinstance(methods, list):
            methods = _by_name(methods)
        if not isinstance(methods, Mapping):
            return value
        entries: dict[str, Any] = {}
        for label, given in methods.items():
            if not isinstance(given, Mapping | None):
                raise BadRequest(
                    f"methods.{label} must be a mapping of hyperparameters or empty, not {given!r}"
                )
            entries[_checked_name("label", label)] = {"method": label, **(given or {})}
        return {**value, "methods": entries}

    @model_validator(mode="after")
    def _scenarios_differ(self) -> Study:
        self.specs()
        return self

    @model_validator(mode="after")
    def _figures_of_labels(self) -> Study:
        check_labels(self.published.figures if self.published else (), list(self.methods))
        return self

    @model_validator(mode="after")
    def _judged_on_others(self) -> Study:
        other = self.protocol.evaluate_on
        if other is not None and other.spec().identity() == self.data.spec().identity():
            raise BadRequest(
                "protocol.evaluate_on must not be the images of data: name others, or remove it for the "
                "other half of the classes"
            )
        return self

    @property
    def tuning_data(self) -> DataSpec:
        """The images of the search."""
        halves = self.protocol.select_on == "gtep" and self.protocol.evaluate_on is None
        return self.data.spec("tune" if halves else None)

    @property
    def judging_data(self) -> DataSpec:
        """The images on which selected trials are judged."""
        if self.protocol.evaluate_on is not None:
            return self.protocol.evaluate_on.spec()
        return self.data.spec("evaluate" if self.protocol.select_on == "gtep" else None)

    def specs(self) -> list[ScenarioSpec]:
        """Return the scenarios in the study's order, with grids expanded."""
        return scenarios_of(self.scenarios)

    def on(self, classes: int) -> Study:
        """Return the study for so many classes: grids are expanded, and equal splits of a grid count once.

        Raises BadRequest where a combination does not fit.
        """
        specs = scenarios_of(self.scenarios, classes)
        return self.model_copy(update={"scenarios": [spec.to_dict() for spec in specs]})

    def left_to_chf(self, label: str, hyperparameter: str) -> bool:
        """Return true if chf chooses a hyperparameter task by task, as it does unless the study fixes it."""
        said = self.methods[label].hp
        chf = self.protocol.select_on == "chf"
        return chf and (hyperparameter not in said or isinstance(said[hyperparameter], Mapping))

    def with_trials(self, trials: int) -> Study:
        """Return the study with another number of trials for each cell."""
        if not 1 <= trials <= MOST_TRIALS:
            raise BadRequest(
                f"search.trials must lie in [1, {MOST_TRIALS}], not {trials}: take a number in it"
            )
        return self.model_copy(update={"search": self.search.model_copy(update={"trials": trials})})

    def with_protocol(self, keys: Mapping[str, Any]) -> Study:
        """Return the study with other values of some keys of its protocol, which are not checked again."""
        return self.model_copy(update={"protocol": self.protocol.model_copy(update=keys)})

    def to_plain(self) -> dict[str, Any]:
        """Return the study as a study file writes it, with every default."""
        out = self.model_dump()
        for entry in out["methods"].values():
            if not entry["recipe"]:
                del entry["recipe"]
        out["scenarios"] = [spec.to_dict() for spec in self.specs()]
        return out

    def fixed_part(self) -> dict[str, Any]:
        """Return what may not change when a run folder is continued, as dotted key -> value."""
        plain = self.to_plain()
        plain["data"] = {k: v for k, v in plain["data"].items() if k not in ("root", "download")}
        plain["search"].pop("trials")
        plain["protocol"] = self.protocol.fixed()
        return flat({key: plain[key] for key in ("data", "recipe", "search", "protocol")})


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as dotted key -> value."""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            out.update(flat(inner, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = inner
    return out


def _by_name(names: list[Any]) -> dict[str, None]:
    """Return a list of methods as labels without settings. Raises BadRequest."""
    for name in names:
        if not isinstance(name, str):
            raise BadRequest(
                "methods must be a list of names or a mapping by label, but the list holds "
                f"{name!r}: write it as label: {{method: name}}"
            )
        if names.count(name) > 1:
            raise BadRequest(
                f"methods names {name!r} twice: give each its own label, as in {{a: {{method: {name}}}}}"
            )
    return dict.fromkeys(names)


def _checked_name(what: str, value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        own = (
            f": write mine: {{method: {value!r}}}" if what == "label" and ":" in str(value) else ": rename it"
        )
        raise BadRequest(
            f"a {what} must begin with a letter or digit and have only letters, digits, '.', '_' and '-', "
            f"not {value!r}{own}"
        )
    return value

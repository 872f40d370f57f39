"""How each cell is searched, as a study file says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cl_core.errors import BadRequest, unknown
from cl_core.metrics import OBJECTIVES
from spaces.study.part import Part
from spaces.study.strategies import LEARNING, SAMPLERS, STOPPERS, arguments, described

MOST_TRIALS = 1_000_000  # a cell; beyond it stands a slip of the hand, not a search


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

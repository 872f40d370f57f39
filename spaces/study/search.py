"""The part of a study file that says how each cell is searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cl_core.errors import BadRequest, unknown
from cl_core.metrics import OBJECTIVES
from spaces.study.part import Part
from spaces.study.strategies import LEARNING, SAMPLERS, STOPPERS, arguments

MOST_TRIALS = 1_000_000  # of a cell; a larger number is a typing error


class SearchPart(Part):
    """The search of each cell: sampler, objectives, stopper."""

    sampler: Literal["random", "grid", "tpe", "gp", "nsga2"] = Field(
        default="tpe", description="what proposes the values of each trial"
    )
    sampler_args: dict[str, Any] = Field(
        default={}, description="arguments of the sampler; all defaults are stored"
    )
    trials: int = Field(default=20, ge=1, le=MOST_TRIALS, description="number of trials of each cell")
    seed: int = Field(
        default=0, ge=0, description="seed of the sampler; `protocol.seeds` sets the training seeds"
    )
    objective: dict[str, Literal["max", "min"]] = Field(
        default={"average_incremental_accuracy": "max"},
        min_length=1,
        description="metric or cost: max or min; several give a Pareto front, the first one ranks",
    )
    stopper: Literal["none", "asha", "hyperband", "median", "wilcoxon"] = Field(
        default="none",
        description="rule that stops trials with a low accuracy over their increments, from the end of "
        "their second task on; wilcoxon compares trials over class orders",
    )
    stopper_args: dict[str, Any] = Field(
        default={}, description="arguments of the stopper; all defaults are stored"
    )
    audit: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the trials to be stopped that still run to their end, to check the stopper",
    )
    reuse: bool = Field(
        default=False,
        description="true: what several trials train alike is trained once, and every trained network is "
        "also evaluated with the other values of what only answers, as further trials",
    )
    start_from: list[str] = Field(
        default=["paper"],
        description="paper: the first trial has the published defaults; a run folder: the sampler learns "
        "from its trials; [] for neither",
    )

    @model_validator(mode="before")
    @classmethod
    def _all_arguments(cls, value: object) -> object:
        """Fill in every argument of sampler and stopper, so that all are stored."""
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
                    f"search.start_from must list paper and other run folders, each once, not {value!r}: "
                    "remove empty and repeated entries"
                )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> SearchPart:
        if self.audit and self.stopper == "none":
            raise BadRequest(
                f"search.audit {self.audit:g} needs a stopper, but search.stopper is none: choose one, or "
                "remove audit"
            )
        if self.sources and self.sampler not in LEARNING:
            raise BadRequest(
                f"search.start_from {self.sources[0]} needs a sampler that learns, but search.sampler is "
                f"{self.sampler}: take {' or '.join(LEARNING)}, or remove the folder"
            )
        return self

    @property
    def sources(self) -> list[str]:
        """The other run folders that the sampler learns from."""
        return [start for start in self.start_from if start != "paper"]

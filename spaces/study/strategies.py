"""What samplers and stoppers may be told, and which spaces and protocols each can do.

A study stores every argument with its value, also those that nobody gave: a default of Optuna's that changes
with its next version changes no study. Names are Optuna's where it has the argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError

from cl_core.errors import BadRequest, unknown
from spaces.space.space import Space
from spaces.study.messages import one_line
from spaces.study.part import Part

LEARNING = ("tpe", "gp")  # samplers that learn from trials which another run told


class NoArgs(Part):
    """There is nothing to tell it."""


class TpeArgs(Part):
    """The tree-structured Parzen estimator. Stopped trials rank below completed ones."""

    n_startup_trials: int = Field(default=10, ge=0, description="random configurations before it learns")
    n_ei_candidates: int = Field(default=24, ge=1, description="candidates an ask")
    multivariate: bool = Field(default=True, description="all hyperparameters of a branch at once")
    group: bool = Field(default=True, description="one model a branch of a conditional space")
    constant_liar: bool = Field(default=True, description="keep away from what is under way")


class GpArgs(Part):
    """A Gaussian process. It learns from completed trials alone."""

    n_startup_trials: int = Field(default=10, ge=0, description="random configurations before it learns")
    deterministic_objective: bool = Field(default=False, description="no noise in the objective")


class Nsga2Args(Part):
    """A genetic algorithm. It learns from completed trials alone."""

    population_size: int = Field(default=10, ge=2, description="configurations a generation")
    crossover_prob: float = Field(default=0.9, ge=0, le=1, description="of two parents, else a copy of one")
    swapping_prob: float = Field(default=0.5, ge=0, le=1, description="of a value from the other parent")
    mutation_prob: float | None = Field(
        default=None, ge=0, le=1, description="of a value drawn anew; left out, one over the number of values"
    )


class HalvingArgs(Part):
    """Successive halving, and hyperband over several of it."""

    reduction_factor: int = Field(default=3, ge=2, description="one in so many goes on at a rung")
    gentle: bool = Field(
        default=True,
        description="after one increment of many only the last are stopped, and more at the next rung",
    )


class MedianArgs(Part):
    """Worse than the median of completed trials at the same task."""

    n_startup_trials: int = Field(default=5, ge=1, description="completed trials before it stops any")


class RaceArgs(Part):
    """A one-sided Wilcoxon test against the best configuration over the class orders that both have seen."""

    p_threshold: float = Field(default=0.1, gt=0, lt=1, description="stop below this p")


SAMPLERS: dict[str, type[Part]] = {
    "random": NoArgs,
    "grid": NoArgs,
    "tpe": TpeArgs,
    "gp": GpArgs,
    "nsga2": Nsga2Args,
}
STOPPERS: dict[str, type[Part]] = {
    "none": NoArgs,
    "asha": HalvingArgs,
    "hyperband": HalvingArgs,
    "median": MedianArgs,
    "wilcoxon": RaceArgs,
}


def arguments(key: str, name: str, model: type[Part], given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a sampler or stopper, by `given` over its defaults.

    Raises BadRequest for an argument that it does not take, and for a value out of range.
    """
    for argument in given:
        if argument not in model.model_fields:
            raise unknown(f"argument of {name} in {key}", argument, model.model_fields)
    try:
        out = model.model_validate(dict(given)).model_dump()
    except ValidationError as error:
        raise BadRequest(f"{key}.{one_line(error)}") from None
    if out.get("group") and not out["multivariate"]:
        raise BadRequest(f"{key}.group needs multivariate: set group to false as well")
    return out


def described(known: Mapping[str, type[Part]]) -> str:
    """Every argument with its default, as `describe study` prints it."""
    parts = [
        f"{name}: " + ", ".join(f"{key} {field.default}" for key, field in model.model_fields.items())
        for name, model in known.items()
        if model.model_fields
    ]
    return "; ".join(parts)


def check_sampler(sampler: str, space: Space) -> None:
    """Raise BadRequest where a sampler cannot do a space."""
    if sampler == "grid":
        space.points()
    if sampler == "gp" and space.conditional:
        raise BadRequest(
            f"search.sampler gp needs a space without branches, but {space.conditional[0]} acts only in one: "
            "fix the choice it hangs on, or use tpe"
        )


OF_INCREMENTS = (
    "average_incremental_accuracy_without_first",
    "forgetting",
    "backward_transfer",
    "old_new_gap",
)
"""Objectives that a single task leaves undefined."""


def check_objectives(objectives: Iterable[str], scenario: str, tasks: int) -> None:
    """Raise BadRequest where an objective would be no number at the end of every run."""
    for name in objectives:
        if tasks == 1 and name in OF_INCREMENTS:
            raise BadRequest(
                f"search.objective {name} needs a second task, but scenario {scenario} has one: use "
                "last_accuracy, or split the classes"
            )


def check_stopper(stopper: str, args: Mapping[str, Any], scenario: str, tasks: int, orders: int) -> None:
    """Raise BadRequest where a stopper could never stop anything."""
    if stopper == "none":
        return
    if tasks == 1:
        raise BadRequest(
            f"search.stopper {stopper} compares trials after their second task, but scenario "
            f"{scenario} has one task: set search.stopper to none"
        )
    if stopper == "wilcoxon":
        # The smallest p of n pairs is 2^-n; one more order is what a stop saves.
        least = math.floor(-math.log2(args["p_threshold"])) + 2
        if orders < least:
            raise BadRequest(
                f"search.stopper wilcoxon compares class orders, and at p_threshold {args['p_threshold']:g} "
                f"stops nothing with fewer than {least}, but protocol.orders is {orders}: set it to {least} "
                "or more"
            )

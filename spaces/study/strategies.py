"""Arguments of samplers and stoppers, and the spaces and protocols that each can handle.

A study stores every argument with its value. So a default that changes in a later version of Optuna changes
no study. Names are Optuna's where it has the argument.
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

LEARNING = ("tpe", "gp")  # samplers that can learn from the trials of another run folder


class NoArgs(Part):
    """No arguments."""


class TpeArgs(Part):
    """The tree-structured Parzen estimator. Stopped trials rank below completed ones."""

    n_startup_trials: int = Field(default=10, ge=0, description="random trials at the start")
    n_ei_candidates: int = Field(default=24, ge=1, description="candidates for each trial")
    multivariate: bool = Field(default=True, description="model all hyperparameters of a branch together")
    group: bool = Field(default=True, description="one model for each branch; needs multivariate")
    constant_liar: bool = Field(default=True, description="avoid the values of running trials")


class GpArgs(Part):
    """A Gaussian process. It learns from completed trials alone."""

    n_startup_trials: int = Field(default=10, ge=0, description="random trials at the start")
    deterministic_objective: bool = Field(default=False, description="assume an objective without noise")


class Nsga2Args(Part):
    """A genetic algorithm. It learns from completed trials alone."""

    population_size: int = Field(default=10, ge=2, description="trials in a generation")
    crossover_prob: float = Field(
        default=0.9, ge=0, le=1, description="probability of two parents; otherwise one is copied"
    )
    swapping_prob: float = Field(
        default=0.5, ge=0, le=1, description="probability that a value comes from the other parent"
    )
    mutation_prob: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="probability of a new random value; by default 1 / number of values",
    )


class HalvingArgs(Part):
    """Successive halving, and hyperband, which runs several halvings."""

    reduction_factor: int = Field(default=3, ge=2, description="at a rung, 1 in this many trials continues")
    gentle: bool = Field(
        default=True,
        description="stop only the worst trials after the first of many increments, and more at later rungs",
    )


class MedianArgs(Part):
    """Stop a trial below the median of completed trials at the same task."""

    n_startup_trials: int = Field(default=5, ge=1, description="completed trials before the first stop")


class RaceArgs(Part):
    """A one-sided Wilcoxon test against a good completed trial, over the class orders that have ended."""

    p_threshold: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="most often that a trial no worse than the others is stopped, over all its class orders",
    )


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
    """Return all arguments of a sampler or stopper: its defaults, replaced by those in `given`.

    Raises BadRequest for an unknown argument, and for a value out of range.
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


def check_sampler(sampler: str, space: Space) -> None:
    """Raise BadRequest where a sampler cannot handle a space."""
    if sampler == "grid":
        space.points()
    if sampler == "gp" and space.conditional:
        raise BadRequest(
            f"search.sampler gp needs a space without branches, but {space.conditional[0]} acts only in one: "
            "fix the choice that it depends on, or use tpe"
        )


OF_INCREMENTS = (
    "average_incremental_accuracy_without_first",
    "forgetting",
    "backward_transfer",
    "old_new_gap",
)
"""Objectives that are undefined for a single task."""


def check_objectives(objectives: Iterable[str], scenario: str, tasks: int) -> None:
    """Raise BadRequest where an objective is undefined, because the scenario has one task."""
    for name in objectives:
        if tasks == 1 and name in OF_INCREMENTS:
            raise BadRequest(
                f"search.objective {name} needs a second task, but scenario {scenario} has one: use "
                "last_accuracy, or split the classes"
            )


def check_stopper(stopper: str, args: Mapping[str, Any], scenario: str, tasks: int, orders: int) -> None:
    """Raise BadRequest where a stopper could never stop a trial."""
    if stopper == "none":
        return
    if tasks == 1:
        raise BadRequest(
            f"search.stopper {stopper} compares trials after their second task, but scenario "
            f"{scenario} has one task: set search.stopper to none"
        )
    if stopper == "wilcoxon":
        # The smallest p-value of n pairs is 2^-n. One order more, or a stop would save nothing.
        least = math.floor(-math.log2(args["p_threshold"])) + 2
        if orders < least:
            raise BadRequest(
                f"search.stopper wilcoxon at p_threshold {args['p_threshold']:g} needs {least} class "
                f"orders, but protocol.orders is {orders}: set it to {least} or more"
            )

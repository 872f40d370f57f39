"""The optimisation of a phase: epochs, batch, optimiser, learning rate and its schedule.

Milestones are fractions of the phase's epochs, so `epochs: 2` scales everything. A recipe is resolved in
layers, and later ones win: these defaults, the data set's, the base family's (first task) or the method's
(increments), the study's, the study's for base or increments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cl_core.hparams import Float, Fractions, Int, from_dict, hp, option

PARTS = ("base", "increment")  # keys of a study's recipe for the first task alone and for the others


@dataclass(frozen=True)
class Recipe:
    """The optimisation of one phase. Every field can be searched, for base and increments apart."""

    epochs: int = hp(70, Int(1, 100_000), searched=False, doc="passes over the training rows")
    batch: int = hp(128, Int(1, 65_536), searched=False, doc="images in a step")
    last_batch: str = option(
        "keep",
        "complete",
        "drop",
        doc="rows at the end of an epoch that fill no batch: keep makes a smaller batch (a single row joins "
        "the batch before), complete adds the epoch's first rows again, drop leaves them out",
    )
    optimizer: str = option(
        "sgd", "adam", "adamw", doc="optimiser; adam has coupled L2, adamw decoupled decay"
    )
    lr: float = hp(0.1, Float(1e-7, 100.0, log=True), searched=False, doc="initial learning rate")
    momentum: float = hp(0.9, Float(0.0, 0.999), searched=False, doc="momentum of sgd")
    weight_decay: float = hp(5e-4, Float(0.0, 1.0), searched=False, doc="L2 coefficient")
    schedule: str = option("step", "cosine", "constant", doc="schedule of the learning rate")
    gamma: float = hp(
        0.1, Float(1e-3, 1.0), searched=False, doc="factor at each milestone of the step schedule"
    )
    milestones: str = hp(
        "0.5,0.75",
        Fractions(),
        searched=False,
        doc="of the step schedule, as fractions of the epochs",
    )

    period: float = hp(
        1.0,
        Float(0.01, 1.0),
        searched=False,
        doc="share of the epochs in which the cosine schedule falls to the lowest rate; below 1 the rate "
        "then rises again, as with PRAKA's official T_max of 32 in 100 epochs",
    )

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of a 0-based epoch."""
        if self.schedule == "cosine":
            return 0.5 * self.lr * (1.0 + math.cos(math.pi * epoch / (self.period * self.epochs)))
        if self.schedule == "step":
            # 0.55 * 100 is a hair above 55, which must not delay the milestone by an epoch.
            ends = [math.ceil(float(m) * self.epochs - 1e-9) for m in self.milestones.split(",") if m]
            return self.lr * self.gamma ** sum(epoch >= end for end in ends)
        return self.lr

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def stage(self, share: float, **changes: Any) -> Recipe:
        """The recipe of a further stage: `share` times the epochs, at least one, with some fields changed."""
        return self.replace(epochs=max(1, round(share * self.epochs)), **changes)


def resolve_recipe(*layers: Mapping[str, object]) -> Recipe:
    """Return one recipe from layers of plain values. Later ones win. Raises BadRequest."""
    merged: dict[str, object] = {}
    for layer in layers:
        merged.update(layer)
    return from_dict(Recipe, merged, kind="recipe key")

"""The options of CHF, apart from `cl_core.training.chf`, which needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from cl_core.hparams import Factors, Float, Int, hp, hparams
from cl_core.recipe import Recipe


@dataclass(frozen=True)
class CHF:
    """The options of the framework: the grid of learning rates, the survey's p and alpha, and a limit."""

    lrs: str = hp("0.1,0.3,1,3", Factors(), doc="factors of the learning rate to try")
    drop: float = hp(
        0.2, Float(0.0, 1.0), doc="p: share of the plain accuracy on a new task that stability may cost"
    )
    decay: float = hp(
        0.5, Float(0.01, 0.99), doc="alpha: factor by which each failed attempt relaxes the stability"
    )
    attempts: int = hp(6, Int(1, 1000), doc="most attempts at a task; the last one is kept")

    @property
    def factors(self) -> tuple[float, ...]:
        """The grid."""
        return tuple(float(part) for part in self.lrs.split(","))

    def check(self, recipe: Recipe) -> None:
        """Raise BadRequest where a rate of the grid is none that a recipe may have."""
        domain = hparams(Recipe)["lr"].domain
        for factor in self.factors:
            domain.check(f"chf.lrs: {factor:g} times the learning rate {recipe.lr:g}", factor * recipe.lr)

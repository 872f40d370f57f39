"""The options of CHF, apart from `cl_core.training.chf`, which needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from cl_core.hparams import Factors, Float, Int, hp, hparams
from cl_core.recipe import Recipe


@dataclass(frozen=True)
class CHF:
    """The options of the framework; all but the grid are the survey's p, alpha and a limit of its loop."""

    lrs: str = hp("0.1,0.3,1,3", Factors(), doc="the grid, as factors of the recipe's learning rate")
    drop: float = hp(0.2, Float(0.0, 1.0), doc="p: share of A* that stability may cost")
    decay: float = hp(0.5, Float(0.01, 0.99), doc="alpha: factor on the stability after each failed attempt")
    attempts: int = hp(6, Int(1, 1000), doc="how often the method learns a task at most; the last is kept")

    @property
    def factors(self) -> tuple[float, ...]:
        """The grid."""
        return tuple(float(part) for part in self.lrs.split(","))

    def check(self, recipe: Recipe) -> None:
        """Raise BadRequest where a rate of the grid is none that a recipe may have."""
        domain = hparams(Recipe)["lr"].domain
        for factor in self.factors:
            domain.check(f"chf.lrs: {factor:g} times the learning rate {recipe.lr:g}", factor * recipe.lr)

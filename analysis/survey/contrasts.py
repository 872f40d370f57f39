"""The comparisons behind the claims: sums of measurements, written so that a claim is "above zero".

A measurement is that of a role in a place, by class order, the mean over its seeds; a contrast is taken over
the orders that all of its measurements have. Within a scenario methods are compared by average incremental
accuracy; across scenarios by last accuracy, because averages run over other numbers of classes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from analysis.statistics.intervals import NOTHING, SMALLEST, Mean, Outcomes, reading, too_few
from analysis.statistics.sample import Sample
from analysis.survey.roles import LEVELS, Key, Place, Roles

NAMED_LOSSES = ("cross-entropy", "kl", "logit-l2", "feature-l2", "feature-cosine")
"""The losses that the claims name; others of `LEVELS` join them where a run has them."""

AVERAGE, LAST = "average_incremental_accuracy", "last_accuracy"
ONE_BYTE = 1.0
NOT_MEASURED = "not measured"
WITHIN = {AVERAGE: "", LAST: " (last)", "forgetting": " (forgetting)", "excess_of_new": " (excess of new)"}
METRIC_WORDS = {
    **WITHIN,
    "kept_bytes_a_class": " (bytes a class)",
    "teacher_agreement": " (agreement with the teacher)",
    "plasticity": " (newest task)",
}
"""The words by which a contrast names its metric."""


@dataclass(frozen=True)
class Quantity:
    """A sum of measurements: (weight, place, role, metric)."""

    terms: tuple[tuple[float, Place, Key, str], ...]
    text: str

    def __sub__(self, other: Quantity) -> Quantity:
        minus = tuple((-w, place, key, metric) for w, place, key, metric in other.terms)
        return Quantity(
            self.terms + minus,
            f"{_bracketed(self.text)} − {_bracketed(other.text)}",
        )

    def by(self, metric: str) -> Quantity:
        """The same in another metric."""
        return replace(self, terms=tuple((w, place, key, metric) for w, place, key, _ in self.terms))

    @property
    def metrics(self) -> set[str]:
        """Of its terms."""
        return {metric for *_, metric in self.terms}


@dataclass(frozen=True)
class Contrast:
    """Claimed: `quantity` is above `claimed`; below -`smallest` contradicts. `extra` ones decide nothing."""

    quantity: Quantity
    claimed: float = SMALLEST
    smallest: float = SMALLEST
    extra: str = ""  # why it is shown all the same

    @property
    def text(self) -> str:
        """As the report names it."""
        (metric,) = self.quantity.metrics if len(self.quantity.metrics) == 1 else ("",)
        scenarios = list(dict.fromkeys(place.scenario for _, place, *_ in self.quantity.terms))
        where = f", {scenarios[0]}" if len(scenarios) == 1 else ""
        return f"{self.quantity.text}{METRIC_WORDS.get(metric, '')}{where}"


@dataclass(frozen=True)
class Part:
    """Contrasts of which all must hold, or `most`, that is more than half; `lack` says why there are none.

    A `condition` must be equivalent to zero, or the claim is not measured.
    """

    contrasts: Sequence[Contrast]
    lack: str
    most: bool = False
    condition: bool = False


@dataclass(frozen=True)
class Shown:
    """The result of a contrast, in the claimed direction, without any correction."""

    contrast: Contrast
    sample: Sample
    missing: list[str]
    last: Mean | None  # the same in last accuracy, where that is another thing

    @property
    def difference(self) -> Mean:
        """Over the matched class orders."""
        return self.sample.mean

    @property
    def outcomes(self) -> Outcomes:
        """p-values."""
        contrast = self.contrast
        return NOTHING if self.missing else self.sample.outcomes(contrast.claimed, contrast.smallest)

    @property
    def said(self) -> str:
        """The difference with its sign and half width."""
        return signed(self.difference, 0 if self.contrast.smallest >= 1 else 3)

    @property
    def verdict(self) -> str:
        """Of the plain 95 % interval."""
        return NOT_MEASURED if self.missing else too_few(len(self.sample)) or reading(self.outcomes)


def signed(value: Mean, digits: int = 3) -> str:
    """A difference as the report writes it."""
    if value.value is None:
        return "–"
    half = "" if value.half is None else f" ± {value.half:,.{digits}f}"
    return f"{value.value:+,.{digits}f}{half}".replace("-", "−")


class Column:
    """A data set under one recipe: its scenarios, and what was measured there."""

    def __init__(self, roles: Roles, data: str, recipe: str) -> None:
        self.roles, self.data, self.recipe = roles, data, recipe
        self._places = [p for p in roles.places if (p.data, p.recipe) == (data, recipe)]

    def scenarios(self, base: bool | None = None) -> list[Place]:
        """Those with a larger first task (True), without (False), or both (None)."""
        known = [p for p in self._places if p.base is not None]
        return [p for p in known if base is None or p.base == base]

    def across(self) -> list[tuple[Place, Place]]:
        """Every pair of a scenario with a base task and one without."""
        return [(a, b) for a in self.scenarios(True) for b in self.scenarios(False)]

    def losses(self, place: Place, kind: str, scope: str, levels: Iterable[str]) -> list[str]:
        """The losses that claims name, and those that are measured there."""
        return [
            loss
            for level in levels
            for loss in LEVELS[level]
            if loss in NAMED_LOSSES or self.roles.find(place, (kind, loss, scope))
        ]

    def forms(self, place: Place, method: str) -> list[str]:
        """The ways in which distillation was taken away, the first one even where there is none."""
        return [key[2] for key in self.roles.keys(place, "without") if key[1] == method] or ["0"]

    def show(self, contrast: Contrast) -> Shown:
        """Measure a contrast."""
        sample, missing = self._sample(contrast.quantity)
        last = None
        if not missing and contrast.quantity.metrics <= {AVERAGE, "forgetting"}:
            last = self._sample(contrast.quantity.by(LAST))[0].mean
        return Shown(contrast, sample, missing, last)

    def _sample(self, quantity: Quantity) -> tuple[Sample, list[str]]:
        """The quantity by class order, over the orders that all terms have; and what there is not."""
        found, missing = [], []
        for (place, key, metric), weight in _collected(quantity).items():
            subject = self.roles.find(place, key)
            sample = self.roles.sample(subject, metric) if subject else Sample({}, {})
            if subject is None:
                missing.append(f"{_role(key)} in {place.scenario}")
            elif not len(sample):
                missing.append(f"{metric.replace('_', ' ')} of {_role(key)}")
            found.append(weight * sample)
        if missing:
            return Sample({}, {}), list(dict.fromkeys(missing))
        total = functools.reduce(Sample.__add__, found)
        return total, [] if len(total) else ["a class order that all of these have"]


def _collected(quantity: Quantity) -> dict[tuple[Place, Key, str], float]:
    """Measurement -> weight. One that stands in two terms is one and the same, and errs once."""
    out: dict[tuple[Place, Key, str], float] = {}
    for weight, *term in quantity.terms:
        measurement = cast("tuple[Place, Key, str]", tuple(term))
        out[measurement] = out.get(measurement, 0.0) + weight
    return out


def _role(key: Key) -> str:
    """A role as the report names it."""
    kind, name, *rest = key
    if kind == "without":
        return f"{name} without distillation"
    if kind == "with":
        return name
    if kind in ("loss", "replay"):
        return f"{'distill' if kind == 'loss' else 'replay'} with loss {name} ({rest[0]})"
    return name


def _bracketed(text: str) -> str:
    return f"({text})" if " − " in text else text

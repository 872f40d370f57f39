"""The registry of the survey's claims, and the measurements that they compare.

Source: "Continual Learning With Knowledge Distillation: A Survey" (TNNLS 2024), in the words of a Chinese
article on it. Its training recipe is not known, so a verdict is a conceptual replication, for the data set
that it was measured on. `analysis.survey.verdict` decides.

A claim is a conjunction of parts, a part a list of contrasts of which all, or most, must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.statistics.intervals import SMALLEST
from analysis.survey.contrasts import AVERAGE, Column, Contrast, Part, Quantity
from analysis.survey.roles import Place

NO_BASE = "a scenario without a base task"
WITH_BASE = "a scenario with a base task"
BOTH = "a scenario with and one without a base task"
ANY = "a scenario of two tasks or more"


@dataclass(frozen=True)
class Claim:
    """One sentence of the survey; `everywhere` where it speaks of all data sets, or says always."""

    id: str
    table: str  # methods | distillation | losses | replay: of whose claims Holm's family is made
    sentence: str
    english: str
    contrast: str
    parts: Callable[[Column], list[Part]]
    everywhere: bool = False


Parts = Callable[[Column], list[Part]]


def claim(
    id: str, table: str, sentence: str, english: str, contrast: str, everywhere: bool = False
) -> Callable[[Parts], Claim]:
    """Make a claim of the function below, which gives the parts to compare."""

    def made(parts: Parts) -> Claim:
        return Claim(id, table, sentence, english, contrast, parts, everywhere)

    return made


def part(
    quantities: Iterable[Quantity],
    lack: str,
    claimed: float = SMALLEST,
    smallest: float = SMALLEST,
    *,
    most: bool = False,
    condition: bool = False,
) -> Part:
    """Make a part: each quantity above `claimed`; `lack` says what is missing if there are none."""
    return Part([Contrast(q, claimed, smallest) for q in quantities], lack, most, condition)


def of_method(s: Place, name: str, metric: str = AVERAGE) -> Quantity:
    return Quantity(((1.0, s, ("method", name), metric),), name)


def of_group(s: Place, names: Sequence[str], text: str, metric: str = AVERAGE) -> Quantity:
    """The mean over methods, each weighing the same."""
    terms = tuple((1.0 / len(names), s, ("method", name), metric) for name in names)
    return Quantity(terms, f"mean of {text}")


def of_loss(s: Place, kind: str, loss: str, scope: str, metric: str = AVERAGE) -> Quantity:
    return Quantity(((1.0, s, (kind, loss, scope), metric),), loss)


def of_gain(s: Place, kind: str, loss: str, scope: str, where: str = "", metric: str = AVERAGE) -> Quantity:
    """The gain of a loss over none."""
    found = of_loss(s, kind, loss, scope, metric) - of_loss(s, kind, "none", scope, metric)
    return replace(found, text=f"{found.text} [{where}]" if where else found.text)


def named_at(quantity: Quantity, s: Place) -> Quantity:
    return replace(quantity, text=f"{quantity.text} [{s.scenario}]")

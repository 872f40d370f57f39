"""The table of published figures that `run` and `evaluate` end with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from analysis import open_results
from analysis.comparison.published import WITHOUT_FIGURES, Compared, compare_published, deviating
from search.display.named_table import named_table

HEAD = ("cell", "metric", "classifier", "published", "measured", "n", "difference", "range")
BRIEF = {
    "average_incremental_accuracy": "average",
    "average_incremental_accuracy_without_first": "average without first",
}


@dataclass(frozen=True)
class Beside:
    """Published figures and the study's, as a table with lines below it; n is the number of class orders."""

    rows: Sequence[Sequence[str]]
    lines: Sequence[str]

    def shown(self, room: int) -> Iterator[RenderableType]:
        """Yield heading, table and lines, `room` characters wide."""
        yield Text("published figures and those of this study, on test rows:")
        if self.rows:
            yield named_table(HEAD, self.rows, room)
        for line in self.lines:
            yield Text(line)


def published(folder: Path) -> Beside | None:
    """Return the published figures of a run folder beside its own; None where its study names none."""
    results = open_results(folder)
    known = results.study.published
    if known is None:
        return None
    rows = compare_published(results)
    lines = [deviating(known)] if known.differs else []
    return Beside([_row(one) for one in rows], lines if rows else [WITHOUT_FIGURES, *lines])


def _row(one: Compared) -> list[str]:
    figure, mean = one.figure, one.measured
    name = BRIEF.get(figure.metric, figure.metric.replace("_", " "))
    return [
        one.cell or "@".join(filter(None, (figure.label, figure.scenario))) or "-",
        name,
        figure.classifier or "",
        _number(figure.value, figure.spread),
        "-" if mean.value is None else _number(mean.value, mean.half),
        str(mean.n) if mean.n else "-",
        "-" if one.difference is None else f"{one.difference:+.3f}",
        one.verdict,
    ]


def _number(value: float, half: float | None) -> str:
    return f"{value:.3f}" + ("" if half is None else f" ± {half:.3f}")

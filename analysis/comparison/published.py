"""Published figures beside those of a study: difference, and whether it lies in the published range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analysis.lake.results import Results
from analysis.lake.study import Figure, PublishedRecord
from analysis.selection.selection import Cell, cells
from analysis.statistics.intervals import Mean
from analysis.statistics.sample import Sample, measured

OTHER_SETTING = "other setting"
NO_RANGE = "no range published"
IN_RANGE, OUTSIDE = "in the range", "outside"
UNMEASURED = "not measured"
WITHOUT_FIGURES = "No published figure is recorded for this setting."
NONE = Mean(None, None, 0)


@dataclass(frozen=True)
class Compared:
    """One published figure beside the study's, on test rows."""

    figure: Figure
    cell: str  # empty where the study has none for it
    measured: Mean
    differs: bool  # the study's setting is another than the published one

    @property
    def difference(self) -> float | None:
        """Measured minus published; None where nothing was measured."""
        return None if self.measured.value is None else self.measured.value - self.figure.value

    @property
    def verdict(self) -> str:
        """The place of the measured value in the published range."""
        if self.difference is None:
            return UNMEASURED
        if self.differs:
            return OTHER_SETTING
        if self.figure.spread is None:
            return NO_RANGE
        return IN_RANGE if abs(self.difference) <= self.figure.spread else OUTSIDE


def compare_published(results: Results) -> list[Compared]:
    """Return every published figure of the study beside the cells it belongs to, in the study's order."""
    known = results.study.published
    return [] if known is None else list(_compared(results, known))


def deviating(known: PublishedRecord) -> str:
    """Return a sentence on what differs from the published setting; empty where nothing does."""
    if not known.differs:
        return ""
    return f"Not the published setting, so no figure can be judged: {'; '.join(known.differs)}."


def _compared(results: Results, known: PublishedRecord) -> Iterator[Compared]:
    for figure in known.figures:
        mine = [cell for cell in cells(results) if _belongs(figure, cell)]
        for cell in mine:
            yield Compared(figure, cell.name, _value(results, cell, figure), bool(known.differs))
        if not mine:
            yield Compared(figure, "", NONE, bool(known.differs))


def _belongs(figure: Figure, cell: Cell) -> bool:
    return figure.scenario in (None, cell.scenario) and figure.label in (None, cell.label)


def _value(results: Results, cell: Cell, figure: Figure) -> Mean:
    """The mean over class orders of the cell's runs on test rows; nothing where they have none."""
    runs = cell.final if len(cell.final) else cell.best
    for run in runs["run"]:
        rules = results.classifiers(run, "test")
        if not rules or figure.classifier not in (None, *rules):
            return NONE
    return Sample.of(measured(results, runs, "test", classifier=figure.classifier)[figure.metric]).mean

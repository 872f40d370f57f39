"""The section that a view returns, and the registry of views.

A view is a function `(results) -> Section` in a file of `analysis/views`, one question a file:

    @VIEWS.register("leaderboard")
    def leaderboard(results: Results) -> Section: ...
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from cl_core.registry import Registry

ROWS = {"val": "validation rows", "test": "test rows"}


@dataclass(frozen=True)
class Table:
    """A further table of a section, below its title.

    A frame whose columns have two levels is shown with two header rows, and its first column stays in sight
    when the table scrolls; columns of descriptions have an empty upper level. A line is drawn where the
    value of column `group` changes; the columns of `heading` are then written across the whole table.
    """

    title: str
    frame: pd.DataFrame
    text: str = ""
    group: str = "scenario"
    heading: tuple[str, ...] = ()
    folded: bool = False  # only the title is shown until it is clicked


@dataclass(frozen=True)
class Section:
    """One question of the report and its answer.

    The page shows the question, the answer, the figure, the table, and then how it was measured: text,
    formulas and n. `title` is the short name in the navigation, and the heading where there is no `question`.
    `answer` is one sentence with its numbers. `text` holds paragraphs, apart by an empty line; one that
    begins with "Warning:" stands out. A table column named `x ±` is shown in column `x` as its half width.
    Numbers in the table stay numbers; the report formats them. Columns `scenario`, `label` and `classifier`
    obey the filters of the page. A section that is `optional` is left out where it has nothing but text.
    """

    title: str
    text: str
    formulas: list[str] = field(default_factory=list)
    n: str = ""
    table: pd.DataFrame | None = None
    figure: go.Figure | None = None
    tables: Sequence[Table] = ()
    optional: bool = False
    split: str = ""  # val or test: the rows behind all of its numbers; empty where they come from no rows
    question: str = ""
    answer: str = ""

    @property
    def heading(self) -> str:
        """The question, or the title where there is none."""
        return self.question or self.title

    @property
    def rows(self) -> str:
        """The rows that the section is about, in words; empty where its numbers come from no rows."""
        return ROWS[self.split] if self.split and not self.bare else ""

    @property
    def warnings(self) -> list[str]:
        """The paragraphs of the text that begin with "Warning:"."""
        return [text for text in self._all if text.startswith("Warning:")]

    @property
    def paragraphs(self) -> list[str]:
        """The other paragraphs of the text."""
        return [text for text in self._all if not text.startswith("Warning:")]

    @property
    def _all(self) -> list[str]:
        return [text for text in re.split(r"\n\s*\n", self.text.strip()) if text]

    @property
    def bare(self) -> bool:
        """Tell whether there is nothing but text."""
        return self.figure is None and self.table is None and not self.tables


def _fault(item: object) -> str | None:
    if not callable(item):
        return f"must be a function, not {type(item).__name__}"
    try:
        inspect.signature(item).bind("results")
    except (TypeError, ValueError):
        return "must be a function of the results alone"
    return None


VIEWS: Registry[Callable[[Results], Section]] = Registry("view", "analysis.views", _fault)

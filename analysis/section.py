"""What a view gives, and the registry of views.

A view is a function `(results) -> Section` in a file of `analysis/views`, one question a file:

    @VIEWS.register("leaderboard")
    def leaderboard(results: Results) -> Section: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from analysis.load import Results
from cl_core.registry import Registry


@dataclass(frozen=True)
class Section:
    """One part of the report.

    `text` holds paragraphs, apart by an empty line. A table column named `x ±` is shown in column `x` as its
    half width. Numbers in the table stay numbers; the report formats them.
    """

    title: str
    text: str
    formulas: list[str] = field(default_factory=list)
    n: str = ""
    table: pd.DataFrame | None = None
    figure: go.Figure | None = None


VIEWS: Registry[Callable[[Results], Section]] = Registry("view", "analysis.views")

"""The results of a study: its Parquet tables as frames, comparisons, statistics, views and a report.

from analysis import open_results
open_results("runs/quickstart").runs
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison.comparison import Paired, compare
    from analysis.comparison.equality import Comparison, equal
    from analysis.lake.open import open_results
    from analysis.lake.relation import Relation
    from analysis.lake.results import Results
    from analysis.paper.export import export_paper
    from analysis.report.page import write_report

__all__ = [
    "Comparison",
    "Paired",
    "Relation",
    "Results",
    "compare",
    "equal",
    "export_paper",
    "open_results",
    "write_report",
]

_HOME = {
    "Comparison": "analysis.comparison.equality",
    "Paired": "analysis.comparison.comparison",
    "Relation": "analysis.lake.relation",
    "Results": "analysis.lake.results",
    "compare": "analysis.comparison.comparison",
    "equal": "analysis.comparison.equality",
    "export_paper": "analysis.paper.export",
    "open_results": "analysis.lake.open",
    "write_report": "analysis.report.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]

"""What came out of a study: its Parquet tables as frames, comparisons, statistics, views and a report.

from analysis import open_results
open_results("runs/quickstart").trials
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison import Paired, compare
    from analysis.equality import Comparison, equal
    from analysis.load import Results, open_results
    from analysis.report import write_report

__all__ = ["Comparison", "Paired", "Results", "compare", "equal", "open_results", "write_report"]

_HOME = {
    "Comparison": "analysis.equality",
    "Paired": "analysis.comparison",
    "Results": "analysis.load",
    "compare": "analysis.comparison",
    "equal": "analysis.equality",
    "open_results": "analysis.load",
    "write_report": "analysis.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)

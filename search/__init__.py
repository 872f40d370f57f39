"""The search of a study. Names are imported at their first use; no other package imports this one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.commands.run import run_study

_HOME = {"run_study": "search.commands.run"}

__all__ = ["run_study"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)

"""Study files and search spaces: read a study, resolve it on its data. Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.resolved.resolve import resolve
    from spaces.resolved.study import ResolvedStudy
    from spaces.space.method_space import space_of
    from spaces.space.space import Space
    from spaces.study.study import Study
    from spaces.study.study_file import load_study

_HOME = {
    "Space": "spaces.space.space",
    "space_of": "spaces.space.method_space",
    "Study": "spaces.study.study",
    "ResolvedStudy": "spaces.resolved.study",
    "load_study": "spaces.study.study_file",
    "resolve": "spaces.resolved.resolve",
}

__all__ = ["ResolvedStudy", "Space", "Study", "load_study", "resolve", "space_of"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'spaces' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)

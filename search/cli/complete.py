"""Completion in the shell: presets, methods, kinds of parts, run folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cl_core
from analysis.lake.run_folder import STUDY
from spaces import presets

KINDS = ("methods", "datasets", "nets", "scenarios", "presets", "views")


def studies(incomplete: str) -> list[str]:
    """Return presets and study files."""
    return _of([*presets.names(), *map(str, Path().glob("*.yaml"))], incomplete)


def described(incomplete: str) -> list[str]:
    """Return the names that `describe` takes."""
    return _of([*methods(""), *presets.names(), "study"], incomplete)


def methods(incomplete: str) -> list[str]:
    """Return the methods' names: those of their files, without the underscore that `pass` needs there."""
    files = (Path(cl_core.__file__).parent / "methods").glob("[!_]*.py")
    return _of((path.stem.removesuffix("_") for path in files), incomplete)


def kinds(incomplete: str) -> list[str]:
    """Return the kinds that `list` takes."""
    return _of(KINDS, incomplete)


def runs(incomplete: str) -> list[str]:
    """Return run folders: those below the folder typed so far, and below runs/."""
    above = Path(incomplete or ".")
    places = [above if incomplete.endswith("/") else above.parent, Path("runs")]
    found = {str(path.parent) for place in places for path in place.glob(f"*/{STUDY}")}
    return _of(found, incomplete)


def _of(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))

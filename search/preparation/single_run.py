"""The folder of a single run: which run it was made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis.lake.run_folder import STUDY
from cl_core.aside import aside
from cl_core.errors import BadRequest, named_line
from spaces.resolved.run_spec import RunSpec

SPEC = "run.json"  # in the folder of a single run: its RunSpec


def check_own(out: Path, spec: RunSpec) -> None:
    """Raise BadRequest when `out` holds another run or a study: tables must not be mixed."""
    if (out / STUDY).exists():
        raise BadRequest(f"{out} holds a study: give `train` a folder of its own")
    if (out / SPEC).exists():
        if _identity(asked_of(out)) != _identity(spec):
            raise BadRequest(f"{out} holds another run: name an empty folder")
    elif out.exists() and (strange := sorted(p.name for p in out.iterdir() if not p.name.startswith("."))):
        raise BadRequest(f"{out} holds {strange[0]!r} and no {SPEC}: name an empty folder")


def asked_of(folder: Path) -> RunSpec:
    """Return the run that a single run's folder was made for. Raises BadRequest where it is not readable."""
    try:
        return RunSpec.from_dict(_read_json(folder / SPEC))
    except (KeyError, TypeError) as error:
        raise BadRequest(f"{folder / SPEC} is damaged ({named_line(error)}): name another folder") from error


def _identity(spec: RunSpec) -> dict[str, Any]:
    plain_values: dict[str, Any] = json.loads(json.dumps(spec.to_dict()))
    return plain_values


def write_spec(folder: Path, spec: RunSpec) -> None:
    """Note in a single run's folder which run it was made for."""
    with aside(folder / SPEC) as hidden:
        hidden.write_text(json.dumps(_identity(spec), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"cannot read {path}: {error}; name another folder") from error
    if not isinstance(value, dict):
        raise BadRequest(f"{path} must hold an object; name another folder")
    return value

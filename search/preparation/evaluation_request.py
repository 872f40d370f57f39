"""The request of `cl-search evaluate`: a run folder's study with what an evaluation may change, checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.lake.run_folder import STUDY, has_runs
from cl_core.errors import BadRequest
from spaces.study.study import Study
from spaces.study.study_file import RESOLVED, apply_override, existing_study, parse_study, standing_study

CHANGEABLE = (
    "final.",
    "resources.",
    "budget.",
    "data.root",
    "protocol.evaluate_on.root",
    "storage.checkpoints",
)


def evaluation_request(folder: Path, overrides: Sequence[str] = ()) -> Study:
    """Return the folder's study with `overrides`, and without the search's budget.

    Raises BadRequest for what can be known without data, torch and Ray.
    """
    existing = existing_study(folder / STUDY) if folder.is_dir() else None
    if existing is None or not has_runs(folder):
        raise BadRequest(f"evaluate needs a run folder, and {folder} is none: name another")
    standing_study(existing)
    plain = {key: value for key, value in existing.items() if key not in (RESOLVED, "budget")}
    for override in overrides:
        if not override.startswith(CHANGEABLE):
            raise BadRequest(
                f"--set {override!r}: an evaluation may change {', '.join(CHANGEABLE)} alone, since its "
                "trials are fixed: leave it out"
            )
        apply_override(plain, override)
    return parse_study(plain)

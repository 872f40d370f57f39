"""`logs`: the output of a run."""

from __future__ import annotations

from pathlib import Path

from analysis.lake.run_folder import LOGS, log_file
from cl_core.errors import BadRequest
from search.worker.logs import checked_run, named_run


def log_text(folder: Path, run: str) -> str:
    """Return a run's output with its traceback. Raises BadRequest for an unknown run, with the nearest."""
    checked_run(run)
    if not (folder / LOGS).is_dir():
        raise BadRequest(f"{folder} is no run folder: it has no logs; name one such as runs/quickstart")
    known = [p.stem.replace("--", "/") for p in sorted((folder / LOGS).glob("*.log"))]
    return log_file(folder, named_run(run, known)).read_text(encoding="utf-8", errors="replace")

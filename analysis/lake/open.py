"""Open a run folder, or several read as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.lake.results import Results
from analysis.lake.run_folder import STUDY, tables_of
from analysis.lake.several_runs import join
from cl_core.errors import BadRequest


def open_results(folder: str | Path | Results | Sequence[str | Path | Results]) -> Results:
    """The results of a run's folder, or of several read as one (`analysis.lake.several_runs`).

    Raises BadRequest when it is not one.
    """
    if isinstance(folder, Results):
        return folder
    if not isinstance(folder, str | Path):
        return join([open_results(one) for one in folder])
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadRequest(f"no folder {path}: name the folder of a run, such as runs/quickstart")
    if not tables_of(path).is_dir() and not (path / STUDY).exists():
        raise BadRequest(f"{path} is not a run's folder: it has neither study.yaml nor tables/")
    return Results(path)

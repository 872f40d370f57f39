"""The error of verbs that need a completed run, in a folder that has none."""

from __future__ import annotations

import shlex

from analysis import Results
from analysis.lake.amounts import plural
from analysis.lake.run_folder import STUDY
from cl_core.errors import BadRequest


def none_completed(results: Results, lack: str, cell: str = "") -> BadRequest:
    """Return the error that says what is lacking, what the runs did instead, and the remedy."""
    runs = results.runs[results.runs["cell"] == cell] if cell else results.runs
    failed = runs[runs["status"] == "failed"]
    rule = f"no run {f'of {cell}' if cell else f'in {results.folder}'} has completed, so {lack}"
    if failed.empty:
        return BadRequest(f"{rule}: run it first")
    again = shlex.join(["cl-search", "run", str(results.folder / STUDY), "--out", results.place])
    return BadRequest(
        f"{rule}: {plural(len(failed), 'run')} failed, as with '{failed['error'].iloc[0]}'; mend that, "
        f"then {again} --retry-failed"
    )

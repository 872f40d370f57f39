"""`plan`: the forecast of a study, or forecast against spent of a run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import open_results
from analysis.lake.run_folder import STUDY
from analysis.lake.spending import QUANTITIES, against, in_words, planned, spent
from cl_core.errors import BadRequest
from search.cost.forecast import Forecast, check_seconds, forecast, write
from search.cost.luck import lucky
from search.cost.packing import pack
from search.preparation.prepared import prepare
from search.remote.working_copy import send_free
from spaces.resolved.warnings import notes_of, warnings_of


@dataclass(frozen=True)
class Spent:
    """Forecast against spent: rows of words, a line where one of both is missing, and plain values."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    line: str | None
    values: dict[str, object]


def forecast_study(
    study: str,
    out: Path | None,
    overrides: Sequence[str],
    seconds: float,
    *,
    own_code: bool,
    say: Callable[[str], None],
    warn: Callable[[Sequence[str]], None],
) -> tuple[Forecast, Path]:
    """Forecast a study by probes of about `seconds` in all; return it and the file that keeps it.

    Raises BadRequest before any work, RunError where a probe fails.
    """
    check_seconds(seconds)
    # Nothing is trained in the folder, so changed code does no harm.
    prepared = prepare(study, out, overrides, own_code=own_code, accept_code=True)
    if packed := pack(prepared):
        prepared = prepare(study, out, overrides, own_code=own_code, accept_code=True)
    warn([*packed, *notes_of(prepared.study.data), *warnings_of(prepared.study), *lucky(prepared.study)])
    found = forecast(prepared, seconds, say=say)
    path = write(found, prepared.folder)
    send_free(prepared.folder)
    return found, path


def spent_of(folder: Path) -> Spent:
    """Return forecast against spent of a run folder. Raises BadRequest where it has neither."""
    foreseen, ran = planned(folder), (folder / STUDY).exists()
    if foreseen is None and not ran:
        raise BadRequest(f"{folder} holds no run and no forecast: name a study file, or a run folder")
    now = spent(open_results(folder)) if ran else dict.fromkeys(QUANTITIES)
    line = None
    if foreseen is None:
        line = "there is no plan.json here: `cl-search plan STUDY` writes one before a run"
    elif not ran:
        line = "nothing has run yet"
    table = against(foreseen or {"total": {}}, now)
    rows = [
        [title, in_words(title, before), in_words(title, used), _ratio(ratio)]
        for title, before, used, ratio in table.itertuples(index=False)
    ]
    values: dict[str, object] = {"planned": foreseen and foreseen["total"], "spent": now}
    return Spent(list(table.columns), rows, line, values)


def _ratio(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.2f}"

"""Selection gap: the value that a trial was selected by, against its final one on test rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.lake.study import ProtocolRecord
from analysis.report.answers import decimal
from analysis.report.section import VIEWS, Section
from analysis.selection.row_errors import row_errors
from analysis.selection.selection import Cell, cells
from analysis.selection.selection_gap import FORMULAS, LUCK, LUCK_FORMULA, Station, parts, value_of
from analysis.selection.trials import ranked, span
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.redraws import REDRAWS, luck_of_rows
from analysis.statistics.sample import Pairs, Sample, measured, recorded
from cl_core.metrics import METRICS

TITLE = "Selection gap, from selection rows to test rows"


@VIEWS.register("selection_gap")
def selection_gap(results: Results) -> Section:
    """The selection gap of every cell in its parts."""
    name, direction = results.study.objective
    protocol = results.study.protocol
    if name not in METRICS or protocol.select_on in ("chf", "adaptive"):
        return Section(TITLE, "No trial was selected by an accuracy, so there is no gap.", optional=True)
    how = protocol.over_runs(direction)
    rows, open_, untried, used, orders = [], [], [], set[str](), set[int]()
    for cell in cells(results):
        final = measured(results, cell.final, "test")[name]
        if not Sample.of(final):
            continue
        if not (cell.selected["purpose"] == "search").all():  # its fresh class orders are not trained again
            untried.append(cell.name)
            continue
        stations = _stations(results, cell, final, name, protocol)
        if stations is None:
            open_.append(cell.name)
            continue
        row: dict[str, Any] = {"scenario": cell.scenario, "label": cell.label}
        row["selected by"] = value_of(stations[0].runs, how)
        for part in parts(stations, how):
            used.add(part.name)
            row[part.name], row[f"{part.name} ±"] = part.value, part.half
        row["final"] = value_of(final, how, len(stations[0].runs))
        if stations[-1].runs == final:
            row["gap"] = row["selected by"] - row["final"]
        row[LUCK] = _luck(results, cell, name, direction, protocol)
        orders.add(len(Sample.of(final)))
        rows.append(row)
    lacking = f" Left out, as the search has not tried the selected default: {', '.join(untried)}."
    if not rows:
        text = "No cell has the runs of `cl-search evaluate` that split its gap into parts."
        return Section(TITLE, text + (lacking if untried else ""), optional=True)
    frame = pd.DataFrame(rows)
    wanted = [c for part in FORMULAS if part in used for c in (part, f"{part} ±")]
    frame = frame.reindex(columns=["scenario", "label", "selected by", *wanted, "final", "gap", LUCK])
    optional = [c for c in frame.columns if str(c).endswith(" ±") or c in ("gap", LUCK)]
    empty = [c for c in optional if frame[c].isna().all()]
    frame = frame.drop(columns=empty)
    text = _text(protocol, name, direction, "gap" in frame)
    if LUCK in frame:
        text += (
            " “Luck of rows” is no further part but an expectation: by how much the best of as many trials "
            "exceeds its value on other rows, since each was measured on finitely many. Trials are taken to "
            "err independently; those that err on the same rows have less of it."
        )
        if frame[LUCK].isna().any():
            text += " It is not given where the confirmation selected another trial than the best seen."
        if "other rows" in used:
            text += (
                " It lies in “other rows”, and in “fresh seeds” as far as a network trained anew errs on "
                "other rows."
            )
    if untried:
        text += lacking
    if open_:
        text += f" Left out until all of their runs have completed: {', '.join(open_)}."
    return Section(
        TITLE,
        text,
        [
            *(f"{part}: {FORMULAS[part]}" for part in FORMULAS if part in used),
            *([LUCK_FORMULA] if LUCK in frame else []),
            INTERVAL,
        ],
        f"n = {span(orders)} class order{'' if orders == {1} else 's'} of final runs",
        frame,
        optional=True,
        question="How much of the selected value is lost on test rows?",
        answer=_answer(frame, name, direction),
    )


def _answer(frame: pd.DataFrame, name: str, direction: str) -> str:
    """The sentence on the change from the value that selected to the final one."""
    sign = 1.0 if direction == "max" else -1.0
    gained = sign * (frame["final"] - frame["selected by"])
    low, mean, high = gained.min(), gained.mean(), gained.max()
    way = "better" if mean >= 0 else "worse"
    text = f"From the search to the test rows, {name.replace('_', ' ')} gets {way} by {abs(mean):.3f}"
    if len(gained) == 1:
        return f"{text} in the one cell."
    between = f"between {decimal(low, '+')} and {decimal(high, '+')}"
    return f"{text}, mean over {len(gained)} cells; the gains lie {between}."


def _text(protocol: ProtocolRecord, name: str, direction: str, summed: bool) -> str:
    sign = "above" if direction == "max" else "below"
    text = f"“Selected by” is the {name.replace('_', ' ')} of the selected trial in the search"
    text += (
        ", the worst over its runs; later values are the expected worst of as many runs"
        if protocol.worst
        else ""
    )
    if protocol.select_on == "first-k":
        k = protocol.first
        text += f", over the first {k} tasks; the rerun is compared with it over the same {k} tasks"
    if protocol.select_on == "oracle-test":
        text += ", on test rows, so no part is due to the split"
    text += "."
    if summed:
        text += f" The parts sum to the gap. A part {sign} zero is a loss against the selected value."
    else:
        text += (
            " The final value is of other classes or another data set. So the parts are of the searched "
            "data, without one for more data, and they do not sum to a gap."
        )
    return text


def _luck(
    results: Results, cell: Cell, metric: str, direction: str, protocol: ProtocolRecord
) -> float | None:
    """The luck of the selection rows, with the sign of the gap.

    None for a single trial, and where the confirmation has selected another one than the best of the search.
    """
    table = ranked(results, cell)
    if len(table) < 2 or table["trial"].iloc[0] != cell.selected_trial:
        return None
    first = protocol.first if protocol.select_on == "first-k" else None
    errors = row_errors(results, cell, table, metric, first)
    if errors is None:
        return None
    sign = -1.0 if direction == "min" else 1.0
    values = sign * table["objective"].to_numpy(dtype=np.float64)
    return sign * luck_of_rows(values, errors, np.random.default_rng(0), REDRAWS)


def _stations(
    results: Results, cell: Cell, final: Pairs, metric: str, protocol: ProtocolRecord
) -> list[Station] | None:
    """Return the measurements from the selected value to the final one; None where runs are missing."""
    select = protocol.select_on
    first = protocol.first if select == "first-k" else None
    searched = recorded(results, cell.selected, "objective", metric, first)
    runs = cell.evaluation
    rerun = runs[
        (runs["purpose"] == "reference")
        & (runs["status"] == "completed")
        & runs["trial_digest"].isin(cell.selected_digest)
    ]
    orders = list(dict.fromkeys(order for order, _ in searched))
    final_orders = list(dict.fromkeys(order for order, _ in final))
    if not {*orders, *final_orders} <= set(rerun["class_order"]) or not final_orders:
        return None
    split = "test" if select == "oracle-test" else "val"

    def again(split: str, wanted: list[str], tasks: int | None = None) -> Pairs:
        return measured(results, rerun[rerun["class_order"].isin(wanted)], split, tasks)[metric]

    out = [Station("", searched), Station("fresh seeds", again(split, orders, first))]
    if set(orders) != set(final_orders):
        out.append(Station("class orders", again(split, final_orders, first)))
    if first is not None:
        out.append(Station("later tasks", again(split, final_orders)))
    if split == "val":
        out.append(Station("other rows", again("test", final_orders)))
    if select != "gtep":
        out.append(Station("more data", final))
    if any(not Sample.of(station.runs) for station in out):
        return None
    return out

"""Selection gap: the value that a trial was selected by, against its final one on test rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.lake.results import Results
from analysis.lake.study import ProtocolRecord
from analysis.report.section import VIEWS, Section
from analysis.selection.selection import Cell, cells
from analysis.selection.selection_gap import FORMULAS, Station, parts, value_of
from analysis.selection.trials import span
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.sample import Pairs, Sample, measured, recorded
from cl_core.metrics import METRICS

TITLE = "Selection gap, from selection rows to test rows"


@VIEWS.register("selection_gap")
def selection_gap(results: Results) -> Section:
    """The selection gap of every cell in its parts."""
    name, direction = results.study.objective
    protocol = results.study.protocol
    if name not in METRICS or protocol.select_on == "chf":
        return Section(TITLE, "No trial was selected by an accuracy, so there is no gap.", optional=True)
    how = protocol.over_runs(direction)
    rows, open_, used, orders = [], [], set[str](), set[int]()
    for cell in cells(results):
        final = measured(results, cell.final, "test")[name]
        if not Sample.of(final):
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
        row["final"] = value_of(final, how)
        if stations[-1].runs == final:
            row["gap"] = row["selected by"] - row["final"]
        orders.add(len(Sample.of(final)))
        rows.append(row)
    if not rows:
        text = "No cell has the runs of `cl-search evaluate` that split its gap into parts."
        return Section(TITLE, text, optional=True)
    frame = pd.DataFrame(rows)
    wanted = [c for part in FORMULAS if part in used for c in (part, f"{part} ±")]
    frame = frame.reindex(columns=["scenario", "label", "selected by", *wanted, "final", "gap"])
    empty = [c for c in frame.columns if frame[c].isna().all() and (str(c).endswith(" ±") or c == "gap")]
    frame = frame.drop(columns=empty)
    text = _text(protocol, name, direction, "gap" in frame)
    if open_:
        text += f" Left out until all of their runs have completed: {', '.join(open_)}."
    return Section(
        TITLE,
        text,
        [*(f"{part}: {FORMULAS[part]}" for part in FORMULAS if part in used), INTERVAL],
        f"n = {span(orders)} class order{'' if orders == {1} else 's'} of final runs",
        frame,
        optional=True,
    )


def _text(protocol: ProtocolRecord, name: str, direction: str, summed: bool) -> str:
    sign = "above" if direction == "max" else "below"
    text = f"“Selected by” is the {name.replace('_', ' ')} by which the search selected the trial"
    text += ", the worst over its runs" if protocol.worst else ""
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
        & runs["trial_digest"].isin(cell.ranking["trial_digest"].head(1))
    ]
    orders = list(dict.fromkeys(order for order, _ in searched))
    final_orders = list(dict.fromkeys(order for order, _ in final))
    if not {*orders, *final_orders} <= set(rerun["class_order"]) or not final_orders:
        return None
    split = "test" if select == "oracle-test" else "val"

    def again(split: str, wanted: list[str], tasks: int | None = None) -> Pairs:
        return measured(results, rerun[rerun["class_order"].isin(wanted)], split, tasks)[metric]

    out = [Station("", searched), Station("winner's curse", again(split, orders, first))]
    if set(orders) != set(final_orders):
        out.append(Station("class orders", again(split, final_orders, first)))
    if first is not None:
        out.append(Station("later tasks", again(split, final_orders)))
    if split == "val":
        out.append(Station("test split", again("test", final_orders)))
    if select != "gtep":
        out.append(Station("more data", final))
    if any(not Sample.of(station.runs) for station in out):
        return None
    return out

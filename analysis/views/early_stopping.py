"""What stopping trials early saved, and how often it stopped one that would have won."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from scipy.stats import binomtest

from analysis.load import Results
from analysis.section import VIEWS, Section
from analysis.selection import Cell, cells, objective, over_runs
from analysis.style import fade, panels, place

TITLE = "Early stopping"
TRAINED, SAVED = "#2f6f9f", "#b9c4cc"


@VIEWS.register("early_stopping")
def early_stopping(results: Results) -> Section:
    """Tasks trained and saved in each cell, and the audit: trials that were to be stopped and ran on."""
    chosen = cells(results)
    if not chosen:
        return Section(TITLE, "No run has ended yet, so nothing was stopped.")
    name, direction = objective(results)
    search = results.study.get("search")
    said = search if isinstance(search, Mapping) else {}
    table = pd.DataFrame([_row(results, cell, direction) for cell in chosen])
    audited, false = int(table["audited"].sum()), int(table["false stops"].sum())
    text = (
        f"Stopper: {said.get('stopper', 'none')}. Trials are compared within their cell at equal task index, "
        "by the accuracy over the increments, and never stopped before their second task has ended."
    )
    if audited:
        low, high = binomtest(false, audited).proportion_ci(0.95)
        text += (
            f"\n\nOf the trials that were to be stopped, {audited} ran on as an audit: {false} of them "
            f"({false / audited:.0%}, 95 % interval {low:.0%} to {high:.0%}) ended better than every "
            "trial that was not to be stopped, so stopping would have cost the cell its winner."
        )
    else:
        text += (
            "\n\nNo trial ran on as an audit, so the rate of false stops is not known (search.audit: 0.1 "
            "lets a tenth of the trials to be stopped run on)."
        )
    formulas = [
        "tasks saved: tasks of stopped runs that were not trained / tasks of all ended runs",
        "false stop rate: audited runs better than the best other completed one / audited runs; its interval "
        "is exact binomial",
        f"loss: the largest lead of a false stop in {name.replace('_', ' ')}",
    ]
    n = f"n = {len(results.trials)} runs, {audited} of them audited"
    return Section(TITLE, text, formulas, n, table, _figure(table))


def _row(results: Results, cell: Cell, direction: str) -> dict[str, object]:
    ended = cell.trials[cell.trials["purpose"] != "final"]
    stopped = ended[ended["status"] == "stopped"]
    saved = int((stopped["tasks"] - stopped["tasks_done"]).sum())
    completed = ended[(ended["status"] == "completed") & ended["objective"].notna()]
    points = over_runs(results, completed, {"objective": direction})
    marked = points["number"].isin(completed.loc[completed["audited_after"].notna(), "number"])
    audited, others = points[marked], points[~marked]
    lead = pd.Series(dtype=float)
    if len(audited) and len(others):
        sign = -1.0 if direction == "min" else 1.0
        lead = sign * audited["objective"] - (sign * others["objective"]).max()
    false = int((lead > 0).sum())
    return {
        "scenario": cell.scenario,
        "label": cell.label,
        "runs": len(ended),
        "stopped": len(stopped),
        "tasks trained": int(ended["tasks_done"].sum()),
        "tasks saved": saved,
        "share saved": saved / total if (total := int(ended["tasks"].sum())) else None,
        "audited": len(audited),
        "false stops": false,
        "false stop rate": false / len(audited) if len(audited) else None,
        "loss": float(lead.max()) if false else None,
    }


def _figure(table: pd.DataFrame) -> go.Figure:
    """Tasks trained and saved, a bar a label, a panel a scenario."""
    names = list(dict.fromkeys(table["scenario"]))
    tall = int(table.groupby("scenario").size().max())
    figure = panels(names, columns=2, height=40 + 26 * tall, legend=True)
    for index, scenario in enumerate(names):
        mine = table[table["scenario"] == scenario]
        for title, colour in (("tasks trained", TRAINED), ("tasks saved", SAVED)):
            figure.add_trace(
                go.Bar(
                    x=list(mine[title]),
                    y=list(mine["label"]),
                    orientation="h",
                    name=title,
                    showlegend=index == 0,
                    marker={"color": fade(colour, 0.9)},
                    hovertemplate=f"%{{y}}: %{{x}} {title}<extra></extra>",
                ),
                **place(index, figure),
            )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title_text="tasks")
    figure.update_yaxes(type="category")
    return figure

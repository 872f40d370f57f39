"""Early stopping: tasks saved, the share of stops that hit a winner, and of cells that lost theirs."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import scipy

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section
from analysis.report.style import fade, panels, place
from analysis.selection.selection import Cell, cells, split_selected_on
from analysis.selection.trials import proposed, trials

TITLE = "Early stopping"
TRAINED, SAVED = "#2f6f9f", "#b9c4cc"


@VIEWS.register("early_stopping")
def early_stopping(results: Results) -> Section:
    """Tasks trained and saved in each cell, and the audit: trials that were to be stopped and ran on."""
    every = cells(results)
    if not every:
        return Section(TITLE, "No run has ended yet, so nothing was stopped.", optional=True)
    name, direction = results.study.objective
    stopper = results.study.stopper
    table = pd.DataFrame([_row(results, cell, direction) for cell in every])
    audited, false = int(table["audited"].sum()), int(table["false stops"].sum())
    if stopper == "none" and not table["stopped"].any() and not audited:
        return Section(TITLE, "No trial was stopped: the study has no stopper.", optional=True)
    text = (
        f"Stopper: {stopper}. Trials are compared within their cell at equal task index, "
        "by what the accuracy over the increments would be at the end if it stayed where it is, and never "
        "stopped before their second task has ended."
    )
    if audited:
        low, high = scipy.stats.binomtest(false, audited).proportion_ci(0.95)
        text += (
            f"\n\nPer trial: of the trials that were to be stopped, {audited} ran on as an audit. {false} of "
            f"them ({false / audited:.0%}, 95 % interval {low:.0%} to {high:.0%}) ended better than every "
            "trial that was not to be stopped: stopping such a one would have cost the cell its winner."
            f"\n\n{_by_cell(table, (false / audited, low, high))}"
        )
    else:
        text += (
            "\n\nNo trial ran on as an audit, so the rate of false stops is not known (search.audit: 0.1 "
            "lets a tenth of the trials to be stopped run on)."
        )
    if results.study.reuses:
        text += " Trials that share the training of another one are left out."
    formulas = [
        "tasks saved: tasks that stopped trials would still have trained, in the run that was "
        "stopped and in those that were never started; share saved: tasks saved / (tasks trained + saved)",
        "false stop rate: audited trials better than the best other completed one / audited ones; "
        "its interval is exact binomial",
        "false stops expected: false stops · to be stopped / audited, since those that ran on were drawn at "
        "random; to be stopped: stopped or audited",
        f"loss: the largest lead of a false stop in {name.replace('_', ' ')}",
    ]
    n = f"n = {plural(int(table['trials'].sum()), 'ended trial')}, {audited} of them audited"
    split = split_selected_on(results) if audited else ""  # tasks come from no rows, a loss does
    saved, trained = int(table["tasks saved"].sum()), int(table["tasks trained"].sum())
    stopped, ended = int(table["stopped"].sum()), int(table["trials"].sum())
    answer = f"{stopped} of {plural(ended, 'trial')} were stopped, which saved "
    answer += f"{saved / max(1, saved + trained):.0%} of all tasks"
    answer += f"; {false} of {audited} audited stops would have hit the winner." if audited else "."
    question = "What did early stopping save, and did it stop winners?"
    return Section(
        TITLE, text, formulas, n, table, _figure(table), split=split, question=question, answer=answer
    )


def _by_cell(table: pd.DataFrame, rates: tuple[float, float, float]) -> str:
    """The paragraph on the cells whose winner was to be stopped; `rates` per trial: measured, low, high."""
    known = table[table["audited"] > 0]
    lost, cells_ = int((known["false stops"] > 0).sum()), len(known)
    stops = float(known["to be stopped"].mean())
    text = (
        f"Per cell: in {lost} of {plural(cells_, 'cell')} with an audit ({lost / cells_:.0%}), the trial "
        "that would have won was among those to be stopped"
    )
    if (known["to be stopped"] == known["audited"]).all():
        return f"{text}."
    expected, low, high = (min(1.0, rate * stops) for rate in rates)
    return (
        f"{text}, at least: those that did not run on are not known. A cell had {stops:.3g} trials to "
        f"be stopped, so by the rate per trial it is at most {expected:.0%} of cells (95 % interval "
        f"{low:.0%} to {high:.0%})."
    )


def _row(results: Results, cell: Cell, direction: str) -> dict[str, object]:
    ended = proposed(trials(results, cell))
    stopped = ended[ended["status"] == "stopped"]
    # A run has the tasks of any other; of a stopped trial some were never started.
    whole = stopped["planned_runs"] * (stopped["tasks"] // stopped["runs"])
    saved, trained = int((whole - stopped["tasks_done"]).sum()), int(ended["tasks_done"].sum())
    points = ended[ended["status"] == "completed"]
    marked = points["trial"].isin(cell.runs.loc[cell.runs["audited_after"].notna(), "trial"])
    audited, others = points[marked], points[~marked]
    lead = pd.Series(dtype=float)
    if len(audited) and len(others):
        sign = -1.0 if direction == "min" else 1.0
        lead = sign * audited["objective"] - (sign * others["objective"]).max()
    false = int((lead > 0).sum())
    return {
        "scenario": cell.scenario,
        "label": cell.label,
        "trials": len(ended),
        "stopped": len(stopped),
        "tasks trained": trained,
        "tasks saved": saved,
        "share saved": saved / (trained + saved) if trained + saved else None,
        "to be stopped": len(stopped) + len(audited),
        "audited": len(audited),
        "false stops": false,
        "false stop rate": false / len(audited) if len(audited) else None,
        "false stops expected": false * (len(stopped) + len(audited)) / len(audited)
        if len(audited)
        else None,
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

"""The forecast of a study beside its real cost."""

from __future__ import annotations

from analysis.lake.results import Results
from analysis.lake.several_runs import Runs
from analysis.lake.spending import PLAN, against, in_words, planned, spent
from analysis.report.section import VIEWS, Section
from cl_core.records import SEARCHING

TITLE = "Planned and spent"


@VIEWS.register("planned_and_spent")
def planned_and_spent(results: Results) -> Section:
    """Runs, tasks, hours and bytes: as `cl-search plan` foresaw them, and as they came."""
    if isinstance(results, Runs) or results.runs.empty:
        return Section(TITLE, "No plan of a run with ended runs.", optional=True)
    plan = planned(results.folder)
    if plan is None:
        return Section(TITLE, f"No {PLAN}: `cl-search plan` writes one before a run.", optional=True)
    table = against(plan, spent(results))
    for column in ("planned", "spent"):  # of several units: numbers of one column would be rounded alike
        table[column] = [in_words(t, v) for t, v in zip(table["quantity"], table[column], strict=True)]
    text = (
        f"Planned on {plan.get('written', 'an unknown day')} from a probe of a few steps. Planned is the "
        "whole study without a stopper; spent is what has ended so far. Time by the clock runs from the "
        "first start to the last end, whatever lay between. Runs of `evaluate` count in bytes and GPU-hours "
        "alone."
    )
    notes = [str(note) for note in plan.get("notes") or () if isinstance(note, str)]
    if notes:
        text += "\n\n" + " ".join(f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes)
    formulas = [
        "time of one worker: from the start to the end of every run, and the training of first tasks that "
        "runs share",
        "first tasks taken from a shared one: runs that began from a first task which another had trained",
    ]
    n = f"n = {int((results.runs['purpose'].isin(SEARCHING)).sum())} ended runs of the search"
    known = table.dropna(subset=["spent / planned"])
    ratios = [
        f"{row['quantity']} {row['spent / planned']:.2f}"
        for row in known.to_dict("records")
        if row["quantity"] in ("runs", "time of one worker", "GPU-hours")
    ]
    answer = f"Spent over planned: {', '.join(ratios)}." if ratios else ""
    question = "Did the study cost what was planned?"
    return Section(TITLE, text, formulas, n, table, optional=True, question=question, answer=answer)

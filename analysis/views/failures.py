"""Runs that failed: their errors, and the values that failed runs have in common."""

from __future__ import annotations

import pandas as pd
import scipy

from analysis.lake.amounts import plural
from analysis.lake.arrow_schema import ADDED
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section, Table

TITLE = "Failures"
_FEWEST = 3  # failed and completed runs for the values that set them apart
_APART = 0.9  # share of pairs
_EXAMPLE = 160  # characters of an error


@VIEWS.register("failures")
def failures(results: Results) -> Section:
    """Failed runs by error and cell, and the hyperparameter that sets them apart from completed ones."""
    runs = results.runs
    failed = runs[runs["status"] == "failed"]
    if failed.empty:
        return Section(TITLE, "No run has failed.", optional=True)
    failed = failed.assign(kind=failed["error"].fillna("unknown").map(_kind))
    rows = []
    for (scenario, label, kind), mine in failed.groupby(["scenario", "label", "kind"], sort=False):
        cell = runs[(runs["scenario"] == scenario) & (runs["label"] == label)]
        rows.append(
            {
                "scenario": scenario,
                "label": label,
                "error": kind,
                "failed": len(mine),
                "of runs": len(cell),
                "after tasks": _span(mine["tasks_done"]),
                "set apart by": _apart(mine, cell[cell["status"] == "completed"]),
                "example": mine["error"].str.slice(0, _EXAMPLE).iloc[0],
                "run": mine["run"].iloc[0],
            }
        )
    table = pd.DataFrame(rows).sort_values("failed", ascending=False, kind="stable", ignore_index=True)
    kinds = failed.groupby("kind").agg(runs=("run", "count"), labels=("label", "nunique"))
    kinds = kinds.sort_values("runs", ascending=False, kind="stable").reset_index(names="error")
    text = (
        f"“Set apart by” names the hyperparameter by whose value at least {_APART:.0%} of all pairs of a "
        "failed and a completed run of the cell are told apart, with that share. It is the best of several, "
        "so it is a hint, not a proof."
    )
    most = kinds.iloc[0]
    return Section(
        TITLE,
        text,
        ["share of pairs: U / (failed · completed), U of Mann and Whitney; ties count half"],
        f"n = {plural(len(runs), 'ended run')}",
        table,
        tables=[Table("By error", kinds, group="error")] if len(kinds) > 1 else [],
        optional=True,
        question="What failed, and why?",
        answer=f"{len(failed):,} of {plural(len(runs), 'run')} failed ({len(failed) / len(runs):.1%}); "
        f"{int(most['runs']):,} of them with {most['error']}.",
    )


def _kind(error: str) -> str:
    """The class of an error: the part before its first colon, where that is one word."""
    head = str(error).partition(":")[0].strip()
    return head if head and " " not in head else str(error)[:60]


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}–{high}"


def _apart(failed: pd.DataFrame, done: pd.DataFrame) -> str | None:
    """Name the hyperparameter that tells failed from completed runs best, if it does so well enough."""
    if len(failed) < _FEWEST or len(done) < _FEWEST:
        return None
    best, said = _APART, None
    for column in (c for c in failed.columns if c.startswith(ADDED)):
        a, b = (pd.to_numeric(frame[column], errors="coerce").dropna() for frame in (failed, done))
        if len(a) < _FEWEST or len(b) < _FEWEST or pd.concat([a, b]).nunique() < 2:
            continue
        larger = float(scipy.stats.mannwhitneyu(a.astype(float), b.astype(float)).statistic) / (
            len(a) * len(b)
        )
        if max(larger, 1 - larger) >= best:
            best = max(larger, 1 - larger)
            said = f"{'larger' if larger > 0.5 else 'smaller'} {column.removeprefix('hp.')} ({best:.2f})"
    return said

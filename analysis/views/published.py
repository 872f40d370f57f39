"""The study's figures beside the published ones."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from analysis.comparison.published import WITHOUT_FIGURES, Compared, compare_published, deviating
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section
from analysis.statistics.intervals import INTERVAL
from cl_core.metrics import FORMULAS

TITLE = "Published figures"


@VIEWS.register("published")
def published(results: Results) -> Section:
    """Published figures, those of the study, and their differences."""
    known = results.study.published
    if known is None or results.runs.empty:
        why = "No published figures in the study." if known is None else "No run has ended yet."
        return Section(TITLE, why, optional=True)
    rows = compare_published(results)
    differs = deviating(known)
    text = f"Published on {known.data}. " if known.figures else f"{WITHOUT_FIGURES} "
    text += "The range is the published spread; a figure without one cannot be judged."
    warning = f"\n\nWarning: {differs}" if differs else ""
    metrics = dict.fromkeys(one.figure.metric for one in rows)
    return Section(
        TITLE,
        text + warning,
        [*(f"{name.replace('_', ' ')}: {FORMULAS[name]}" for name in metrics), INTERVAL],
        "± is the half width of the 95 % interval over class orders",
        pd.DataFrame([_row(one) for one in rows]) if rows else None,
        split="test",
        question="How far are the figures from the published ones?",
        answer=_answer(rows),
    )


def _row(one: Compared) -> dict[str, object]:
    figure = one.figure
    label, _, scenario = one.cell.partition("@")
    return {
        "scenario": scenario or figure.scenario,
        "label": label or figure.label,
        "metric": figure.metric.replace("_", " "),
        "classifier": figure.classifier or "the method's own",
        "published": figure.value,
        "published ±": figure.spread,
        "measured": one.measured.value,
        "measured ±": one.measured.half,
        "n": one.measured.n,
        "difference": one.difference,
        "range": one.verdict,
        "source": figure.source,
    }


def _answer(rows: list[Compared]) -> str:
    """The sentence that counts the verdicts."""
    if not rows:
        return ""
    counts = Counter(one.verdict for one in rows)
    return f"Of {len(rows)} figures, {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}."

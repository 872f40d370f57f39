"""Sentences that answer a section's question from its own table."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.report.identity import REFERENCE_COLOURS

MOST_SCENARIOS = 3  # scenarios that a sentence names


def methods(results: Results) -> set[str]:
    """The labels that are no reference; all labels where there is nothing else."""
    known = results.runs.drop_duplicates("label")
    own = set(known["label"][~known["method"].isin(REFERENCE_COLOURS)].astype(str))
    return own or set(results.labels)


def decimal(value: float, sign: str = "") -> str:
    """A number with three decimals and a true minus; with `sign` "+" also a plus."""
    return f"{value:{sign}z.3f}".replace("-", "−")


def least_and_most(
    frame: pd.DataFrame, column: str, least: str, most: str, among: Collection[str], digits: int = 3
) -> str:
    """The labels with the least and the most of a column, in each scenario.

    "B0: pass forgets least (0.098), lwf most (0.436)." with the words "forgets least" and "most". Of several
    rows of a label the first counts. Empty where no row has a value.
    """
    rows = frame[frame["label"].isin(among) & frame[column].notna()]
    rows = rows.drop_duplicates(["scenario", "label"])
    parts = []
    for scenario, mine in rows.groupby("scenario", sort=False):
        low, high = (mine.iloc[int(at)] for at in (np.argmin(mine[column]), np.argmax(mine[column])))
        text = f"{low['label']} {least} ({low[column]:z.{digits}f})"
        if len(mine) > 1:
            text += f", {high['label']} {most} ({high[column]:z.{digits}f})"
        parts.append(f"{scenario}: {text}")
    more = f"; and {len(parts) - MOST_SCENARIOS} more scenarios" if len(parts) > MOST_SCENARIOS else ""
    return f"{'; '.join(parts[:MOST_SCENARIOS])}{more}." if parts else ""

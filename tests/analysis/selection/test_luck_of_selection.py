"""The luck in the values of a trial that these values selected, by hand and on equal trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.selection.luck_of_selection import luck_of_selection
from analysis.selection.selection import cells
from tests.analysis.planted_search import search

TWO = ["average_incremental_accuracy", "last_accuracy"]


def lake(folder: Path, values: np.ndarray, last: float = 0.5, **study: object) -> Results:
    """One cell: `values` [trials, orders]; last accuracy moves by `last` of them."""
    rows = []
    for trial, of_trial in enumerate(values):
        for order, value in enumerate(of_trial):
            same = {"trial": trial, "trial_digest": f"{trial:020d}", "class_order": f"seed:{order}"}
            shown = {"objective": value, "average_incremental_accuracy": value, "last_accuracy": last * value}
            rows.append({**same, "run": f"lwf@B0-3tasks/{trial}/seed:{order}/s0", **shown})
    return open_results(search(folder, rows, None, **study))


def luck(results: Results) -> dict[str, float]:
    (cell,) = cells(results)
    return luck_of_selection(results, cell, TWO)


def test_the_luck_of_the_best_of_three_trials_by_hand(tmp_path):
    """Means .6, .5, .4: V = .01. Rests +-.02, +-.02, +-.04 sum to .0048, so s^2 = .0048 / (2 * 1 * 2)."""
    values = np.array([[0.62, 0.58], [0.52, 0.48], [0.36, 0.44]])
    found = luck(lake(tmp_path / "run", values))
    assert found["average_incremental_accuracy"] == pytest.approx(0.0012 / 0.01 * 0.1)
    assert found["last_accuracy"] == pytest.approx(0.5 * 0.012)


@pytest.mark.parametrize(
    ("values", "study"),
    [
        ([[0.6], [0.5]], {}),
        ([[0.6, 0.7]], {}),
        ([[0.6, 0.7], [0.5, 0.6]], {}),
        ([[0.6, 0.8], [0.5, 0.6]], {"protocol": {"aggregate": "worst"}}),
    ],
    ids=["one order", "one trial", "no rest", "the worst run counts"],
)
def test_there_is_no_luck_to_take_out(tmp_path, values, study):
    found = luck(lake(tmp_path / "run", np.array(values), **study))
    assert list(found.values()) == pytest.approx([0.0] * len(found))


@pytest.mark.slow
@pytest.mark.parametrize("orders", [3, 5, 10])
def test_the_interval_of_the_best_of_twenty_equal_trials_covers_what_it_will_have(tmp_path, orders):
    """200 lakes of equal trials: measured values cover .7 to .9, those without luck at least .92."""
    draw = np.random.default_rng(orders)
    covered = np.zeros(2)
    for number in range(200):
        values = 0.5 + draw.normal(0, 0.01, orders) + draw.normal(0, 0.01, (20, orders))
        results = lake(tmp_path / str(number), values)
        (cell,) = cells(results)
        best = cell.selected["objective"].to_numpy()
        half = stats.t.isf(0.025, orders - 1) * stats.sem(best)
        taken = luck(results)["average_incremental_accuracy"]
        covered += [abs(best.mean() - lucky - 0.5) <= half for lucky in (0.0, taken)]
    assert covered[0] < 0.93 * 200
    assert covered[1] >= 0.92 * 200

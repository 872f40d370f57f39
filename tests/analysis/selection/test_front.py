"""The Pareto front: points that cannot be told from a neighbour on it are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.lake.open import open_results
from analysis.report.section import VIEWS
from analysis.selection.front import half_width, on_front
from analysis.statistics.counting_error import Counted
from analysis.statistics.sample import Sample
from analysis.views.pareto_front import amount
from tests.analysis.hand_counts import class_rows
from tests.analysis.planted_search import search

OBJECTIVE = {"last_accuracy": "max", "kept_bytes": "min"}
CELL = "lwf@B0-3tasks"
ROWS = 100  # of each task: a last accuracy is a share of 300 rows


def view(
    folder: Path, orders: dict[str, list[int]], confirmed: dict[str, dict[int, int]] | None = None
) -> Any:
    """The section on trials with 10, 20, 30 ... kB; `orders`: class order -> right answers of each trial."""
    points, right = [], {}

    def add(trial: int, order: str, answers: int, purpose: str) -> None:
        run = f"{CELL}/{trial}/{purpose}/{order}/s0"
        right[run] = answers
        points.append(
            {"run": run, "trial": trial, "trial_digest": f"{trial:020d}", "purpose": purpose}
            | {"class_order": order, "last_accuracy": answers / 300, "objective": answers / 300}
            | {"kept_bytes": 10_000 * (trial + 1)}
        )

    for order, answers in orders.items():
        for trial, count in enumerate(answers):
            add(trial, order, count, "search")
    for order, by_trial in (confirmed or {}).items():
        for trial, count in by_trial.items():
            add(trial, order, count, "confirm")
    results = open_results(search(folder, points, None, search={"objective": OBJECTIVE}))
    confusion = pd.concat([counts(run, answers) for run, answers in right.items()])
    results.__dict__ |= {"confusion": confusion, "classes": class_rows(confusion, [0, 0, 1, 1, 2, 2])}
    return VIEWS["pareto_front"](results)


def counts(run: str, right: int) -> pd.DataFrame:
    """Rows of `confusion`: 50 of each class, 300 in all after the last task, `right` of them right."""
    rows = []
    for after, seen in enumerate((2, 4, 6)):
        for c in range(seen):
            mine = right // 6 + (c < right % 6) if after == 2 else 50
            for answer, number in ((c, mine), ((c + 1) % seen, 50 - mine)):
                rows.append((after, c, answer, number))
    frame = pd.DataFrame(rows, columns=["after_task", "true_class", "predicted_class", "count"])
    return frame[frame["count"] > 0].assign(run=run, split="val", classifier="head", primary=True)


def test_a_point_that_differs_from_its_neighbours_by_less_than_the_rows_can_tell_is_marked(
    tmp_path: Path,
) -> None:
    # 150, 240 and 246 of 300 have standard errors of .029, .023 and .022. So .50 and .80 are apart by far
    # more than 1.96 * .037 = .072, and .80 and .82 by far less.
    found = view(tmp_path / "run", {"natural": [150, 240, 246]})
    assert "1 of 3 points on the fronts differs from its neighbours." in found.answer
    told = found.table.set_index("trial")["cannot be told from"]
    assert told.fillna("").tolist() == ["", "trial 2", "trial 1"]
    # p = (240 + 1) / (300 + 2) = .798, and 1.96 * sqrt(.798 * .202 / 300) = .0454 where tasks are pooled.
    half = found.table.set_index("trial")["last accuracy ±"][1]
    assert half == pytest.approx(0.0454, abs=0.0005)
    symbols = next(trace for trace in found.figure.data if trace.mode == "markers+lines").marker.symbol
    assert list(symbols) == ["circle", "circle-open", "circle-open"]


def test_points_that_all_differ_are_all_firm(tmp_path: Path) -> None:
    found = view(tmp_path / "run", {"natural": [60, 150, 270]})
    assert "3 of 3 points on the fronts differ from their neighbours." in found.answer
    assert found.table["cannot be told from"].isna().all()


def test_class_orders_are_paired(tmp_path: Path) -> None:
    # The orders differ by 40 points, the trials by 10 points on each: 30 of 300 rows, give or take one.
    orders = {"natural": [100, 130], "seed:1": [160, 190], "seed:2": [219, 250], "seed:3": [131, 160]}
    found = view(tmp_path / "run", orders)
    assert "2 of 2 points" in found.answer
    # Where the difference changes its sign from order to order, it is luck.
    orders = {"natural": [100, 190], "seed:1": [190, 130], "seed:2": [219, 250], "seed:3": [131, 160]}
    assert "0 of 2 points" in view(tmp_path / "luck", orders).answer


def test_confirming_runs_decide_between_neighbours_that_both_have_them(tmp_path: Path) -> None:
    fresh = {f"seed:200{i}": {0: 200, 1: 201 + i} for i in range(3)}
    found = view(tmp_path / "run", {"natural": [150, 240]}, fresh)
    assert "0 of 2 points" in found.answer  # .50 and .80 in the search, .667 and .673 on fresh orders
    assert found.table["last accuracy, confirmed"].tolist() == pytest.approx([200 / 300, 202 / 300])
    one = {"seed:2001": {0: 200}}
    assert "2 of 2 points" in view(tmp_path / "one", {"natural": [150, 240]}, one).answer


def test_a_front_of_one_point_has_no_neighbours(tmp_path: Path) -> None:
    found = view(tmp_path / "run", {"natural": [240, 200]})
    assert found.answer.startswith("On the front over all methods: in ")
    assert "Each method's own front is a single point: one trial is at least as good" in found.answer


def test_kept_bytes_alone_are_shown_against_accuracy(tmp_path: Path) -> None:
    points = [
        {"kept_bytes": kept, "objective": float(kept), "average_incremental_accuracy": value}
        for kept, value in ((10_000, 0.4), (20_000, 0.6), (30_000, 0.5))
    ]
    folder = search(tmp_path / "run", points, None, search={"objective": {"kept_bytes": "min"}})
    found = VIEWS["pareto_front"](open_results(folder))
    assert found.table["trial"].tolist() == [0, 1]  # trial 2 keeps more and is worse
    assert found.figure.layout.xaxis.title.text == "average incremental accuracy"


def test_an_answer_gives_costs_with_their_units() -> None:
    costs = {"kept_bytes": 12_800, "seconds": 90, "parameters": 464_024, "last_accuracy": 0.5}
    said = [amount(name, float(value)) for name, value in costs.items()]
    assert said == ["12.8 kB", "90 s", "464,024 parameters", "0.500"]


def test_one_class_order_has_the_interval_of_its_counts() -> None:
    assert half_width(Sample.of([("natural", Counted(0.5, 0.1))])) == pytest.approx(0.196, abs=1e-4)
    # Two orders: t with one degree of freedom, 12.71 * sem([.4, .6]) = 12.71 * .1.
    two = Sample.of([("natural", Counted(0.4, 0.0)), ("seed:1", Counted(0.6, 0.0))])
    assert half_width(two) == pytest.approx(1.2706, abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_no_point_of_a_front_is_beaten_and_every_other_one_is(pairs: list[tuple[int, int]]) -> None:
    front = on_front(np.array(pairs, dtype=float), ["max", "min"])
    for at, (value, cost) in enumerate(pairs):
        beaten = any(v >= value and c <= cost and (v, c) != (value, cost) for v, c in pairs)
        assert front[at] == (not beaten)

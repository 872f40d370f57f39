"""The final evaluation in the report: paired by class order, corrected over cells, shown all or none."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import open_results
from analysis.report.identity import colours
from analysis.report.page import render
from analysis.selection.selection import cells
from analysis.statistics.counting_error import errors
from analysis.statistics.intervals import p_of_zero
from analysis.views.final import final
from analysis.views.leaderboard import leaderboard
from analysis.views.selection_gap import selection_gap
from cl_core.records import TABLES
from tests.analysis.planted import Plan, write
from tests.analysis.planted_tables import schema

PLAN = Plan(
    labels=("lwf", "icarl"), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=2, orders=3, splits=("val", "test")
)
ORDERS = ("natural", "seed:1", "seed:2")


@pytest.fixture
def lake(tmp_path):
    """Two cells with two trials, searched on three class orders, whose runs have test rows."""
    return write(tmp_path / "run", PLAN)


def again(folder, cell, number, purpose, order):
    """The rows of a search run once more, as those of an evaluation."""
    tail = "" if order == "natural" else f"/{order}/s0"
    old = f"{cell}/{number}{tail}"
    new = f"{cell}/{number}/{purpose}/{order}/s1"
    for table in TABLES:
        place = folder / "tables" / table
        rows = pq.read_table(place / f"{old.replace('/', '--').replace(':', '-')}.parquet").to_pylist()
        for row in rows:
            row["run"] = new
            if table == "runs":
                row |= {"purpose": purpose, "seed": 1}
        path = place / f"{new.replace('/', '--').replace(':', '-')}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema(table)), path)


def evaluated(folder, which=("lwf@B0-3tasks", "icarl@B0-3tasks")):
    """Final and reference runs that repeat the search's; returns the choice of each cell."""
    chosen = {cell.name: cell.selected_trial for cell in cells(open_results(folder))}
    for cell in which:
        for order in ORDERS:
            for number in {0, chosen[cell]}:
                again(folder, cell, number, "final", order)
            again(folder, cell, chosen[cell], "reference", order)
    return chosen


def test_a_rerun_that_repeats_the_search_leaves_no_gap_at_all(lake):
    evaluated(lake)
    gap = selection_gap(open_results(lake)).table
    # The lake selects on test rows (its last split), so what is left is between test and validation rows.
    assert list(gap["more data"]) == [0.0, 0.0]
    assert list(gap["fresh seeds"] + gap["other rows"]) == pytest.approx([0.0, 0.0])
    assert list(gap["gap"]) == pytest.approx([0.0, 0.0])
    assert "class orders" not in gap.columns
    assert set(final(open_results(lake)).table["class orders"]) == {3}


def test_differences_are_those_of_the_class_orders_and_corrected_over_cells(lake):
    # With a run missing, trial 0 is not ranked, so the choice is another one.
    for cell in ("lwf@B0-3tasks", "icarl@B0-3tasks"):
        for order in ORDERS:
            again(lake, cell, 0, "final", order)
    for path in lake.glob("tables/runs/*--0.parquet"):
        path.unlink()
    chosen = {cell.name: cell.selected_trial for cell in cells(open_results(lake))}
    assert set(chosen.values()) == {1}
    for cell in chosen:
        for order in ORDERS:
            again(lake, cell, 1, "final", order)
    results = open_results(lake)
    (found,) = [t.frame for t in final(results).tables if t.title.startswith("Selected trial minus")]
    objective = results.runs.set_index("run")["average_incremental_accuracy"]
    raw, noise = {}, {}
    for cell, number in chosen.items():
        pairs = [(f"{cell}/{number}/final/{o}/s1", f"{cell}/0/final/{o}/s1") for o in ORDERS]
        raw[cell] = [objective[a] - objective[b] for a, b in pairs]
        known = [errors(results.confusions(t, "test"), (2, 2, 1)) for pair in pairs for t in pair]
        noise[cell] = sum(one["average_incremental_accuracy"] ** 2 for one in known) ** 0.5 / len(ORDERS)
    assert len(found) == len(raw) == 2
    for _, row in found.iterrows():
        name = f"{row['label']}@{row['scenario']}"
        differences = raw[name]
        assert row["average incremental accuracy"] == pytest.approx(sum(differences) / len(ORDERS))
        assert row["p"] == pytest.approx(p_of_zero(differences, noise[name]))
        assert row["p"] <= row["p, Holm"] <= len(raw) * row["p"] + 1e-12


def test_cells_are_shown_by_their_final_runs_all_or_none(lake):
    evaluated(lake, ("lwf@B0-3tasks",))
    shown = cells(open_results(lake))
    assert {purpose for cell in shown for purpose in cell.best["purpose"]} == {"search"}
    assert len(final(open_results(lake)).table) >= 1
    evaluated(lake, ("icarl@B0-3tasks",))
    shown = cells(open_results(lake))
    assert {purpose for cell in shown for purpose in cell.best["purpose"]} == {"final"}
    assert {purpose for cell in shown for purpose in cell.runs["purpose"]} == {"search"}
    assert 'id="final"' in render(open_results(lake))


def test_final_runs_lead_the_leaderboard_in_figure_and_table(lake):
    """The figure stood on validation rows, where a choice was above its default, the table on test rows."""
    evaluated(lake)
    results = open_results(lake)
    changed = results.runs
    mine = changed["purpose"] == "search"
    changed.loc[mine, "objective"] = (
        changed.loc[mine, "average_incremental_accuracy"] / 2
    )  # of no account here
    board = leaderboard(results)
    assert board.rows == "test rows"
    assert board.text.startswith("Measured on test rows. They are final runs")
    assert ", test rows" in board.figure.layout.xaxis.title.text
    marks = {m.y[0]: [] for m in board.figure.data}
    for mark in board.figure.data:
        marks[mark.y[0]].append(mark.x[0])
    final_runs = changed[changed["purpose"] == "final"]
    for _, row in board.table.iterrows():
        both = final_runs[final_runs["label"] == row["label"]].groupby("trial")[
            "average_incremental_accuracy"
        ]
        assert marks[row["label"]] == pytest.approx([row["average incremental accuracy"], row["default"]])
        assert row["average incremental accuracy"] == pytest.approx(both.mean()[row["trial"]])
        assert row["default"] == pytest.approx(both.mean()[0])


def test_a_default_without_the_class_orders_of_the_choice_is_not_shown_beside_it(lake):
    for cell in ("lwf@B0-3tasks", "icarl@B0-3tasks"):
        for order in ORDERS:
            again(lake, cell, 0, "final", order)
            again(lake, cell, 1, "final", order)
    for path in lake.glob("tables/runs/*--0.parquet"):  # so that trial 1 is the choice
        path.unlink()
    (lake / "tables/runs/lwf@B0-3tasks--0--final--seed-1--s1.parquet").unlink()
    (lake / "tables/runs/icarl@B0-3tasks--1--final--seed-1--s1.parquet").unlink()
    results = open_results(lake)
    board = leaderboard(results).table.set_index("label")
    assert pd.isna(board.loc["lwf", "default"])  # of two class orders, beside a choice of three
    trials = results.runs
    same = trials["run"].isin([f"icarl@B0-3tasks/0/final/{order}/s1" for order in ("natural", "seed:2")])
    expected = trials.loc[same, "average_incremental_accuracy"].mean()
    assert board.loc["icarl", "default"] == pytest.approx(expected)


def test_the_ring_of_a_default_has_an_interval_to_be_seen(lake):
    evaluated(lake)
    marks = final(open_results(lake)).figure.data
    assert {mark.error_x.color for mark in marks} <= set(colours(open_results(lake)).values())
    assert all(mark.error_x.visible for mark in marks)


def test_a_gap_without_all_of_its_runs_is_named_and_left_out(lake):
    evaluated(lake)
    for path in lake.glob("tables/*/lwf@B0-3tasks--*--reference--natural--s1.parquet"):
        path.unlink()
    gap = selection_gap(open_results(lake))
    assert list(gap.table["label"]) == ["icarl"]
    assert "Left out until all of their runs have completed: lwf@B0-3tasks" in gap.text


def test_a_cell_whose_search_is_lost_keeps_the_page(tmp_path):
    """As where a damaged file was set aside, and nobody has trained its run again yet."""
    folder = write(tmp_path / "run", Plan(scenarios=PLAN.scenarios, trials=1, evaluated=True))
    for path in folder.glob("tables/*/joint@B0-3tasks--0.parquet"):
        path.unlink()
    page = render(open_results(folder))
    assert "This view failed" not in page
    assert 'id="final"' in page

"""The final evaluation in the report: paired by class order, corrected over cells, shown all or none."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import open_results
from analysis.report import render
from analysis.selection import cells
from analysis.stats import p_of_zero
from analysis.style import colours
from analysis.views.final import final
from analysis.views.leaderboard import leaderboard
from cl_core.records import TABLES
from tests.analysis.lake import Plan, schema, write

PLAN = Plan(
    labels=("lwf", "icarl"), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=2, orders=2, splits=("val", "test")
)
ORDERS = ("natural", "seed:1")


@pytest.fixture
def lake(tmp_path):
    """Two cells with two configurations, searched on two class orders, whose runs have test rows."""
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
            row["trial"] = new
            if table == "trials":
                row |= {"purpose": purpose, "seed": 1}
        path = place / f"{new.replace('/', '--').replace(':', '-')}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema(table)), path)


def evaluated(folder, which=("lwf@B0-3tasks", "icarl@B0-3tasks")):
    """Final and reference runs that repeat the search's; returns the choice of each cell."""
    chosen = {cell.name: cell.number for cell in cells(open_results(folder))}
    for cell in which:
        for order in ORDERS:
            for number in {0, chosen[cell]}:
                again(folder, cell, number, "final", order)
            again(folder, cell, chosen[cell], "reference", order)
    return chosen


def test_a_rerun_that_repeats_the_search_leaves_no_gap_at_all(lake):
    evaluated(lake)
    section = final(open_results(lake))
    (gap,) = [table.frame for table in section.tables if table.title == "Selection gap"]
    # The lake selects on test rows (its last split), so what is left is between test and validation rows.
    assert list(gap["more data"]) == [0.0, 0.0]
    assert list(gap["winner's curse"] + gap["test split"]) == pytest.approx([0.0, 0.0])
    assert list(gap["gap"]) == pytest.approx([0.0, 0.0])
    assert "class orders" not in gap.columns
    assert set(section.table["class orders"]) == {2}


def test_differences_are_those_of_the_class_orders_and_corrected_over_cells(lake):
    # With a run missing, configuration 0 is not ranked, so the choice is another one.
    for cell in ("lwf@B0-3tasks", "icarl@B0-3tasks"):
        for order in ORDERS:
            again(lake, cell, 0, "final", order)
    for path in lake.glob("tables/trials/*--0.parquet"):
        path.unlink()
    chosen = {cell.name: cell.number for cell in cells(open_results(lake))}
    assert set(chosen.values()) == {1}
    for cell in chosen:
        for order in ORDERS:
            again(lake, cell, 1, "final", order)
    results = open_results(lake)
    (found,) = [t.frame for t in final(results).tables if t.title.startswith("Choice minus")]
    objective = results.trials.set_index("trial")["average_incremental_accuracy"]
    raw = {}
    for cell, number in chosen.items():
        pairs = [(f"{cell}/{number}/final/{o}/s1", f"{cell}/0/final/{o}/s1") for o in ORDERS]
        raw[cell] = [objective[a] - objective[b] for a, b in pairs]
    assert len(found) == len(raw) == 2
    for _, row in found.iterrows():
        differences = raw[f"{row['label']}@{row['scenario']}"]
        assert row["average incremental accuracy"] == pytest.approx(sum(differences) / 2)
        assert row["p"] == pytest.approx(p_of_zero(differences))
        assert row["p"] <= row["p, Holm"] <= len(raw) * row["p"] + 1e-12


def test_cells_are_shown_by_their_final_runs_all_or_none(lake):
    evaluated(lake, ("lwf@B0-3tasks",))
    shown = cells(open_results(lake))
    assert {purpose for cell in shown for purpose in cell.best["purpose"]} == {"search"}
    assert len(final(open_results(lake)).table) >= 1
    evaluated(lake, ("icarl@B0-3tasks",))
    shown = cells(open_results(lake))
    assert {purpose for cell in shown for purpose in cell.best["purpose"]} == {"final"}
    assert {purpose for cell in shown for purpose in cell.trials["purpose"]} == {"search"}
    assert 'id="final"' in render(open_results(lake))


def test_the_default_stands_on_the_rows_of_the_choice(lake):
    evaluated(lake)
    results = open_results(lake)
    changed = results.trials
    mine = changed["trial"].str.contains("/0/final/")
    changed.loc[mine, "objective"] = [0.25, 0.35] * 2  # the search's values stay
    board = leaderboard(results)
    assert list(board.table["default"]) == pytest.approx([0.3, 0.3])
    assert "published values on test rows, by its final runs" in board.text
    assert board.text.startswith("Measured on test rows. They are final runs")
    assert board.figure.layout.xaxis.title.text.endswith(", validation rows")


def test_the_ring_of_a_default_has_an_interval_to_be_seen(lake):
    evaluated(lake)
    marks = final(open_results(lake)).figure.data
    assert {mark.error_x.color for mark in marks} <= set(colours(open_results(lake)).values())
    assert all(mark.error_x.visible for mark in marks)


def test_a_gap_without_all_of_its_runs_is_named_and_left_out(lake):
    evaluated(lake)
    for path in lake.glob("tables/*/lwf@B0-3tasks--*--reference--natural--s1.parquet"):
        path.unlink()
    (gap,) = [t for t in final(open_results(lake)).tables if t.title == "Selection gap"]
    assert list(gap.frame["label"]) == ["icarl"]
    assert "Left out until all of their runs have completed: lwf@B0-3tasks" in gap.text


def test_the_p_value_is_student_s():
    # differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 3.4641 with 2 degrees of freedom
    assert p_of_zero([1.0, 2.0, 3.0]) == pytest.approx(0.07418, abs=1e-5)
    assert p_of_zero([0.5]) is None
    assert p_of_zero([0.5, 0.5]) == 0.0
    assert p_of_zero([0.0, 0.0, None]) == 1.0

"""Trials that are ranked, and the selection that the leaderboard shows."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from analysis.lake.open import open_results
from analysis.lake.study import ProtocolRecord
from analysis.report.page import section
from analysis.selection.selection import cells
from tests.analysis.planted import Plan, write
from tests.analysis.planted_tables import lake_with


def test_the_leaderboard_shows_the_recorded_numbers_of_the_best_trial(kept_lake):
    results = open_results(kept_lake)
    frame = section(results, "leaderboard").table
    trials = results.runs
    for _, row in frame.iterrows():
        mine = trials[trials["label"] == row["label"]]
        best = mine.loc[mine["objective"].idxmax()]
        assert row["trial"] == best["trial"]
        assert row["average incremental accuracy"] == pytest.approx(best["average_incremental_accuracy"])
        assert row["last accuracy"] == pytest.approx(best["last_accuracy"])
        assert row["forgetting"] == pytest.approx(best["forgetting"])
        default = mine.loc[mine["trial"] == 0, "objective"]
        assert row["default"] == pytest.approx(default.iloc[0])
        assert row["s in all"] == pytest.approx(mine["seconds"].sum())
    by = frame.set_index("label")
    gap = by.loc["icarl", "last accuracy"] - by.loc["joint", "last accuracy"]
    assert by.loc["icarl", "to joint"] == pytest.approx(gap)
    assert by.loc["icarl", "bytes kept"] == 64 * 20 * 5
    assert pd.isna(by.loc["joint", "to joint"])


def test_a_cost_that_no_run_has_is_no_column_of_the_leaderboard(kept_lake):
    found = section(open_results(kept_lake), "leaderboard")
    assert not {"parameters", "FLOPs an image"} & set(found.table)
    assert not any(text.startswith("FLOPs an image") for text in found.formulas)


def test_class_orders_give_an_interval_and_test_rows_are_named(tmp_path):
    plan = Plan(labels=("finetune", "joint"), trials=2, orders=3, splits=("val", "test"), rows=6)
    found = section(open_results(write(tmp_path / "run", plan)), "leaderboard")
    assert found.text.startswith("Measured on test rows.")
    assert found.n.startswith("n = 3 class orders, 1 seed; ±")
    assert found.table["last accuracy ±"].notna().all()
    assert (found.table["done"] == 6).all()


def test_a_stopped_run_with_a_better_average_is_not_chosen(tmp_path):
    plan = Plan(labels=("finetune",), scenarios=(("B0-5tasks", (2, 2, 2, 2, 2)),), trials=3, stopped=(1,))
    results = open_results(write(tmp_path / "run", plan))
    trials = results.runs.set_index("trial")
    assert trials.loc[1, "objective"] > trials.loc[[0, 2], "objective"].max()
    assert cells(results)[0].selected_trial in (0, 2)


def test_a_trial_with_fewer_class_orders_is_not_ranked(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-2tasks", (2, 2)),), trials=3, orders=2)
    folder = write(tmp_path / "run", plan)
    best = cells(open_results(folder))[0].selected_trial
    (folder / "tables" / "runs" / f"lwf@B0-2tasks--{best}--seed-1--s0.parquet").unlink()
    assert cells(open_results(folder))[0].selected_trial != best


def test_the_same_values_drawn_twice_do_not_shut_out_the_others(lake):
    trials = lake / "tables" / "runs"
    parts = {p.stem[-1]: pq.read_table(p) for p in trials.glob("icarl*.parquet")}
    config = parts["1"].column("trial_digest")
    pq.write_table(
        parts["2"].set_column(parts["2"].column_names.index("trial_digest"), "trial_digest", config),
        trials / "icarl@B0-3tasks--2.parquet",
    )
    icarl = next(cell for cell in cells(open_results(lake)) if cell.label == "icarl")
    assert len(icarl.ranking) == 3
    assert len(icarl.best) == 1
    assert icarl.best["objective"].iloc[0] == icarl.runs["objective"].max()


def test_a_minimised_objective_ranks_the_smallest_first(lake):
    study = yaml.safe_load((lake / "study.yaml").read_text(encoding="utf-8"))
    study["search"]["objective"] = {"forgetting": "min"}
    (lake / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    results = open_results(lake)
    assert results.study.objective == ("forgetting", "min")
    for cell in cells(results):
        assert cell.selected["objective"].iloc[0] == cell.runs["objective"].min()


def test_a_front_leaves_out_a_trial_with_fewer_class_orders(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-2tasks", (2, 2)),), trials=3, orders=2)
    folder = write(tmp_path / "run", plan)
    before = section(open_results(folder), "pareto_front")
    assert before.n == "n = 3 completed trials in 1 cell"
    best = int(before.table["trial"].iloc[0])
    (folder / f"tables/runs/lwf@B0-2tasks--{best}--seed-1--s0.parquet").unlink()
    after = section(open_results(folder), "pareto_front")
    assert after.n == "n = 2 completed trials in 1 cell"
    assert best not in set(after.table["trial"])


def test_a_front_holds_what_no_other_trial_beats(lake):
    study = yaml.safe_load((lake / "study.yaml").read_text())
    study["search"]["objective"] = {"last_accuracy": "max", "forgetting": "min"}
    (lake / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    changes = {
        0: {"last_accuracy": 0.5, "forgetting": 0.1},
        1: {"last_accuracy": 0.6, "forgetting": 0.3},
        2: {"last_accuracy": 0.5, "forgetting": 0.2},
    }
    results, first = lake_with(lake, changes)
    frame = section(results, "pareto_front").table
    mine = frame[(frame["label"] + "@" + frame["scenario"]) == first]
    assert sorted(mine["trial"]) == [0, 1]
    assert {"last accuracy", "forgetting"} <= set(frame.columns)


def test_the_worst_class_order_ranks_where_the_protocol_says_so(tmp_path):
    results = open_results(write(tmp_path / "run", Plan(labels=("lwf",), trials=2, orders=2)))
    results.study = replace(results.study, protocol=ProtocolRecord(worst=True))
    for cell in cells(results):
        worst = cell.runs.groupby("trial")["objective"].min()
        assert cell.selected_trial == worst.idxmax()
        assert cell.ranking["objective"].tolist() == sorted(worst, reverse=True)

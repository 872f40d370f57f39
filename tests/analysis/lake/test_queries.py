"""Metrics of all runs by SQL: equal to `cl_core.metrics`, on planted and on drawn counts."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.lake.open import open_results
from analysis.lake.queries import Database
from analysis.lake.relation import connect
from analysis.lake.results import READ_ALONE, Results
from cl_core import metrics
from cl_core.errors import BadRequest
from cl_core.metric_queries import QUERIES
from cl_core.records import TABLES
from tests.analysis.hand_counts import Hand, lake
from tests.analysis.planted_tables import gather


def _equal(found: object, wanted: object) -> bool:
    """Tell whether two numbers are equal to 12 digits, None and nan being the same."""
    known = [None if v is None or v is pd.NA or math.isnan(v) else v for v in (found, wanted)]
    return known[0] == known[1] or known[0] == pytest.approx(known[1], abs=1e-12)


def _matches(results, runs: list[str], counts: dict[str, list], sizes: dict[str, tuple]) -> None:
    """Compare every query with `cl_core.metrics`, for the primary classifier on validation rows."""
    tables = {}
    for name in QUERIES:
        frame = results(name)
        tables[name] = frame[frame["primary"] & (frame["split"] == "val")]
    for run in runs:
        matrices, split = counts[run], sizes[run]
        mine = {name: frame[frame["run"] == run] for name, frame in tables.items()}
        ends = mine["run_metrics"].iloc[0].to_dict()
        wanted = metrics.summary(matrices, split) | {
            "learning_accuracy": metrics.learning_accuracy(metrics.accuracy_matrix(matrices, split))
        }
        steps = mine["task_metrics"].set_index("after_task")
        for task, matrix in enumerate(matrices):
            for name in (
                *("recency_bias", "recency_ratio", "old_to_new", "new_to_old", "asymmetry"),
                *("old_accuracy", "new_accuracy", "old_new_gap", "harmonic_mean", "task_accuracy"),
            ):
                value = getattr(metrics, name)(matrix, split)
                assert _equal(steps.loc[task, name], value), (run, task, name)
                if task == len(matrices) - 1 and name in ends:
                    wanted[name] = value
            shares = mine["task_confusion"].query(f"after_task == {task}")
            dense = np.where(metrics.task_counts(matrix, split).sum(axis=1, keepdims=True) > 0, 0.0, np.nan)
            dense = np.broadcast_to(dense, (task + 1, task + 1)).copy()
            for row in shares.itertuples():
                dense[row.task, row.answered_task] = row.share
            np.testing.assert_allclose(dense, metrics.task_confusion(matrix, split), atol=1e-12)
        for name, value in wanted.items():
            assert _equal(ends[name], value), (run, name, ends[name], value)
        whole = metrics.accuracy_matrix(matrices, split)
        assert len(mine["accuracy_matrix"]) == len(matrices) * (len(matrices) + 1) // 2
        for row in mine["accuracy_matrix"].itertuples():
            assert _equal(row.accuracy, whole[row.after_task, row.task])


def test_every_metric_of_all_runs_equals_that_of_the_counts_of_each(lake):
    results = open_results(lake)
    runs = [str(run) for run in results.runs["run"]]
    counts = {run: results.confusions(run, "val") for run in runs}
    sizes = {run: results.sizes(run) for run in runs}
    _matches(lambda name: results.table(name).pandas(), runs, counts, sizes)
    frame = results.table("run_metrics").where('"primary"').pandas().set_index("run")
    recorded = results.runs.set_index("run")
    for name in metrics.METRICS:
        assert (frame[name] - recorded[name]).abs().max() < 1e-12
    for run in runs:
        known = results.accuracies(run, "val")
        assert known is not None
        np.testing.assert_allclose(known.matrix, metrics.accuracy_matrix(counts[run], sizes[run]), atol=1e-12)
        assert known.rows[-1].sum() == counts[run][-1].sum()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(0, 2**32), st.integers(0, 3))
def test_drawn_counts_with_empty_tasks_give_the_same_numbers(sizes, seed, most):
    rng, matrices, rows = np.random.default_rng(seed), [], []
    for task in range(len(sizes)):
        seen = sum(sizes[: task + 1])
        matrix = rng.integers(0, most + 1, (seen, seen))
        matrix[0, 0] += 1
        matrices.append(matrix)
        rows += [(task, int(a), int(b), int(matrix[a, b])) for a, b in zip(*np.nonzero(matrix), strict=True)]
    fixed = {"run": "a", "split": "val", "classifier": "head", "primary": True}
    names = ("after_task", "true_class", "predicted_class", "count")
    split = (sizes[0], ",".join(map(str, sizes[1:])))
    tables = dict.fromkeys(TABLES, pa.table({"run": pa.array([], pa.string())}))
    tables["runs"] = pa.Table.from_pylist([{"run": "a", "base": split[0], "increments": split[1]}])
    tables["confusion"] = pa.Table.from_pylist([{**fixed, **dict(zip(names, r, strict=True))} for r in rows])

    database = Database(lambda at, table: at.from_arrow(tables[table]), {split: tuple(sizes)})

    def read(name: str) -> pd.DataFrame:
        return database.query(f"select * from {name}").pandas()

    _matches(read, ["a"], {"a": matrices}, {"a": tuple(sizes)})


def test_one_relation_reads_as_duckdb_arrow_pandas_and_polars_with_chosen_columns(lake):
    chosen = open_results(lake).table("tasks").select("run", "task", "parameters").where("task = 2")
    frames = (chosen.duckdb().fetchall(), chosen.arrow(), chosen.pandas(), chosen.polars())
    assert [len(one) for one in frames] == [9] * 4
    assert chosen.columns == frames[1].column_names == list(frames[2]) == frames[3].columns
    assert isinstance(frames[3], pl.DataFrame)
    with pytest.raises(BadRequest, match="unknown column 'tusk': did you mean 'task'"):
        chosen.select("tusk")
    with pytest.raises(BadRequest, match="must be a condition in SQL"):
        chosen.where("nothing > 1")
    with pytest.raises(BadRequest, match="unknown table 'run': did you mean 'runs'"):
        open_results(lake).table("run")


def test_a_query_joins_tables_and_metrics_of_some_runs(lake):
    results = open_results(lake)
    run = str(results.runs["run"].iloc[0])
    text = "select label, forgetting from runs join (select run, forgetting f from run_metrics) using (run)"
    assert len(results.query(text).arrow()) == 12  # iCaRL's runs have two classifiers
    assert len(results.query("select * from accuracy_matrix", [run]).arrow()) == 6
    with pytest.raises(BadRequest, match=r"must be a query over runs, tasks, .*run_metrics"):
        results.query("select nothing from runs")


@pytest.mark.parametrize("table", TABLES)
def test_a_query_of_a_table_alone_gives_its_rows(lake, table):
    results = open_results(lake)
    assert len(results.query(f"select run from {table}").arrow()) == len(results.rows(table))


def test_what_may_be_missing_has_one_type_whether_it_is_missing_or_not(lake):
    results = open_results(lake)
    for runs in (None, [r for r in results.runs["run"] if "icarl" in r], []):
        kinds = results.read("runs", runs).dtypes
        whole = ("kept_bytes", "parameters", "threads", "audited_after", "hp.exemplars_per_class")
        assert {str(kinds[name]) for name in whole} == {"Int64"}
        assert str(kinds["hp.distill"]) == "boolean"
        assert str(kinds["hp.kd_weight"]) == "float64"
        assert {str(kinds[name]) for name in ("trial", "seed", "tasks_done")} == {"int64"}
    values = results.runs["hp.distill"]
    assert values.isna().any()
    assert set(values.dropna()) <= {True, False}


def test_queries_over_several_folders_and_gathered_files_give_the_same(lake, tmp_path):
    other = shutil.copytree(lake, tmp_path / "other")
    one, both = open_results(lake), open_results([lake, other])
    assert len(both.table("runs").arrow()) == len(one.runs)  # one study twice is one
    before = one.table("accuracy_matrix").pandas().sort_values(["run", "classifier", "after_task", "task"])
    gather(lake, "confusion", [path.stem for path in (lake / "tables" / "runs").glob("*@*.parquet")])
    after = open_results(lake).table("accuracy_matrix").pandas()
    after = after.sort_values(["run", "classifier", "after_task", "task"])
    pd.testing.assert_frame_equal(before.reset_index(drop=True), after.reset_index(drop=True))


def test_a_machine_of_many_cores_takes_no_more_threads_than_its_memory_allows(monkeypatch):
    for cores, threads in ((1, 1), (64, 4)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert connect().sql("select current_setting('threads')").fetchall() == [(threads,)]


def test_the_accuracies_of_all_runs_are_read_together_after_some(tmp_path, monkeypatch):
    counts = [[[10]], [[8, 2], [1, 9]]]
    hands = [Hand("lwf", counts, (1, 1), trial=number) for number in range(2 * READ_ALONE)]
    results = lake(tmp_path / "run", hands)
    asked, query = [], Results.query
    monkeypatch.setattr(Results, "query", lambda *given: asked.append(given) or query(*given))
    for eight in np.split(results.runs["run"].to_numpy(), 4):
        results.measure(eight)
    assert None not in [results.accuracies(run, "val") for run in results.runs["run"]]
    assert len(asked) == 3

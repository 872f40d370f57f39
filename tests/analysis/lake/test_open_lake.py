"""Reading a lake, with and without gathered files, whole and damaged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.lake import tables
from analysis.lake.open import open_results
from analysis.lake.run_folder import file_stem
from cl_core.errors import BadRequest
from cl_core.metrics import accuracy_matrix, summary
from cl_core.records import TABLES
from tests.analysis.planted_tables import gather, put, rewrite, setting


def test_every_trial_is_read_once_and_the_schema_file_adds_no_row(lake):
    results = open_results(lake)
    assert len(results.runs) == 9
    assert set(results.runs["status"]) == {"completed"}
    assert len(results.tasks) == 27
    assert {"hp.kd_weight", "recipe.base.lr"} <= set(results.runs.columns)
    assert results.notices == []


def test_the_folder_of_a_table_is_also_readable_by_pandas_alone(lake):
    frame = pd.read_parquet(lake / "tables" / "runs")
    assert len(frame) == 9
    assert "hp.kd_weight" in frame


def test_counts_add_up_to_the_rows_and_give_the_recorded_metrics(lake):
    results = open_results(lake)
    for run in results.runs["run"]:
        sizes = results.sizes(run)
        assert sizes == (2, 2, 1)
        counts = results.confusions(run, "val")
        assert [int(c.sum()) for c in counts] == [16, 32, 40]
        row = results.row(run)
        for name, value in summary(counts, sizes).items():
            assert row[name] == pytest.approx(value)


def test_accuracy_by_classes_equals_accuracy_by_confusion(lake):
    results = open_results(lake)
    run = "icarl@B0-3tasks/1"
    for classifier in ("nearest-mean", "head"):
        rows = results.classes
        rows = rows[(rows["run"] == run) & (rows["classifier"] == classifier)]
        by_class = rows.groupby(["after_task", "task"])[["correct", "n"]].sum()
        matrix = accuracy_matrix(results.confusions(run, "val", classifier), results.sizes(run))
        for (t, k), row in by_class.iterrows():
            assert matrix[t, k] == row["correct"] / row["n"]


def test_the_primary_classifier_comes_first_and_is_the_default(lake):
    results = open_results(lake)
    run = "icarl@B0-3tasks/0"
    assert results.classifiers(run, "val") == ["nearest-mean", "head"]
    default, head = results.confusions(run, "val"), results.confusions(run, "val", "head")
    assert np.array_equal(default[-1], results.confusions(run, "val", "nearest-mean")[-1])
    assert not np.array_equal(default[-1], head[-1])
    assert results.confusions(run, "test") == []
    with pytest.raises(BadRequest, match="unknown classifier 'haed': did you mean 'head'"):
        results.confusions(run, "val", "haed")


def test_gathered_rows_are_read_and_a_trials_own_file_wins(lake):
    before = open_results(lake).runs
    stems = [file_stem(t) for t in before["run"]][:4]
    for table in TABLES:
        gather(lake, table, stems)
    pd.testing.assert_frame_equal(open_results(lake).runs, before)
    again = {**before.iloc[0].to_dict(), "trial": 77}
    put(lake, "runs", stems[0], [{k: None if pd.isna(v) else v for k, v in again.items()}])
    after = open_results(lake).runs
    assert len(after) == 9
    assert after.loc[after["run"] == before["run"][0], "trial"].tolist() == [77]


def test_a_trial_gathered_while_its_file_still_stands_is_read_once(lake):
    before = open_results(lake).confusion
    stems = [file_stem(t) for t in open_results(lake).runs["run"]]
    gather(lake, "confusion", stems, remove=False)
    pd.testing.assert_frame_equal(open_results(lake).confusion, before)


def test_a_file_that_vanishes_while_reading_is_found_in_the_gathered_one(lake, monkeypatch):
    results, stems = open_results(lake), [file_stem(t) for t in open_results(lake).runs["run"]]
    read, once = tables.read_sealed, []

    def read_late(path, **how):
        if not once:
            once.append(gather(lake, "runs", stems))
        return read(path, **how)

    monkeypatch.setattr(tables, "read_sealed", read_late)
    assert sorted(results.runs["run"]) == sorted(open_results(lake).runs["run"])
    assert len(results.runs) == 9


def test_rows_of_some_trials_are_read_from_own_and_gathered_files(lake):
    trials = list(open_results(lake).runs["run"])
    gather(lake, "tasks", [file_stem(t) for t in trials[:3]])
    found = open_results(lake).read("tasks", [trials[0], trials[5]])
    assert set(found["run"]) == {trials[0], trials[5]}
    assert len(found) == 6


def test_files_being_written_are_not_read(lake):
    (lake / "tables" / "runs" / ".half.parquet").write_bytes(b"PAR1")
    assert len(open_results(lake).runs) == 9


def test_a_running_trial_has_sizes_from_its_stages(lake):
    (lake / "tables" / "runs" / "icarl@B0-3tasks--1.parquet").unlink()
    assert open_results(lake).sizes("icarl@B0-3tasks/1") == (2, 2, 1)


def test_a_file_of_before_the_study_grew_reads_with_empty_columns(lake):
    path = lake / "tables" / "runs" / "icarl@B0-3tasks--1.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["hp.kd_weight"]), path)
    trials = open_results(lake).runs
    assert "hp.kd_weight" in trials
    assert len(trials) == 9


def test_an_unknown_column_is_kept_and_named(lake):
    path = lake / "tables" / "tasks" / "icarl@B0-3tasks--1.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("colour", pa.array(["red"] * len(table))), path)
    results = open_results(lake)
    assert "colour" in results.tasks
    assert results.notices == ["table tasks: unknown column colour kept as it is"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.drop_columns(["objective", "net"]), "has no column net, objective"),
        (lambda t: t.replace_schema_metadata({b"cl_search_schema_version": b"99"}), "version 99.*upgrade"),
        (
            lambda t: t.set_column(t.column_names.index("seed"), "seed", pa.array(["x"])),
            "string in column seed",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(lake, damage, message):
    path = lake / "tables" / "runs" / "icarl@B0-3tasks--1.parquet"
    pq.write_table(damage(pq.read_table(path)), path)
    with pytest.raises(BadRequest, match=message) as caught:
        _ = open_results(lake).runs
    assert "\n" not in str(caught.value)


def test_a_torn_file_is_refused_in_one_line(lake):
    path = lake / "tables" / "runs" / "icarl@B0-3tasks--1.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadRequest, match=r"icarl@B0-3tasks--1\.parquet is damaged .*again"):
        _ = open_results(lake).runs


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="no folder"):
        open_results(tmp_path / "nowhere")
    with pytest.raises(BadRequest, match=r"neither study\.yaml nor tables/"):
        open_results(tmp_path)


def test_counts_outside_of_the_seen_classes_are_refused(lake):
    rewrite(lake, "confusion", "finetune@B0-3tasks/0", setting("predicted_class", 4))
    with pytest.raises(BadRequest, match=r"after task 0 name a class outside 0\.\.1"):
        open_results(lake).confusions("finetune@B0-3tasks/0", "val")


def test_a_broken_study_file_is_refused_in_one_line(lake):
    (lake / "study.yaml").write_text("a: [1\nb: }", encoding="utf-8")
    with pytest.raises(BadRequest, match=r"study\.yaml"):
        _ = open_results(lake).study


def test_a_study_file_cannot_make_python_objects(lake):
    (lake / "study.yaml").write_text("a: !!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(BadRequest, match="could not determine a constructor"):
        _ = open_results(lake).study

"""One run below its folder: rows, resume checkpoints, failures; without Ray."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.lake.run_folder import file_stem, tables_of
from analysis.lake.run_rows import run_rows
from cl_core.records import SORT, TABLES, columns
from search.lake.writer import gather, read_rows, start_tables, study_schemas
from search.worker.runner import Runner, end_from_rows
from spaces.resolved.run_spec import RunSpec
from tests import tiny

SCHEMAS = study_schemas(["bic", "lwf", "icarl"])
VOLATILE = {c.name for table in TABLES for c in columns(table) if c.volatile}


def _spec(method: str = "bic", **rest: Any) -> RunSpec:
    return RunSpec(
        run=f"{method}@B3-2tasks/0/seed:1/s0",
        cell=f"{method}@B3-2tasks",
        label=method,
        trial=0,
        purpose="search",
        trial_digest="0" * 16,
        configuration=tiny.configuration(method, **rest),
    )


def _runner(folder: Path, spec: RunSpec | None = None) -> Runner:
    start_tables(folder, SCHEMAS)
    return Runner(spec or _spec(), folder, folder / "checkpoints", data=tiny.data())


def _rows(folder: Path, run: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a run, sorted, without what may differ between equal runs."""
    out = {}
    for table in TABLES:
        rows = [{k: v for k, v in r.items() if k not in VOLATILE} for r in read_rows(folder, table, run)]
        out[table] = sorted(rows, key=lambda row: [str(row[k]) for k in SORT[table]])
        keys = [tuple(row[k] for k in SORT[table]) for row in rows]
        assert len(keys) == len(set(keys)), f"a row stands twice in {table}"
    return out


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("straight")
    runner = _runner(folder)
    progress = [runner.step() for _ in range(3)]
    assert [p.status for p in progress] == ["running", "running", "completed"]
    assert [p.task for p in progress] == [0, 1, 2]
    assert [p.done for p in progress] == [False, False, True]
    return _rows(folder, runner.spec.run)


def test_every_table_has_the_rows_of_every_task(straight: dict[str, list[dict[str, Any]]]) -> None:
    assert [row["task"] for row in straight["tasks"]] == [0, 1, 2]
    assert len(straight["runs"]) == 1
    assert straight["runs"][0]["status"] == "completed"
    assert straight["runs"][0]["tasks_done"] == 3
    for table, column in (("phases", "task"), ("classes", "after_task"), ("confusion", "after_task")):
        assert {row[column] for row in straight[table]} == {0, 1, 2}


def test_accuracy_from_classes_is_accuracy_from_confusion(straight: dict[str, list[dict[str, Any]]]) -> None:
    def key(row: dict[str, Any], name: str) -> tuple[Any, ...]:
        return row["split"], row["after_task"], row["classifier"], row[name]

    n, correct, predicted = {}, {}, {}
    for row in straight["confusion"]:
        for counts, name in ((n, "true_class"), (predicted, "predicted_class")):
            counts[key(row, name)] = counts.get(key(row, name), 0) + row["count"]
        if row["true_class"] == row["predicted_class"]:
            correct[key(row, "true_class")] = row["count"]
    for row in straight["classes"]:
        at = key(row, "class")
        assert row["n"] == n[at] == (tiny.VAL if row["split"] == "val" else tiny.TEST)
        assert row["correct"] == correct.get(at, 0)
        assert row["predicted"] == predicted.get(at, 0)


def test_the_rows_give_the_metrics_of_the_trial(straight: dict[str, list[dict[str, Any]]]) -> None:
    steps = []
    for task in range(3):
        rows = [r for r in straight["classes"] if r["primary"] and r["split"] == "val"]
        rows = [r for r in rows if r["after_task"] == task]
        steps.append(sum(r["correct"] for r in rows) / sum(r["n"] for r in rows))
    assert straight["runs"][0]["average_incremental_accuracy"] == pytest.approx(np.mean(steps))
    assert straight["runs"][0]["last_accuracy"] == pytest.approx(steps[-1])


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_worker_killed_between_tasks_leaves_the_rows_of_an_undisturbed_run(
    done: int, tmp_path: Path, straight: dict[str, list[dict[str, Any]]]
) -> None:
    first = _runner(tmp_path)
    for _ in range(done):
        first.step()
    second = _runner(tmp_path)
    assert second.training.done == done
    while not second.step().done:
        pass
    assert _rows(tmp_path, second.spec.run) == straight


@pytest.mark.parametrize("where", ["before the checkpoint", "after the checkpoint", "amid the rows"])
def test_a_worker_killed_while_it_records_leaves_each_row_once(
    where: str, tmp_path: Path, straight: dict[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import search.worker.runner

    class Killed(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    first = _runner(tmp_path)
    first.step()
    with monkeypatch.context() as patch:
        if where == "before the checkpoint":
            patch.setattr(first.training, "keep_resume_checkpoint", die)
        elif where == "amid the rows":
            write, written = search.worker.runner.write_rows, []

            def some(folder: Path, table: str, *rest: Any) -> None:
                written.append(table)
                if len(written) > 2:
                    raise Killed
                write(folder, table, *rest)

            patch.setattr(search.worker.runner, "write_rows", some)
        else:
            patch.setattr(search.worker.runner.Runner, "answer", die)
        with pytest.raises(Killed):
            first.step()
    second = _runner(tmp_path)
    assert second.training.done == (2 if where == "after the checkpoint" else 1)
    while not second.step().done:
        pass
    assert _rows(tmp_path, second.spec.run) == straight


@pytest.mark.parametrize("table", ["tasks", "phases", "classes", "confusion"])
def test_a_damaged_table_is_written_again(
    table: str, tmp_path: Path, straight: dict[str, list[dict[str, Any]]]
) -> None:
    first = _runner(tmp_path)
    first.step()
    first.step()
    path = tables_of(tmp_path) / ".running" / table / f"{file_stem(first.spec.run)}.parquet"
    path.write_bytes(path.read_bytes()[:50])
    second = _runner(tmp_path)
    while not second.step().done:
        pass
    assert _rows(tmp_path, second.spec.run) == straight


def test_a_run_that_ended_keeps_no_resume_checkpoint_and_no_file_aside(tmp_path: Path) -> None:
    runner = _runner(tmp_path)
    while not runner.step().done:
        pass
    checkpoints = [p.name for p in (tmp_path / "checkpoints").rglob("*.safetensors")]
    assert checkpoints == [f"{runner.training.base_key()}.safetensors"]
    assert not [p for p in tables_of(tmp_path).rglob(".*") if p.is_file()]


def test_a_run_that_diverges_fails_with_its_first_line_and_keeps_its_finished_tasks(tmp_path: Path) -> None:
    recipe = {"increment": {"lr": 100.0, "weight_decay": 1.0, "epochs": 30, "schedule": "constant"}}
    runner = _runner(tmp_path, _spec("lwf", recipe=recipe))
    assert runner.step().status == "running"
    progress = runner.step()
    assert (progress.status, progress.done) == ("failed", True)
    assert progress.error is not None
    assert "every loss term must stay finite" in progress.error
    row = run_rows(tmp_path)[runner.spec.run]
    assert row["error"] == progress.error
    assert "\n" not in row["error"]
    assert row["tasks_done"] == 1
    assert [r["task"] for r in read_rows(tmp_path, "tasks", runner.spec.run)] == [0]


def test_a_run_stopped_early_says_so(tmp_path: Path) -> None:
    runner = _runner(tmp_path)
    runner.step()
    assert runner.stop().status == "stopped"
    row = run_rows(tmp_path)[runner.spec.run]
    assert (row["status"], row["tasks_done"], row["tasks"]) == ("stopped", 1, 3)
    assert runner.stop().status == "stopped"


def test_a_run_ended_by_the_driver_has_the_row_that_its_worker_would_write(tmp_path: Path) -> None:
    rows = []
    for by in ("worker", "driver"):
        folder = tmp_path / by
        runner = _runner(folder)
        runner.step()
        if by == "worker":
            runner.stop()
        else:
            end_from_rows(runner.spec, folder, "stopped")
        rows.append(_rows(folder, runner.spec.run))
        assert not list((folder / "checkpoints").rglob(f"{runner.training.resume_checkpoint_key(0)}*"))
    assert rows[0] == rows[1]


def test_gathering_keeps_every_row_once(tmp_path: Path, straight: dict[str, list[dict[str, Any]]]) -> None:
    runner = _runner(tmp_path)
    while not runner.step().done:
        pass
    for _ in range(2):
        counts = gather(tmp_path)
        assert counts == {table: len(rows) for table, rows in straight.items()}
    assert run_rows(tmp_path)[runner.spec.run]["status"] == "completed"
    assert not (tables_of(tmp_path) / "runs" / f"{file_stem(runner.spec.run)}.parquet").exists()


def test_the_folder_shows_every_column_before_the_first_row(tmp_path: Path) -> None:
    start_tables(tmp_path, SCHEMAS)
    for table, schema in SCHEMAS.items():
        assert pq.read_table(tables_of(tmp_path) / table).schema.names == schema.names
        assert b"cl_search_schema_version" in (schema.metadata or {})


def test_a_spec_survives_json() -> None:
    import json

    spec = _spec("icarl", hp={"loss": "ce"})
    again = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert dataclasses.replace(again, trial=1) != spec


@pytest.mark.parametrize("run", ["../../x", "a/b:c", "/etc/passwd"])
def test_no_name_of_a_run_makes_a_folder(run: str, tmp_path: Path) -> None:
    path = tables_of(tmp_path) / "runs" / f"{file_stem(run)}.parquet"
    assert path.parent == tables_of(tmp_path) / "runs"
    assert path.resolve().parent == path.parent.resolve()


@pytest.mark.parametrize("method", ["bic", "lwf"])
@pytest.mark.parametrize("until", [1, 2])
def test_a_run_of_the_first_tasks_leaves_the_rows_that_the_whole_run_leaves_of_them(
    method: str, until: int, tmp_path: Path
) -> None:
    rows = []
    for folder, tasks in ((tmp_path / "part", until), (tmp_path / "whole", None)):
        runner = _runner(folder, _spec(method, until=tasks))
        progress = [runner.step() for _ in range(until)]
        assert [p.tasks for p in progress] == [tasks or 3] * until
        assert progress[-1].status == ("completed" if tasks else "running")
        runner.stop()
        rows.append(_rows(folder, runner.spec.run))
    part, whole = rows
    (part_row,), (whole_row,) = part.pop("runs"), whole.pop("runs")
    assert part == whole
    assert (part_row["tasks"], part_row["tasks_done"], part_row["status"]) == (until, until, "completed")
    assert (part_row["base"], part_row["increments"]) == (3, "2,2")
    assert whole_row == {**part_row, "tasks": 3, "status": "stopped"}


def test_a_run_of_the_first_tasks_has_their_sizes_in_the_results(tmp_path: Path) -> None:
    from analysis import open_results

    runner = _runner(tmp_path, _spec("lwf", until=2))
    while not runner.step().done:
        pass
    results = open_results(tmp_path)
    assert results.sizes(runner.spec.run) == (3, 2)
    assert [len(c) for c in results.confusions(runner.spec.run, "val")] == [3, 5]


def test_the_tasks_have_the_values_in_force_of_each_task(tmp_path: Path) -> None:
    options = {"lrs": "0.5", "drop": 0.0, "attempts": 2}
    runner = _runner(tmp_path, _spec("lwf", chf=options))
    while not runner.step().done:
        pass
    rows = _rows(tmp_path, runner.spec.run)
    (run,) = rows["runs"]
    assert (run["status"], run["hp.kd_weight"], run["recipe.increment.lr"]) == ("completed", 0.25, 0.05)
    first, *later = rows["tasks"]
    assert (first["hp.kd_weight"], first["recipe.lr"], first["note"]) == (0.25, 0.05, None)
    for row in later:
        attempt = int(row["note"].split("attempt ")[1][0])
        assert (row["hp.kd_weight"], row["recipe.lr"]) == (8.0 / 2 ** (attempt - 1), 0.025)

"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from analysis import equal, open_results
from cl_core.errors import BadRequest
from cl_core.hparams import hparams
from cl_core.method import METHODS
from search.cli import app, main
from search.preparation import prepared
from search.storage import lock as locks
from spaces.study.study_file import load_study
from tests import methods_table

PARADIGMS = ["baseline", "regularisation", "data replay", "feature replay"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """The one line that a bad request gets."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def write(folder: Path, **changes: Any) -> Path:
    """A study file: one cell, two trials, a second of training."""
    study = {
        "study": "small",
        "data": {"name": "digits", "per_class": 30},
        "scenarios": ["B0-5tasks"],
        "methods": ["finetune"],
        "recipe": {"epochs": 1, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
        "search": {"trials": 2},
        **changes,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    place = tmp_path_factory.mktemp("cli")
    result = call("run", write(place), "--local", "--out", place / "run")
    assert result.exit_code == 0, result.output
    assert "2 runs completed" in result.stdout
    assert f"report: {place / 'run' / 'report.html'}" in result.stdout
    return place / "run"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("serach.trials=3", "serach"),
        ("methods=[lfw]", "did you mean 'lwf'?"),
        ("data=cifar11", "did you mean 'cifar1"),
        ("recipe.lr=-1", "lr"),
        ("recipe.increment.lr={float: [0.0, 5000]}", "lr"),
        ("methods={lwf: {kd_wieght: 2}}", "did you mean 'kd_weight'?"),
        ("methods={lwf: {kd_weight: 1000}}", "kd_weight"),
        ("scenarios=[B20-5tasks]", "make the base smaller"),
        ("study=../../escape", "study"),
        ("resources.cpu=100000", "resources.cpu"),
        ("resources.gpu=100000", "resources.gpu"),
        ("resources.concurrent=100000", "resources.concurrent"),
        ("search.sampler=tpf", "did you mean 'tpe'?"),
        ("search.sampler=grid", "a grid needs finite domains, but recipe.increment.lr"),
        ("search.objective={forgetting: max}", "search.objective.forgetting must be min, not max"),
        ("search.objective=[last_accuracy, last_accuracy]", "names last_accuracy twice"),
        ("search.start_from=[runs/none]", "must be a run folder"),
        ("search.audit=0.1", "search.stopper is none"),
        ("search={stopper: wilcoxon}", "protocol.orders is 1: set it to 5 or more"),
        ("search.sampler_args={seed: 3}", "unknown argument of tpe"),
        ("budget.gpu_hours=1", "no run holds a GPU here: set budget.wall"),
        ("budget.until=2020-01-01T00:00", "is over: name a later moment"),
        ("storage.root=/proc/none", "must be writable"),
        ("storage.checkpoints=/proc/none", "storage.checkpoints must be writable"),
    ],
)
def test_a_bad_study_is_refused_in_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused("run", write(tmp_path), "--local", "--set", override)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml"]


def test_names_that_do_not_exist_are_refused_with_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'quickstart'?" in refused("run", "quickstrt")
    assert "did you mean 'methods'?" in refused("list", "method")
    assert "did you mean 'icarl'?" in refused("describe", "icral")
    assert "does not exist: check the path" in refused("run", tmp_path / "none.yaml")
    assert "--trials takes a number" in refused("run", "quickstart", "--trials", "many")


def test_folders_that_hold_no_run_are_refused(tmp_path: Path) -> None:
    for verb in ("status", "report", "gather"):
        refused(verb, tmp_path / "none")
        refused(verb, tmp_path)
    refused("logs", tmp_path, "lwf@B0-5tasks/0")
    refused("rerun", tmp_path, "lwf@B0-5tasks/0")
    (tmp_path / "holiday.jpg").touch()
    assert "it is no run folder" in refused("run", write(tmp_path), "--local", "--out", tmp_path)


def test_a_changed_recipe_in_a_folder_that_stands_is_refused(finished: Path) -> None:
    before = (finished / "study.yaml").read_bytes()
    line = refused(
        "run", finished.parent / "small.yaml", "--local", "--out", finished, "--set", "recipe.epochs=2"
    )
    assert "recipe.epochs was 1 when this folder was begun and is 2 now" in line
    assert (finished / "study.yaml").read_bytes() == before


def test_a_spent_budget_ends_with_zero_and_says_how_to_go_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    from search.jobs.spending import Spending

    reached: list[str] = []
    keep = Spending.reach
    monkeypatch.setattr(
        Spending, "reach", lambda self, job, end=False: (reached.append(job), keep(self, job, end))
    )
    over = property(lambda self: "budget.wall of 1h is spent" if len(reached) >= 8 else None)
    monkeypatch.setattr(Spending, "over", over)
    arguments = ["run", write(tmp_path), "--local", "--out", tmp_path / "run"]
    result = call(*arguments, "--set", "budget.wall=1h")
    assert result.exit_code == 0, result.output
    assert "1 runs completed" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert last.startswith("budget.wall of 1h is spent; continue with: cl-search run ")
    assert last.endswith(f"--out {tmp_path / 'run'} --local")
    assert len(reached) == 8 + 1  # five tasks and their end, two tasks, handed back
    monkeypatch.undo()
    assert "2 runs completed" in call(*arguments).stdout
    assert equal(tmp_path / "run", finished), equal(tmp_path / "run", finished)


def test_a_cell_is_paused_and_woken_from_the_command_line(tmp_path: Path) -> None:
    study = write(tmp_path, methods=["finetune", "lwf"], search={"trials": 1})
    arguments = ["run", study, "--local", "--out", tmp_path / "run"]
    assert call(*arguments, "--set", "budget.wall=0.001s").exit_code == 0
    assert "unknown cell 'lfw@B0-5tasks'" in refused("pause", tmp_path / "run", "lfw@B0-5tasks")
    assert call("pause", tmp_path / "run", "finetune@B0-5tasks").stdout == "paused: finetune@B0-5tasks\n"
    assert "priority: lwf@B0-5tasks 2" in call("priority", tmp_path / "run", "lwf@B0-5tasks", 2).stdout
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert "1 runs completed" in result.stdout
    wake = f"cl-search resume {tmp_path / 'run'} finetune@B0-5tasks && cl-search run "
    assert f"paused: finetune@B0-5tasks; continue with: {wake}" in result.stdout
    assert "finetune@B0-5tasks (paused)" in call("status", tmp_path / "run").stdout
    assert call("resume", tmp_path / "run", "finetune@B0-5tasks").stdout.startswith("paused: none\n")
    assert "2 runs completed" in call(*arguments).stdout


def test_several_objectives_are_searched_stopped_and_reported(tmp_path: Path) -> None:
    search = {
        "trials": 6,
        "sampler": "nsga2",
        "sampler_args": {"population_size": 2},
        "objective": ["last_accuracy", "old_new_gap", "kept_bytes"],
        "stopper": "asha",
        "audit": 0.5,
    }
    study = write(tmp_path, methods=["replay"], search=search)
    result = call("run", study, "--local", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    results = open_results(tmp_path / "run")
    assert (results.runs["status"] == "stopped").any()
    done = results.runs[results.runs["status"] == "completed"]
    assert (done["objective"] == done["last_accuracy"]).all()
    assert done[["old_new_gap", "kept_bytes"]].notna().all(axis=None)
    checkpoints = results.tasks.groupby("run")["kept_bytes"].last()
    assert (done.set_index("run")["kept_bytes"] == checkpoints[done["run"]]).all()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Pareto front" in page
    assert "Early stopping" in page
    plain = yaml.safe_load((tmp_path / "run" / "study.yaml").read_text())["search"]
    assert plain["sampler_args"]["crossover_prob"] == 0.9
    assert list(plain["objective"]) == search["objective"]


def test_a_study_starts_from_what_another_has_found(finished: Path, tmp_path: Path) -> None:
    arguments = ["run", write(tmp_path), "--local", "--out", tmp_path / "run"]
    start = f"search.start_from=[paper, {finished}]"
    line = refused(*arguments, "--set", start, "--set", "recipe.epochs=2")
    assert "has another space: finetune@B0-5tasks/0: recipe.epochs must be one of 2, not 1" in line
    assert not (tmp_path / "run").exists()
    result = call(*arguments, "--set", start)
    assert result.exit_code == 0, result.output
    assert "2 runs completed" in result.stdout


def test_what_the_parser_complains_of_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["train", "--method", "lwf"], ["rnu", "quickstart"], ["status", "--jsn", "x"]):
        monkeypatch.setattr(sys, "argv", ["cl-search", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_a_dry_run_shows_the_cells_and_writes_nothing(tmp_path: Path) -> None:
    study = write(tmp_path, methods=["finetune", "lwf"], protocol={"orders": 3})
    result = call("run", study, "--dry-run", "--out", tmp_path / "run")
    assert result.exit_code == 0
    for part in (
        "finetune@B0-5tasks",
        "lwf@B0-5tasks",
        "2+2+2+2+2",
        "hp.kd_weight [0.02, 8] log",
        "12 runs at most",
    ):
        assert part in result.stdout
    assert not (tmp_path / "run").exists()


def test_a_dry_run_of_the_defaults_names_no_search(tmp_path: Path) -> None:
    study = write(tmp_path, methods=["lwf"], search={"trials": 1})
    shown = call("run", study, "--dry-run", "--out", tmp_path / "run").stdout
    assert "nothing, the defaults are used" in shown
    assert "kd_weight" not in shown
    shown = call("run", study, "--dry-run", "--out", tmp_path / "run", "--set", "search.start_from=[]").stdout
    assert "kd_weight" in shown


def test_probable_mistakes_are_noted_on_stderr(tmp_path: Path) -> None:
    study = write(tmp_path, methods={"replay": {"exemplars_total": 5}})
    dry = call("run", study, "--dry-run", "--out", tmp_path / "run")
    assert dry.exit_code == 0
    note = "note: replay: hp.exemplars_total has no effect"
    assert dry.stderr.startswith(note)
    assert "has no effect" not in dry.stdout
    run = call("run", study, "--local", "--out", tmp_path / "run", "--set", "search.trials=1")
    assert run.exit_code == 0
    assert run.stderr.count(note) == 1


def test_what_has_to_be_known_of_the_images_is_said_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for k in range(32):
        path = root / ("val" if k < 8 else "train") / f"class{k % 4}" / f"{k}.jfif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 16), 8 * k).save(path, format="JPEG")
    (root / "train" / "class0" / "a.heic").touch()
    notes = [
        f"note: {root / 'val'} is the test split, as there is no test/.",
        f"note: passed over in {root}: 1 .heic, such as 'train/class0/a.heic'.",
        "note: data.size is not given, so images become 32x32 pixels: all 32 have another size,",
    ]
    study = write(
        tmp_path,
        data={"name": "image-folder", "root": str(root)},
        scenarios=["B0-2tasks"],
        recipe={"net": "convnet-small", "epochs": 1, "batch": 4},
        search={"trials": 1},
    )
    single = ["train", "--method", "finetune", "--data", "image-folder", "--scenario", "B0-2tasks", "--json"]
    sets = [f"data.root={root}", "recipe.net=convnet-small", "recipe.epochs=1", "recipe.batch=4"]
    for arguments in (
        ["run", study, "--dry-run", "--out", tmp_path / "run"],
        ["plan", study, "--out", tmp_path / "planned", "--probe-seconds", "0.1"],
        ["run", study, "--local", "--out", tmp_path / "run"],
        ["evaluate", tmp_path / "run", "--local", "--set", "final.orders=1"],
        [*single, *(part for text in sets for part in ("--set", text))],
    ):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
        lines = result.stderr.splitlines()
        for note in notes:
            assert sum(line.startswith(note) for line in lines) == 1, (arguments, lines)
    assert json.loads(result.stdout)["split"] == "val"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "images become 32x32 pixels" in page
    again = call("run", study, "--local", "--out", tmp_path / "run")
    assert "note: " not in again.stderr  # nothing is left to do


def test_a_search_without_a_test_split_is_told_so_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for k in range(8):
        (tmp_path / "train" / f"class{k // 4}").mkdir(exist_ok=True)
        Image.new("L", (32, 32), 8 * k).save(tmp_path / "train" / f"class{k // 4}" / f"{k}.png")
    study = write(
        tmp_path, data={"name": "image-folder", "root": str(tmp_path)}, scenarios=["B0-2tasks"], recipe={}
    )
    said = call("run", study, "--dry-run", "--out", tmp_path / "run").stderr
    assert said == (
        "note: data set 'image-folder' has no test split, which `evaluate` needs. Add one now: a run folder "
        "cannot change its images later.\n"
    )


def test_what_a_killed_run_was_writing_aside_is_removed_by_the_next(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(copy)], check=True)
    table = copy / "tables" / ".aside" / ".finetune@B0-5tasks--0.parquet.0123456789ab"
    young = copy / "checkpoints" / ".fedcba9876543210.safetensors.0123456789ab"
    stale = [copy / "checkpoints" / f".{name}.0123456789ab" for name in ("0123456789abcdef.safetensors", "x")]
    stale += [copy / f".{name}.0123456789ab" for name in ("study.yaml", "report.html", "control.json")]
    for path in (table, young, *stale):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for path in stale:
        os.utime(path, (0, 0))
    assert call("run", finished.parent / "small.yaml", "--local", "--out", copy).exit_code == 0
    assert [path for path in (table, young, *stale) if path.exists()] == [young]
    assert equal(finished, copy)


def test_the_same_command_again_trains_nothing(finished: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.suffix in (".parquet", ".html")
    }
    result = call("run", finished.parent / "small.yaml", "--out", finished)
    assert result.exit_code == 0
    assert "nothing to do: 2 runs completed" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_report_that_cannot_be_written_after_the_work_is_no_bad_request(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> Path:
        raise BadRequest("cannot write report.html: No space left on device")

    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(copy)], check=True)
    (copy / "report.html").unlink()
    monkeypatch.setattr("search.commands.summary.write_report", full)
    result = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the runs have ended, but the report is not written: cannot write")
    assert result.stderr.count("\n") == 1


def test_a_single_run_follows_a_protocol_and_ends_after_the_tasks_asked_for(tmp_path: Path) -> None:
    base = ["train", "--method", "lwf", "--data", "digits", "--scenario", "B0-5tasks", "--until", "2"]
    base += ["--set", "recipe.epochs=1", "--set", "data.per_class=30"]
    out = tmp_path / "chf"
    result = call(*base, "--protocol", "chf", "--out", out)
    assert result.exit_code == 0, result.output
    assert "task 2 of 2: completed" in result.stdout
    assert "note:" not in result.stderr
    results = open_results(out)
    assert results.tasks["note"].isna().tolist() == [True, False]
    assert results.tasks["hp.kd_weight"].iloc[0] == results.runs["hp.kd_weight"].iloc[0] == 0.25
    assert results.sizes("lwf@B0-5tasks/0") == (2, 2)
    assert call("rerun", out, "lwf@B0-5tasks/0").exit_code == 0
    assert "holds another run" in refused(*base, "--out", out)


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        (
            "chf",
            "note: chf sets the learning rate of finetune and relaxes nothing: no stability hyperparameter",
        ),
        ("shared-base", "note: shared-base changes nothing of finetune: its first task is the plain one"),
    ],
)
def test_a_single_run_says_where_its_protocol_changes_nothing(protocol: str, line: str) -> None:
    result = call(
        *("train", "--method", "finetune", "--data", "digits", "--scenario", "B0-5tasks", "--until", "2"),
        *("--set", "recipe.epochs=1", "--set", "data.per_class=30", "--protocol", protocol),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_a_single_run_s_file_of_an_older_version_is_the_same_run(tmp_path: Path) -> None:
    base = ["train", "--method", "finetune", "--data", "digits", "--scenario", "B0-1tasks", "--out"]
    base += [tmp_path / "run", "--set", "recipe.epochs=1", "--set", "data.per_class=30"]
    assert call(*base).exit_code == 0
    path = tmp_path / "run" / "run.json"
    values = json.loads(path.read_text())
    for key in ("until", "shared_base", "chf"):
        del values["configuration"][key]
    path.write_text(json.dumps(values))
    assert call(*base).exit_code == 0
    path.write_text('{"run": 3}')
    assert "is damaged" in refused(*base)


def test_a_damaged_study_or_journal_is_said_in_one_line(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(copy)], check=True)
    for text in ("resolved: 3", "resolved: {cells: 3}\nsearch: 3", "3", "{"):
        (copy / "study.yaml").write_text(text)
        refused("status", copy)
        refused("rerun", copy, "finetune@B0-5tasks/1")
        refused("run", finished.parent / "small.yaml", "--local", "--out", copy, "--trials", "+1")
    subprocess.run(["cp", str(finished / "study.yaml"), str(copy)], check=True)
    journal = (copy / "optuna.journal").read_text().splitlines()
    (copy / "optuna.journal").write_text("\n".join([journal[0], "garbage", *journal[1:], ""]))
    assert "optuna.journal is damaged" in refused("status", copy)
    again = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert again.exit_code == 0, again.output
    assert "optuna.journal was damaged (line 2, not its last)" in again.stderr
    assert "2 runs completed\n" in again.stdout


def test_status_counts_and_names_the_best(finished: Path) -> None:
    shown = call("status", finished).stdout
    assert "finished, 2 runs completed" in shown
    assert "best so far:" in shown
    state = json.loads(call("status", finished, "--json").stdout)
    assert state["runs"] == {"completed": 2, "stopped": 0, "failed": 0}
    assert (state["left"], state["active"], state["errors"]) == (0, False, {})
    assert state["cells"][0]["completed"] == state["cells"][0]["budget"] == 2


def test_logs_are_those_of_the_run(finished: Path) -> None:
    result = call("logs", finished, "finetune@B0-5tasks/1")
    assert result.exit_code == 0
    assert "5 of 5 tasks" in result.stdout
    assert "did you mean 'finetune@B0-5tasks/" in refused("logs", finished, "finetune@B0-5tasks/7")
    assert "is not the name of a run" in refused("logs", finished, "../../../etc/passwd")


def test_a_recorded_run_comes_out_the_same_again(finished: Path) -> None:
    result = call("rerun", finished, "finetune@B0-5tasks/1")
    assert result.exit_code == 0, result.output
    assert "equal: 1 runs" in result.stdout
    assert "finetune@B0-5tasks/1" in refused("rerun", finished, "finetune@B0-5tasks/11")


def test_gathered_tables_hold_the_same_rows(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(copy)], check=True)
    result = call("gather", copy)
    assert result.exit_code == 0
    assert "runs: 2 rows" in result.stdout
    assert equal(finished, copy)
    assert call("report", copy).exit_code == 0
    again = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert "nothing to do: 2 runs completed" in again.stdout


def test_several_runs_make_one_page(finished: Path, tmp_path: Path) -> None:
    other = write(tmp_path, study="other", methods=["lwf"], search={"trials": 1})
    assert call("run", other, "--local", "--out", tmp_path / "other").exit_code == 0
    page = tmp_path / "page.html"
    result = call("report", finished, tmp_path / "other", "--out", page)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"report: {page}\n"
    assert all(label in page.read_text() for label in ("finetune", "lwf"))
    assert "name its page with --out" in refused("report", finished, tmp_path / "other")
    assert call("report", finished, "--out", tmp_path / "one.html").exit_code == 0
    assert "lwf" not in (tmp_path / "one.html").read_text().split("<main>")[1]


def test_a_failed_run_ends_the_command_with_1_and_a_line(tmp_path: Path) -> None:
    recipe = {"lr": 100.0, "weight_decay": 1.0, "base": {"epochs": 30}}  # grows 99-fold a step
    study = write(tmp_path, methods={"finetune": None, "wild": {"method": "finetune", "recipe": recipe}})
    arguments = ("run", study, "--local", "--out", tmp_path / "run", "--set", "search.trials=1")
    for _ in range(2):  # the second time there is nothing to do, and it still has failed
        result = call(*arguments, "--set", "recipe.increment.lr=0.05")
        assert result.exit_code == 1, result.output
        assert "failed: wild@B0-5tasks/0: every loss term must stay finite" in result.stderr
        assert "Traceback" not in result.output
    assert "Traceback" in call("logs", tmp_path / "run", "wild@B0-5tasks/0").stdout
    state = json.loads(call("status", tmp_path / "run", "--json").stdout)
    assert list(state["errors"]) == ["wild@B0-5tasks/0"]


def test_a_single_run_prints_json_alone_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--method", "lwf", "--data", "digits", "--scenario", "B4-inc3", "--seed", "1"]
    arguments += ["--set", "hp.kd_weight=1", "--set", "recipe.epochs=1", "--set", "data.per_class=30"]
    shown = json.loads(call(*arguments, "--json").stdout)
    matrix = shown["accuracy_matrix"]
    assert [len(row) for row in matrix] == [3, 3, 3]
    assert matrix[0][1] is matrix[0][2] is matrix[1][2] is None
    assert matrix[0][0] == shown["first_task_accuracy"]
    assert shown["split"] == "val"
    assert {"average_incremental_accuracy", "last_accuracy", "forgetting"} <= set(shown)
    tested = json.loads(call(*arguments, "--json", "--unsealed").stdout)
    assert tested["split"] == "test"
    assert tested["accuracy_matrix"] != matrix
    assert not list(tmp_path.iterdir())


def test_a_single_run_is_kept_where_asked_with_its_model(tmp_path: Path) -> None:
    from safetensors import safe_open

    base = ["train", "--method", "finetune", "--data", "digits", "--scenario", "B0-5tasks"]
    base += ["--set", "recipe.epochs=1", "--set", "data.per_class=30"]
    for name in ("a", "b"):
        result = call(*base, "--out", tmp_path / name, "--save", tmp_path / f"{name}.safetensors")
        assert result.exit_code == 0, result.output
        assert "task 5 of 5: completed" in result.stdout
    assert equal(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        meta = json.loads(file.metadata()["cl_search"])
    assert meta["class_names"] == [str(digit) for digit in range(10)]
    assert call("rerun", tmp_path / "a", "finetune@B0-5tasks/0").exit_code == 0
    assert "holds another run" in refused(*base, "--out", tmp_path / "a", "--seed", "3")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--method", "lfw"], "did you mean 'lwf'?"),
        (["--data", "digit"], "did you mean 'digits'?"),
        (["--scenario", "B20-5tasks"], "make the base smaller"),
        (["--until", "6"], "until must be a number of tasks from 1 to the 5 of scenario"),
        (["--protocol", "shared-bse"], "did you mean 'shared-base'?"),
        (["--protocol", "chf", "--validation", "0", "--unsealed"], "chf measures on validation rows"),
        (["--set", "data.half=both"], "data.half must be tune or evaluate"),
        (["--set", "data.half=tune", "--set", "data.classes=3"], "needs at least 4 classes"),
        (["--set", "hp.temprature=2"], "did you mean 'temperature'?"),
        (["--set", "hp.temperature=0"], "temperature"),
        (["--set", "recipe.epochs=many"], "epochs"),
        (["--set", "epochs=2"], "must begin with hp., recipe. or data."),
        (["--net", "resnet33"], "did you mean 'resnet32'?"),
        (["--device", "tpu"], "device"),
        (["--threads", "0"], "threads"),
        (["--class-order", "random"], "random"),
        (["--validation", "1"], "validation"),
        (["--out", "/proc/none"], "--out must be writable"),
        (["--out", str(Path(__file__).parent)], "name an empty folder"),
        (["--save", str(Path(__file__).parent)], "is a folder"),
        (["--seed", "9" * 20], "64 bits"),
        (["--set", "recipe.net=3"], "recipe.net"),
        (["--set", "recipe.base=3"], "recipe.base.epochs=2"),
        (["--set", "recipe.lr=.inf"], "lr"),
        (["--data", "cifar10", "--set", "data.root=/nowhere"], "/nowhere"),
    ],
)
def test_a_bad_single_run_is_refused_in_one_line(changes: Sequence[str], says: str) -> None:
    base = ["train", "--method", "lwf", "--data", "digits", "--scenario", "B0-5tasks", "--json"]
    assert says in refused(*base, *changes)


def test_what_there_is_can_be_listed_and_described() -> None:
    assert "quickstart" in call("list", "presets").stdout
    shown = call("describe", "lwf").stdout
    for part in ("paradigm: regularisation", "kd_weight", "0.25", "[0.02, 8] log"):
        assert part in shown
    card = json.loads(call("describe", "icarl", "--json").stdout)
    assert card["hyperparameters"]["loss"]["acts from"] == 0
    assert (card["base family"], card["last relu"]) == ("sigmoid", False)
    assert card["base recipe"] == card["increment recipe"] == {"lr": 0.02, "weight_decay": 0.002}
    assert "search.objective" in call("describe", "study").stdout


def test_methods_are_listed_with_their_taxonomy_by_paradigm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.cli.printing.terminal", lambda: Console(width=1000))
    cards = json.loads(call("list", "methods", "--json").stdout)
    assert set(cards) == set(METHODS)
    paradigms = [card["paradigm"] for card in cards.values()]
    assert paradigms == sorted(paradigms, key=PARADIGMS.index)
    lines = [line.rstrip() for line in call("list", "methods").stdout.splitlines()]
    assert [line for line in lines if line in PARADIGMS] == PARADIGMS
    rows = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert list(rows) == list(cards)
    for name, card in cards.items():
        assert list(card) == ["title", "paradigm", "level", "kind", "base family", "paper"]
        assert all(card[key] in rows[name] for key in card if key != "paradigm")


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_is_described_whole(name: str) -> None:
    shown = call("describe", name).stdout
    card = json.loads(call("describe", name, "--json").stdout)
    made = METHODS[name]()
    for key in ("paper", "equation", "paradigm", "level", "kind", "base family", "head", "classifier"):
        assert card[key], key
        assert f"{key}: {card[key]}\n" in shown
    assert card["side heads"] == dict(made.base().side_heads)
    assert card["base parameters"] == dict(made.base().parameters)
    assert card["base recipe"] == dict(made.base().recipe)
    if not made.restarts:
        assert card["increment recipe"] == dict(made.recipe())
    for title, values in (("side heads", "none"), ("base recipe", "as the data set's")):
        said = ", ".join(f"{key} {value}" for key, value in card[title].items()) or values
        assert f"{title}: {said}\n" in shown
    assert list(card["hyperparameters"]) == list(hparams(METHODS[name].HP))
    flat = " ".join(shown.split())
    for key, param in card["hyperparameters"].items():
        searched = ", searched" if param["searched"] else ""
        boundary = ", its end" if param["at boundary"] else ""
        acts = f"task {param['acts from']}{boundary}"
        assert f"{key} {param['default']} {acts} {param['domain']}{searched} " in flat
        if param["when"]:
            assert f"when {param['when']}" in flat


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_methods_without_a_word_broken(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    def narrow() -> Console:
        return Console(width=width)

    monkeypatch.setattr("search.cli.printing.terminal", narrow)
    for arguments in (("list", "methods"), *(("describe", name) for name in METHODS)):
        wide = json.loads(call(*arguments, "--json").stdout)
        shown = call(*arguments).stdout
        assert max(map(len, shown.splitlines())) <= width
        cards = wide.values() if arguments[0] == "list" else [wide]
        for card in cards:
            words = " ".join(card[key] for key in ("title", "level", "kind", "base family", "paper")).split()
            assert {word for word in words if len(word) <= 20} <= set(shown.split())  # a path may break


def test_a_preset_is_described_by_its_file(tmp_path: Path) -> None:
    shown = call("describe", "survey-methods").stdout
    (tmp_path / "mine.yaml").write_text(shown)
    assert load_study(tmp_path / "mine.yaml") == load_study("survey-methods")
    assert shown.startswith("# ")
    assert json.loads(call("describe", "quickstart", "--json").stdout)["search"]["trials"] == 6


def test_the_readme_shows_the_methods_as_they_are() -> None:
    assert methods_table.written() == methods_table.table(), "renew it: python -m tests.methods_table --write"


def test_the_doctor_sees_versions_and_data(tmp_path: Path) -> None:
    result = call("doctor", "--json", "--root", tmp_path, "--out", tmp_path)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["data"]["digits"]["found"] is True
    assert found["data"]["cifar100"]["found"] is False
    assert found["storage"]["writable"] is True
    assert found["versions"]["torch"]


def test_help_comes_without_the_heavy_imports() -> None:
    code = (
        "import sys, search.cli; print([m for m in ('torch', 'ray', 'optuna', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_killed_command_given_again_leaves_the_rows_of_an_undisturbed_one(tmp_path: Path) -> None:
    study = write(tmp_path, search={"trials": 6})
    begin = [sys.executable, "-m", "search.cli", "run", str(study), "--local", "--out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for ending, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        process = subprocess.Popen(
            [*begin, str(tmp_path / "killed")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ended = len(list((tmp_path / "killed").glob("tables/runs/f*.parquet")))
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "killed").glob("tables/runs/f*.parquet"))) <= ended:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(ending)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code
        if code == 130:
            assert "interrupted; finished tasks are kept, continue with: cl-search run" in said
    again = call("run", study, "--local", "--out", tmp_path / "killed")
    assert "6 runs completed" in again.stdout, again.stderr
    assert call("run", study, "--local", "--out", tmp_path / "whole").exit_code == 0
    assert equal(tmp_path / "killed", tmp_path / "whole"), equal(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("run qu", ["quickstart"]),
        ("describe lwf", ["lwf"]),
        ("list meth", ["methods"]),
        ("status ", ["runs/one"]),
        ("report ru", ["runs/one"]),
        ("compare runs/one runs/", ["runs/one"]),
    ],
)
def test_the_shell_completes_names_and_folders_of_runs(
    words: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "study.yaml").touch()
    monkeypatch.chdir(tmp_path)
    line = f"cl-search {words}"
    asked = {"_CL_SEARCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = CliRunner().invoke(app, [], env=asked, prog_name="cl-search")
    assert done.stdout.split() == found


def test_the_page_of_the_search_has_every_verb() -> None:
    page = (Path(__file__).parents[3] / "search" / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"`([a-z]+)[^`]*`", page.split("| verb | does |")[1].split("\n\n")[0])
    assert set(typer.main.get_command(app).commands) <= set(shown)


@pytest.mark.parametrize(("meanwhile", "times"), [("", 1), ("# grown by another command\n", 2)])
def test_a_continued_run_resolves_its_study_again_only_where_the_folder_changed_before_its_lock(
    meanwhile: str, times: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(copy)], check=True)
    resolved: list[Any] = []
    keep, lock = prepared.resolve, locks.held

    def counted(*arguments: Any) -> Any:
        resolved.append(keep(*arguments))
        return resolved[-1]

    def held(folder: Path) -> Any:
        with (folder / "study.yaml").open("a") as file:
            file.write(meanwhile)
        return lock(folder)

    monkeypatch.setattr("search.preparation.prepared.resolve", counted)
    monkeypatch.setattr("search.commands.run.held", held)
    result = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert "nothing to do" in result.stdout, result.output
    assert len(resolved) == times

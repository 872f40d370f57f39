"""The verb `run`, and what steers it: refusals, budgets, dry runs, notes, continued folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from analysis import equal, open_results
from cl_core.errors import BadRequest
from search.preparation import prepared
from search.storage import lock as locks
from tests.search.terminal import call, refused, write


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
    assert "1 run completed" in result.stdout
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
    assert "1 run completed" in result.stdout
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
        "objective": ["last_accuracy", "old_new_gap", "kept_bytes", "parameters", "flops"],
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
    assert done[["old_new_gap", "kept_bytes", "parameters", "flops"]].notna().all(axis=None)
    for column in ("kept_bytes", "parameters", "flops"):
        checkpoints = results.tasks.groupby("run")[column].last()
        assert (done.set_index("run")[column] == checkpoints[done["run"]]).all()
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


def test_a_killed_command_given_again_leaves_the_rows_of_an_undisturbed_one(tmp_path: Path) -> None:
    study = write(tmp_path, search={"trials": 4})
    begin = [sys.executable, "-m", "search.cli", "run", str(study), "--local", "--out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for ending, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
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
        said, _ = process.communicate(timeout=60)
        assert process.returncode == code
        assert code or "SIGTERM was received; continue with: cl-search run" in said
    again = call("run", study, "--local", "--out", tmp_path / "killed")
    assert "4 runs completed" in again.stdout, again.stderr
    assert call("run", study, "--local", "--out", tmp_path / "whole").exit_code == 0
    assert equal(tmp_path / "killed", tmp_path / "whole"), equal(tmp_path / "killed", tmp_path / "whole")


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
    monkeypatch.setattr("search.remote.working_copy.held", held)
    result = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert "nothing to do" in result.stdout, result.output
    assert len(resolved) == times

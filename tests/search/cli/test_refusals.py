"""Bad requests on the command line: one line each, before any work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from search.cli import main
from tests.search.terminal import refused, write


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

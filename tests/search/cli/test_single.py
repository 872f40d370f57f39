"""The verb `train`: one run, printed or kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import equal, open_results
from cl_core.errors import BadRequest
from search.commands.train import train
from search.preparation.train_request import TrainRequest, settings
from tests.search.terminal import call, refused


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


def test_settings_of_a_trial_are_sorted_by_what_they_belong_to() -> None:
    sets = [
        "hp.kd_weight=3",
        "recipe.lr=5e-4",
        "recipe.base.epochs=2",
        "data.root=~/x",
        "recipe.net=resnet32",
    ]
    hp, recipe, data, rest = settings(sets)
    assert hp == {"kd_weight": 3}
    assert recipe == {"lr": 5e-4, "base": {"epochs": 2}}
    assert (data, rest) == ({"root": "~/x"}, {"net": "resnet32"})
    for bad in ("hp.kd_weight", "lr=1", "protocol.orders=2"):
        with pytest.raises(BadRequest, match="--set"):
            settings([bad])


def test_the_folder_of_a_single_run_takes_no_other_run(tmp_path: Path) -> None:
    request = TrainRequest(
        "finetune", "digits", "B5-1tasks", ["recipe.epochs=1", "data.per_class=20"], out=tmp_path / "a"
    )
    first = train(request)
    assert train(request) == first
    with pytest.raises(BadRequest, match="holds another run"):
        train(replace(request, seed=1))
    with pytest.raises(BadRequest, match="leaves nothing to measure on"):
        train(replace(request, out=None, validation=0.0))

"""A run's folder and the code of its runs: what has changed is named, refused, or told apart; and so are
threads and device."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from analysis.lake.run_rows import run_rows
from analysis.selection.mixture import mixtures
from cl_core.errors import BadRequest
from search.backends.allocation import Allocation, keep_device
from search.cli import app
from search.commands.run import run_study
from search.commands.train import TrainRequest, train
from search.preparation.prepared import prepare
from search.storage.code_record import read_code
from spaces.resolved.resolve import resolve
from spaces.study.study_file import load_study
from tests import tiny

ROOT = Path(__file__).parents[3]
HELPER = "from torch import nn\nACTIVATION = nn.ReLU\n"
NET = (
    "from torch import nn\nfrom coded_help import ACTIVATION\n"
    "def make(shape, last_relu):\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 8), ACTIVATION())\n"
)
STUDY: dict[str, Any] = {
    "study": "coded",
    "data": {"name": "synthetic", "classes": 4, "per_class": 8},
    "scenarios": ["B0-2tasks"],
    "methods": ["lwf"],
    "recipe": {"epochs": 1, "net": "coded_net:make"},
    "search": {"trials": 2},
    "final": {"orders": 1},
}
LWF = "lwf@B0-2tasks"


@contextlib.contextmanager
def net_in(place: Path) -> Iterator[Path]:
    """Write a net of your own into a folder from which it is imported; yield the file of its helper."""
    (place / "coded_help.py").write_text(HELPER)
    (place / "coded_net.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        yield place / "coded_help.py"
    for name in ("coded_net", "coded_help"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with a net of your own. Read only."""
    place = tmp_path_factory.mktemp("coded")
    with net_in(place):
        return run_study(STUDY, place / "run", local=True).folder


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Path]:
    """The file of a module that a net of your own imports."""
    with net_in(tmp_path) as file:
        yield file


@pytest.fixture
def begun(finished: Path, helper: Path, tmp_path: Path) -> Path:
    """A copy of the finished run; the study file lies beside it."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return shutil.copytree(finished, tmp_path / "run")


def call(verb: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, [verb, *map(str, arguments), "--own-code"])


def codes(folder: Path) -> list[str]:
    return [row["code"] for _, row in sorted(run_rows(folder).items())]


def test_a_changed_helper_is_named_and_refused_by_every_verb_that_would_mix(
    begun: Path, helper: Path
) -> None:
    study = begun.parent / "study.yaml"
    again = [study, "--local", "--out", begun]
    assert "nothing to do: 2 runs completed" in call("run", *again).output
    helper.write_text(HELPER.replace("ReLU", "Tanh"))
    for verb, arguments in {
        "run": again,
        "run ": [*again, "--dry-run"],
        "run  ": [*again, "--trials", "+1"],
        "evaluate": [begun, "--local"],
        "evaluate ": [begun, "--local", "--dry-run"],
    }.items():
        done = call(verb.strip(), *arguments)
        assert done.exit_code == 2, done.output
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith(f"error: coded_help.py changed since the runs in {begun}")
        assert line.endswith(
            "use another --out, or continue with --accept-code, which notes the code of each run"
        )
    assert len(set(codes(begun))) == 1
    assert not (begun / "ledger.jsonl").exists()
    helper.write_text(HELPER + "# only a comment\n")
    assert "nothing to do: 2 runs completed" in call("run", *again).output


def test_what_is_accepted_is_told_apart_in_the_tables_and_wherever_the_numbers_are(
    begun: Path, helper: Path
) -> None:
    helper.write_text(HELPER.replace("ReLU", "Tanh"))
    again = [begun.parent / "study.yaml", "--local", "--out", begun]
    done = call("run", *again, "--trials", "+1", "--accept-code")
    assert done.exit_code == 0, done.output
    assert "note: coded_help.py changed: runs train with the new code from now on" in done.stderr
    assert "2 of 3 runs that have ended were trained by other code than is here" in done.output
    one, two, three = codes(begun)
    assert one == two != three
    assert [entry["changed"] for entry in json.loads((begun / "code.json").read_text())["accepted"]] == [
        ["coded_help.py changed"]
    ]
    quiet = call("run", *again)  # what was accepted is not asked for again, and not forgotten
    assert quiet.exit_code == 0
    assert "nothing to do: 3 runs completed" in quiet.output
    assert "2 of 3 runs that have ended were trained by other code than is here" in quiet.output
    mixed = f"{LWF}: runs of 2 versions of the code are mixed"
    assert f"warning: {mixed}" in CliRunner().invoke(app, ["status", str(begun)]).output
    assert f"Warning: {mixed}" in (begun / "report.html").read_text()
    told = call("rerun", begun, f"{LWF}/0").output
    assert f"note: {LWF}/0 was trained by other code than is here: coded_help.py changed" in told
    assert "note" not in call("rerun", begun, f"{LWF}/2").output
    assert call("evaluate", begun, "--local").exit_code == 0


def test_a_model_of_other_code_is_trained_again_and_the_note_says_so(begun: Path, helper: Path) -> None:
    assert "note" not in call("export", begun).output
    helper.write_text(HELPER + "MORE = 1\n")
    again = call("export", begun).output
    assert "was trained by other code than is here: coded_help.py changed" in again
    assert "task 1 of 2" in again
    assert "task 1 of 2" not in call("export", begun).output


def test_an_edited_loss_is_named_before_anything_is_done(tmp_path: Path) -> None:
    """With the packages as they lie, and a copy of them with another loss."""
    plain = {**STUDY, "recipe": {"epochs": 1}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plain))
    run_study(plain, tmp_path / "run", local=True)
    copy = tmp_path / "copy"
    for package in ("cl_core", "spaces", "search", "analysis"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    for name in ("icarl.py", "lwf.py"):  # the study trains one of them
        loss = copy / "cl_core" / "methods" / name
        loss.write_text(loss.read_text().replace("def loss(", "def loss_as_it_was("))
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "run", "study.yaml", "--local", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: cl_core/methods/lwf.py changed since the runs in run,")


def test_new_methods_and_other_files_are_no_change(begun: Path) -> None:
    before = read_code(begun)
    assert before is not None
    assert "cl_core/methods/icarl.py" not in before.files
    grown = {**STUDY, "methods": ["lwf", "icarl"]}
    run_study(grown, begun, ["methods.icarl.exemplars_per_class=2"], local=True)
    after = read_code(begun)
    assert after is not None
    assert before.files.items() < after.files.items()
    assert not after.accepted


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', "{"])
def test_a_damaged_record_is_one_line(text: str, begun: Path) -> None:
    (begun / "code.json").write_text(text)
    with pytest.raises(BadRequest, match=r"code\.json is damaged .*restore it from a copy"):
        prepare(STUDY, begun, local=True)


def test_versions_are_part_of_the_code(begun: Path) -> None:
    path = begun / "code.json"
    plain = json.loads(path.read_text())
    now = plain["versions"]["torch"]
    path.write_text(json.dumps({**plain, "versions": {**plain["versions"], "torch": "1.0"}}))
    with pytest.raises(BadRequest, match=rf"^torch 1\.0 became {now.replace('+', '.')} since the runs in"):
        prepare(STUDY, begun, local=True)


def test_weights_to_start_from_and_a_class_order_may_not_change_behind_their_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights, order = tmp_path / "weights.safetensors", tmp_path / "order.txt"
    net = tiny.run("finetune").training.state.net.backbone
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, weights)
    order.write_text("3\n2\n1\n0\n")
    plain = {
        **STUDY,
        "recipe": {"epochs": 1, "init": str(weights)},
        "scenarios": [{"name": "B0-2tasks", "class_order": str(order)}],
    }
    folder = run_study(plain, tmp_path / "run", local=True).folder
    order.write_text("0\n1\n3\n2\n")
    with pytest.raises(BadRequest, match=r"order\.txt changed since"):
        prepare(plain, folder, local=True)
    order.write_text("3\n2\n1\n0\n")
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(BadRequest, match=r"weights\.safetensors changed since"):
        prepare(plain, folder, local=True)


def test_a_single_run_s_folder_is_refused_with_other_code(helper: Path, tmp_path: Path) -> None:
    sets = ("recipe.epochs=1", "data.classes=4", "data.per_class=8")
    request = TrainRequest("lwf", "synthetic", "B0-2tasks", sets, out=tmp_path / "one", net="coded_net:make")
    train(request)
    train(request)
    helper.write_text(HELPER + "MORE = 1\n")
    with pytest.raises(BadRequest, match=r"coded_help\.py changed since .*: name an empty folder"):
        train(request)


# Threads and devices


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one configuration with one thread."""
    plain = {**STUDY, "recipe": {"epochs": 1}, "search": {"trials": 1}}
    return run_study(plain, tmp_path_factory.mktemp("single") / "run", local=True).folder


def test_threads_and_device_are_those_that_the_folder_was_begun_with(single: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(single, tmp_path / "run")
    more = {**STUDY, "recipe": {"epochs": 1}, "search": {"trials": 2}, "resources": {"cpu": 2}}
    said: list[str] = []
    run_study(more, folder, local=True, warn=said.extend)
    assert said[0].startswith("runs keep the number of threads (1) of the folder: ")
    assert [row["threads"] for row in run_rows(folder).values()] == [1, 1]
    assert [row["device"] for row in run_rows(folder).values()] == ["cpu", "cpu"]
    resolved = yaml.safe_load((folder / "study.yaml").read_text())["resolved"]
    assert (resolved["threads"], resolved["device"]) == (1, "cpu")
    again = prepare(more, folder, local=True).study
    cell = again.cells[0]
    made = again.configuration(cell, cell.space.defaults(), "natural", 0)
    assert (made.threads, made.device) == (1, "cpu")


@pytest.mark.parametrize(
    ("begun", "gpu", "asked", "says"),
    [
        ("cpu", 0.5, 0.5, "resources.gpu must be 0 in a folder that was begun on the CPU, not 0.5"),
        ("cuda", 0.0, None, "the folder was begun on a GPU, and a run gets none here"),
    ],
)
def test_another_device_is_refused(begun: str, gpu: float, asked: float | None, says: str) -> None:
    study = load_study({**STUDY, "recipe": {}, "resources": {"gpu": asked}})
    resolved = replace(resolve(study, tiny.data(4, 8)), device=begun)
    with pytest.raises(BadRequest, match=says):
        keep_device(resolved, Allocation(1.0, gpu, 1, 2, 1), study.resources)


def test_a_folder_of_the_cpu_stays_there_on_a_machine_with_a_gpu() -> None:
    study = load_study({**STUDY, "recipe": {}})
    resolved = replace(resolve(study, tiny.data(4, 8)), device="cpu")
    planned, notes = keep_device(resolved, Allocation(1.0, 0.5, 2, 2, 1), study.resources)
    assert planned.gpu == 0
    assert notes == ["runs stay on the CPU, where the folder was begun"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("cpu", 0.001, "resources.cpu must be 0.25 or more, not 0.001, .*: take 0.5 for two runs on a CPU"),
        ("cpu", 0, "resources.cpu must be 0.25 or more, not 0"),
        ("gpu", 0.0001, "resources.gpu must be 0, or 0.05 or more, not 0.0001, .*: take 0.25"),
        ("concurrent", 10**6, "resources.concurrent must be at most 10000"),
    ],
)
def test_resources_that_no_machine_can_serve_are_refused(key: str, value: float, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        load_study({**STUDY, "resources": {key: value}})
    assert load_study({**STUDY, "resources": {"cpu": 0.5, "gpu": 0.25}}).resources.cpu == 0.5


def test_mixed_runs_are_named_by_what_differs() -> None:
    def row(cell: str, **more: Any) -> dict[str, Any]:
        plain = {"code": "a", "threads": 1, "device": "cpu", "precision": "float32", "numerics": "n"}
        return {"cell": cell, "purpose": "search", **plain, **more}

    assert mixtures([row("a"), row("a"), row("b", code="b")]) == []
    assert mixtures([row("a"), row("a", purpose="final", code="b"), row("a", code=None)]) == []
    rows = [row(cell, **more) for cell in "dcba" for more in ({}, {"code": "b"})]
    assert mixtures(rows) == ["a, b, c and 1 more cells: runs of 2 versions of the code are mixed"]
    assert mixtures([row("a", threads=1.0), row("a", threads=2, numerics="m")]) == [
        "a: runs of 2 numbers of threads (1, 2) are mixed"
    ]
    assert mixtures([row("a", device="cuda:0"), row("a", device="cuda:1")]) == []
    assert mixtures([row("a"), row("a", numerics="m", threads=float("nan"))]) == [
        "a: runs of machines that calculate differently are mixed"
    ]

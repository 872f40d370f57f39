"""Code that a file names: no verb imports or calls any of it before it is permitted."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from analysis.lake.run_folder import JOURNAL, SCHEMA
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from cl_core.method import METHODS
from cl_core.own_code import only
from search.cli import app
from search.commands.evaluate import evaluate
from search.commands.export import export
from search.commands.rerun import rerun
from search.commands.run import run_study
from search.lake.writer import write_rows
from search.preparation.prepared import prepare
from tests.search.terminal import call

# A module that leaves a file behind when it is imported, and when its data are loaded.
MODULE = """
from pathlib import Path
import numpy as np
from cl_core.images.dataset import Data
from cl_core.methods.lwf import LwF
from cl_core.nets.convnet import ConvNet

Path(__file__).with_name("imported").touch()

class Mine(LwF):
    title = "of your own"

def net(shape, last_relu):
    return ConvNet(shape[0], 4, last_relu)

def load(root):
    y = np.repeat(np.arange(4), 8)
    x = np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8)
    return Data.from_arrays(x, y, test=(x, y))
"""
PARTS: dict[str, dict[str, Any]] = {
    "data set": {"data": "own_part:load"},
    "net": {"recipe": {"epochs": 1, "net": "own_part:net"}},
    "method": {"methods": {"mine": {"method": "own_part:Mine"}}},
}
STUDY: dict[str, Any] = {
    "study": "own",
    "data": {"name": "synthetic", "classes": 4, "per_class": 8},
    "scenarios": ["B0-2tasks"],
    "methods": {"mine": {"method": "lwf"}},
    "recipe": {"epochs": 1},
    "search": {"trials": 1},
    "final": {"orders": 1},
}
REFERENCE = {"data set": "own_part:load", "net": "own_part:net", "method": "own_part:Mine"}


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a module that is not imported yet."""
    place = tmp_path / "modules"
    place.mkdir()
    (place / "own_part.py").write_text(MODULE)
    monkeypatch.syspath_prepend(place)
    yield place
    sys.modules.pop("own_part", None)


@pytest.fixture(scope="module", params=list(PARTS))
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A kind of part, and the folder of an evaluated run with one of your own, beside its study file."""
    place = tmp_path_factory.mktemp("begun")
    (place / "own_part.py").write_text(MODULE)
    sys.path.insert(0, str(place))
    try:
        plain = {**STUDY, **PARTS[request.param]}
        folder = run_study(plain, place / "run", local=True).folder
        evaluate(folder, local=True, own_code=True)
        export(folder, own_code=True)
    finally:
        sys.path.remove(str(place))
        sys.modules.pop("own_part", None)
    (place / "study.yaml").write_text(yaml.safe_dump(plain))
    return request.param, place


CELL = "mine@B0-2tasks"
VERBS: dict[str, list[str]] = {  # of a place with run/ and study.yaml; what runs code is refused
    "run": ["study.yaml", "--local", "--out", "new"],
    "plan": ["study.yaml", "--out", "new"],
    "evaluate": ["run", "--local"],
    "export": ["run", "--out", "new"],
    "rerun": ["run", f"{CELL}/0"],
    "pictures": ["run", f"{CELL}/0"],
    "predict": [f"run/export/{CELL}/model.safetensors", "image.png"],
}
READERS: dict[str, list[str]] = {  # what shows a folder needs none of its code
    "report": ["run"],
    "status": ["run"],
    "logs": ["run", f"{CELL}/0"],
    "gather": ["run"],
    "prune": ["run"],
    "advise": ["run"],
    "track": ["run", "--to", "tensorboard"],
    "compare": ["run", "run"],
    "pause": ["run", CELL],
    "resume": ["run", CELL],
    "priority": ["run", CELL, "1"],
}
WITHOUT_FILES = {"cluster", "list", "describe", "check", "doctor", "train"}


def test_every_verb_is_looked_at() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert names == {*VERBS, *READERS, *WITHOUT_FILES}


@pytest.fixture
def copied(begun: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of part; its folder, study file and an image are in the working folder."""
    kind, place = begun
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.copy(place / "study.yaml", tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    return kind


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_runs_what_a_file_names_before_it_is_permitted(
    verb: str, copied: str, module: Path, tmp_path: Path
) -> None:
    done = call(verb, *VERBS[verb])
    assert not (module / "imported").exists()
    assert "own_part" not in sys.modules
    if verb == "predict" and copied == "data set":
        assert done.exit_code == 0, done.output
        return
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.strip().splitlines()
    if verb == "pictures" and copied != "method":
        assert "lwf makes none" in line
        return
    assert f"{copied} '{REFERENCE[copied]}' is code that a file names" in line
    assert "add --own-code" in line
    assert not (tmp_path / "new").exists()
    if (
        copied == "net" and verb != "run"
    ) or verb == "pictures":  # trained as the method is; made by none here
        return
    permitted = call(verb, *VERBS[verb], "--own-code", *(["--probe-seconds", 1] if verb == "plan" else []))
    assert permitted.exit_code == 0, permitted.output
    assert (module / "imported").exists() or copied == "data set"  # its images may be known already


def test_no_verb_that_shows_a_folder_imports_what_it_names(copied: str, module: Path) -> None:
    for verb, arguments in READERS.items():
        call(verb, *arguments, code=0)
        assert not (module / "imported").exists(), verb
        assert "own_part" not in sys.modules, verb


@pytest.mark.parametrize("arguments", [["run", "--dry-run"], ["run", "--local"], ["plan"]])
def test_a_function_that_is_no_loader_is_not_called(arguments: list[str], tmp_path: Path) -> None:
    verb, *more = arguments
    file, trace = tmp_path / "study.yaml", tmp_path / "touched"
    file.write_text(yaml.safe_dump({**STUDY, "data": {"name": "os:system", "root": f"touch {trace}"}}))
    done = call(verb, file, *more, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "data set 'os:system' is code that a file names" in done.stderr
    assert not trace.exists()
    assert not (tmp_path / "run").exists()


# The console script, for which Python itself does not look into the working folder: a line for each command
# with its exit code, and with 1 if the module has been imported by then.
SCRIPT = """
import sys
from pathlib import Path
sys.path[0] = {place!r}
from search.cli import main
for words in {commands!r}:
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        print("ended", end.code, int(Path("imported").exists()), flush=True)
"""


def test_a_folder_in_which_a_command_is_given_is_no_installed_distribution(
    module: Path, tmp_path: Path
) -> None:
    """An entry point of each kind is in the run's own folder, as metadata of a distribution."""
    folder = run_study(STUDY, tmp_path / "run", local=True).folder
    shutil.copy(module / "own_part.py", folder)
    info = folder / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    kinds = {"view": "load", "net": "net", "method": "Mine", "data_set": "load"}
    points = "".join(f"[cl_search.{kind}]\nown = own_part:{name}\n" for kind, name in kinds.items())
    (info / "entry_points.txt").write_text(points)
    commands = [["report", "."], ["describe", "own"], ["describe", "own_part:Mine"]]
    code = SCRIPT.format(place=str(Path(__file__).parents[3]), commands=commands)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    ends = [line for line in done.stdout.splitlines() if line.startswith("ended")]
    # The last name was typed, so it is found where the command is given.
    assert ends == ["ended 0 0", "ended 2 0", "ended 0 1"], done.stderr
    assert "title: of your own" in done.stdout


def test_what_the_user_types_needs_no_permission_and_the_folder_s_does(module: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    own = ["run", file, "--local", "--out", tmp_path / "run", "--set", "recipe.net=own_part:net"]
    assert call(*own).exit_code == 0
    again = call(*own)  # the folder names what is typed
    assert again.exit_code == 0
    assert "nothing to do" in again.output
    other = call("run", file, "--local", "--out", tmp_path / "run")
    assert other.exit_code == 2
    sys.modules.pop("own_part")
    (module / "imported").unlink()
    assert "own-code" in call("rerun", tmp_path / "run", f"{CELL}/0").stderr
    assert not (module / "imported").exists()


@pytest.mark.parametrize("where", ["journal", "tables"])
def test_what_a_folder_names_beside_its_study_file_is_not_imported(
    where: str, module: Path, tmp_path: Path
) -> None:
    file, folder = tmp_path / "study.yaml", tmp_path / "run"
    nets = {"choice": ["convnet", "convnet-small"]}
    file.write_text(yaml.safe_dump({**STUDY, "recipe": {"epochs": 1, "net": nets}}))
    command = ["run", file, "--local", "--out", folder]
    assert call(*command).exit_code == 0
    trial, row = next(iter(run_rows(folder).items()))
    if where == "journal":  # a configuration that is still to run
        shutil.rmtree(folder / "tables")
        journal, named = folder / JOURNAL, f'"recipe.net":"{row["net"]}"'
        text = journal.read_text()
        assert named in text
        other = text.replace(named, '"recipe.net":"own_part:net"')
        journal.write_text(re.sub(r',"crc32":"[0-9a-f]{8}"', "", other))  # as lines without a checksum are
    else:
        schema = pq.read_schema(folder / "tables" / "runs" / SCHEMA)
        write_rows(folder, "runs", trial, [{**row, "net": "own_part:net"}], schema)
    done = call(*command)
    assert not (module / "imported").exists()
    if where == "journal":
        assert (done.exit_code, "net 'own_part:net' is code that a file names" in done.stderr) == (2, True)
    else:
        assert "1 of 1 runs that have ended were trained by other code than is here" in done.output


def test_a_program_s_own_studies_need_no_permission_and_its_files_do(tmp_path: Path) -> None:
    plain = {**STUDY, **PARTS["net"]}
    assert prepare(plain, tmp_path / "run").study.name == "own"
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(plain))
    with pytest.raises(BadRequest, match="own_code=True"):
        prepare(file, tmp_path / "run")
    assert prepare(file, tmp_path / "run", own_code=True).study.name == "own"
    for verb in (lambda: evaluate(tmp_path), lambda: rerun(tmp_path, "a@b/0"), lambda: export(tmp_path)):
        with pytest.raises(BadRequest):  # no run's folder; the permission is taken back all the same
            verb()
    assert METHODS["own_part:Mine"].title == "of your own"


def test_the_innermost_permission_counts_and_is_taken_back() -> None:
    with only(()):
        with only(["own_part:Mine"]):
            assert METHODS["own_part:Mine"].title == "of your own"
            with pytest.raises(BadRequest, match="'own_part:net' is code that a file names"):
                METHODS["own_part:net"]
        with pytest.raises(BadRequest, match="'own_part:Mine' is code that a file names"):
            METHODS["own_part:Mine"]
    assert METHODS["own_part:Mine"].title == "of your own"

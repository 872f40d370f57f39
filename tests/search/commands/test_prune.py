"""`prune` removes what a finished study can do without, and nothing that a run still needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from analysis import equal
from analysis.lake.run_folder import CHECKPOINTS, DAMAGED, LOGS, RESUME
from cl_core.errors import BadRequest
from search.commands.prune import prune
from search.commands.run import run_study
from search.commands.status import status
from tests.search.terminal import call, write


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def _files(folder: Path, below: str) -> list[Path]:
    return [path for path in (folder / below).rglob("*") if path.is_file()]


def test_a_finished_study_keeps_its_tables_and_loses_its_checkpoints(copied: Path, finished: Path) -> None:
    (copied / RESUME).mkdir(exist_ok=True)
    (copied / RESUME / f"{'a' * 20}.safetensors").write_bytes(b"left by a killed process")
    (copied / DAMAGED / "tables").mkdir(parents=True)
    (copied / DAMAGED / "tables" / "x.parquet").write_bytes(b"12345")
    there = {each.kind: each for each in prune(copied, dry_run=True)}
    assert there["damaged files"].bytes == 5
    assert there["resume checkpoints"].files == 1
    assert there["base checkpoints"].files >= 1
    assert _files(copied, DAMAGED)
    assert prune(copied) == list(there.values())
    assert not _files(copied, CHECKPOINTS)
    assert not _files(copied, DAMAGED)
    assert _files(copied, LOGS)
    assert equal(copied, finished)


def test_logs_go_only_where_asked_for(copied: Path) -> None:
    done = call("prune", copied, "--logs")
    assert "removed" in done.stdout
    assert not _files(copied, LOGS)
    assert status(copied)["bytes"]["logs"] == 0
    again = call("prune", copied, "--logs")
    assert again.stdout.splitlines() == [f"{copied}: 0 B removed"]


def test_a_study_with_runs_left_keeps_its_checkpoints(tmp_path: Path) -> None:
    small = write(tmp_path, search={"trials": 2})
    run_study(str(small), tmp_path / "run", ["search.trials=1"], local=True)
    text = (tmp_path / "run" / "study.yaml").read_text()
    assert "budget: 1" in text
    (tmp_path / "run" / "study.yaml").write_text(text.replace("budget: 1", "budget: 2"))
    kept = {each.kind: each.kept for each in prune(tmp_path / "run")}
    assert "trials" in kept["base checkpoints"]
    assert _files(tmp_path / "run", CHECKPOINTS)


def test_a_folder_in_which_a_command_works_is_left_alone(copied: Path) -> None:
    with pytest.raises(BadRequest, match="is no run folder of a study"):
        prune(copied / CHECKPOINTS)
    (copied / ".lock").unlink(missing_ok=True)
    with FileLock(copied / ".lock"), pytest.raises(BadRequest, match="another run is working in"):
        prune(copied)
    assert _files(copied, CHECKPOINTS)

"""The dispatcher: rows of runs that stop, whose worker is gone, or whose disk is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.lake.run_rows import run_rows
from cl_core.errors import RunError
from search.backends.local import run_local
from search.jobs.dispatcher import StorageError
from search.worker import worker as worker_module
from search.worker.worker import Worker
from tests.search.jobs_by_hand import StandIn, dispatching, jobs


def test_a_full_disk_is_not_the_failure_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*given: object) -> None:
        raise RunError("a checkpoint must be writable")

    monkeypatch.setattr(worker_module, "Runner", diverges)
    monkeypatch.setattr(worker_module, "folder_trouble", lambda folder: "No space left on device")
    cells = StandIn(jobs("0", "1"))
    with pytest.raises(StorageError, match="No space left on device"):
        run_local(dispatching(cells, tmp_path))
    assert run_rows(tmp_path) == {}
    assert cells.told == []


def test_a_stopped_run_gets_its_row_from_the_driver(tmp_path: Path) -> None:
    cells = StandIn(jobs("0", "1"), stop_at=("finetune@B0-5tasks/0", 1))
    run_local(dispatching(cells, tmp_path))
    rows = run_rows(tmp_path)
    assert [(r["status"], r["tasks_done"]) for _, r in sorted(rows.items())] == [
        ("stopped", 2),
        ("completed", 5),
    ]
    assert ("done", "finetune@B0-5tasks/0", "stopped", None) in cells.told
    assert rows["finetune@B0-5tasks/0"]["average_incremental_accuracy"] is not None
    assert len(list((tmp_path / "checkpoints").rglob("*.safetensors"))) == 1  # the base checkpoint alone


def test_a_run_whose_worker_is_gone_gets_a_failed_row(tmp_path: Path) -> None:
    cells = StandIn(jobs("0"))
    driver = dispatching(cells, tmp_path)
    given = driver.next()
    assert given is not None
    assert not driver.answer(Worker(given, driver.space).step())
    driver.lost(given.id, "the worker process died 3 times")
    row = run_rows(tmp_path)[given.id]
    assert (row["status"], row["tasks_done"]) == ("failed", 1)
    assert "died 3 times" in row["error"]
    assert not driver.is_open(given.id)

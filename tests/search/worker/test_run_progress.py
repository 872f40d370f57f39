"""Progress inside a run: written while it trains, read by any process, gone at its end."""

from __future__ import annotations

from pathlib import Path

from search.worker.progress import (
    RunProgress,
    progress_file,
    read_progress_files,
    remove_progress,
    watch_run,
    write_progress,
)
from tests import tiny

HERE = RunProgress("lwf@B0-5tasks/3/seed:1/s0", 1, 5, "train", 3, 4, 0.0)


def test_what_is_written_is_read_until_it_is_removed(tmp_path: Path) -> None:
    other = RunProgress("lwf@B0-5tasks/4", 0, 5, "train", 0, 4, 0.0)
    for progress in (HERE, other):
        write_progress(tmp_path, progress)
    assert read_progress_files(tmp_path) == [HERE, other]
    assert HERE.fraction == (1 + 3 / 4) / 5
    remove_progress(tmp_path, HERE.run)
    assert read_progress_files(tmp_path) == [other]
    remove_progress(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_training_writes_once_a_second_at_most(tmp_path: Path) -> None:
    ticks = iter([0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8])
    seen = []
    watch = watch_run(tmp_path, "finetune@B/0", clock=lambda: next(ticks))

    def looked_at(event: object) -> None:
        watch(event)  # type: ignore[arg-type]
        seen.append(read_progress_files(tmp_path))

    tiny.train(tiny.configuration("finetune", until=2), watch=looked_at)
    found = [(p.task, p.epoch, p.epochs) for progress in seen for p in progress]
    assert found == [(0, 0, 2)] * 3 + [(0, 2, 2)] * 3 + [(1, 2, 2)] * 2  # events at 0.0, 1.2 and 2.4 s


def test_a_folder_that_takes_no_file_and_a_torn_file_disturb_nobody(tmp_path: Path) -> None:
    write_progress(tmp_path / "gone", HERE)
    remove_progress(tmp_path / "gone")
    write_progress(tmp_path, HERE)
    progress_file(tmp_path, HERE.run).write_text('{"run": ')
    assert read_progress_files(tmp_path) == []

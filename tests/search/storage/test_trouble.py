"""Trouble with a disk, told from the failure of a run."""

from __future__ import annotations

import errno
from pathlib import Path

from cl_core.errors import named_line
from search.storage.trouble import is_storage, storage_trouble
from search.worker.job import NO_STORAGE


def test_what_a_disk_says_is_told_from_what_a_run_says(tmp_path: Path) -> None:
    assert is_storage(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_storage(FileNotFoundError(errno.ENOENT, "gone"))
    assert not is_storage(ValueError("no"))
    assert storage_trouble(tmp_path) is None
    assert storage_trouble(tmp_path / "gone") == "No such file or directory"
    assert not list(tmp_path.iterdir())
    assert named_line(ValueError("one\ntwo")) == "ValueError: one"
    assert NO_STORAGE not in ("completed", "stopped", "failed")

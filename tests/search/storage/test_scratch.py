"""Folders for temporary files: gone at the end, and after a kill with the next command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.storage.scratch import scratch

HOLD = """
import sys
from search.storage.scratch import scratch

with scratch() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_command_left_is_removed_and_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    others = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    places = [Path(other.stdout.readline().strip()) for other in others if other.stdout is not None]
    (places[0] / "file").touch()
    (tmp_path / "cl-search-work-of-somebody").mkdir()  # no lock: not ours
    others[0].send_signal(signal.SIGKILL)
    others[0].wait()
    assert places[0].exists()
    with scratch() as mine:
        assert [places[0].exists(), places[1].exists(), mine.is_dir()] == [False, True, True]
    assert not mine.exists()
    for other in others:
        other.communicate()
    assert [path.name for path in tmp_path.iterdir()] == ["cl-search-work-of-somebody"]

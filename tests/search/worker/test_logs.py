"""The log of a run: one file, below the run folder, and no harm where it cannot be written."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from analysis.lake.run_folder import log_file
from cl_core.errors import BadRequest
from search.worker.logs import checked_run, logged


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "", "a\0b", "a b"])
def test_no_name_of_a_run_leaves_the_run_folder(name: str) -> None:
    with pytest.raises(BadRequest, match="is not the name of a run"):
        checked_run(name)


def test_a_run_has_one_log(tmp_path: Path) -> None:
    assert checked_run("lwf@B0-5tasks/3/seed:1/s0") == "lwf@B0-5tasks/3/seed:1/s0"
    path = log_file(tmp_path, "lwf@B0-5tasks/3/seed:1/s0")
    assert path == tmp_path / "logs" / "lwf@B0-5tasks--3--seed-1--s0.log"
    with logged(path):
        print("said")
        print("complained", file=sys.stderr)
    with logged(path):
        print("again")
    assert path.read_text() == "said\ncomplained\nagain\n"


def test_a_log_that_cannot_be_written_harms_no_run(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    with logged(tmp_path / "logs" / "x.log"):
        pass


def test_threads_write_each_into_the_log_of_its_own_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = threading.Barrier(2)

    def run(name: str) -> None:
        with logged(tmp_path / name):
            both.wait(10)
            print(f"of {name}")
            both.wait(10)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("of neither")
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["of a\n", "of b\n"]
    assert capsys.readouterr().out == "of neither\n"

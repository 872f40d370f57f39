"""Ctrl-C, once or many times, at any moment: one line, exit code 130, no traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.lake.run_folder import ENDS, LOGS, RESUME
from search.jobs.interrupts import drainable, draining, interrupted, raise_interrupt, terminable
from tests.search.terminal import write

MANY = {"trials": 200}


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Python's own handler: a background job of a shell starts with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stopped(
    arguments: list[str], ready: str, times: int, within: float = 60.0, number: int = signal.SIGINT
) -> subprocess.CompletedProcess[str]:
    """A command told to stop once `ready`, a glob of the folder in which it runs, finds something."""
    folder = Path(arguments[-1])
    process = subprocess.Popen(
        [sys.executable, "-m", "search.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + within
    while not list(folder.glob(ready)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(times):
        if process.poll() is None:
            process.send_signal(number)
            time.sleep(0.1)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def is_one_line(done: subprocess.CompletedProcess[str]) -> None:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert done.returncode == 130, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("interrupted; finished tasks are kept, continue with: cl-search run ")


@pytest.mark.parametrize(("ready", "times"), [("study.yaml", 5), ("tables/runs/f*.parquet", 1)])
def test_an_interrupted_run_says_one_line(tmp_path: Path, ready: str, times: int) -> None:
    arguments = ["run", str(write(tmp_path, search=MANY)), "--local", "--out", str(tmp_path / "run")]
    is_one_line(stopped(arguments, ready, times))


@pytest.mark.slow
@pytest.mark.parametrize(("ready", "times"), [("study.yaml", 5), ("tables/runs/f*.parquet", 5)])
def test_an_interrupted_run_on_ray_says_one_line(tmp_path: Path, ready: str, times: int) -> None:
    arguments = ["run", str(write(tmp_path, search=MANY)), "--out", str(tmp_path / "run")]
    is_one_line(stopped(arguments, ready, times))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
def test_a_command_interrupted_while_it_starts_has_no_traceback(tmp_path: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "search.cli", "run", str(write(tmp_path, search=MANY)), "--local"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_the_first_signal_interrupts_and_further_ones_are_ignored() -> None:
    before = signal.getsignal(signal.SIGINT)

    @terminable()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupted()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not interrupted()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_a_library_swallowed_is_raised_again() -> None:
    @terminable()
    def work() -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as an exception in a callback that C code ignores
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        raise_interrupt()

    with pytest.raises(KeyboardInterrupt):
        work()


def test_a_signal_that_was_to_be_ignored_is_left_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_task_that_would_not_end_within_the_grace_period_is_left_at_the_end_of_an_epoch(
    tmp_path: Path,
) -> None:
    study = write(tmp_path, search=MANY, recipe={"epochs": 100_000}, budget={"grace": "20s"})
    arguments = ["run", str(study), "--local", "--out", str(tmp_path / "run")]
    done = stopped(arguments, "progress/*", 1, number=signal.SIGUSR1)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run" / RESUME).glob("*.safetensors"))) == 1
    assert "left inside a task" in "".join(p.read_text() for p in (tmp_path / "run" / LOGS).glob("*"))
    assert not (tmp_path / "run" / ENDS).exists()
    assert "SIGUSR1 was received; continue with: cl-search run" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_interrupt_while_a_module_is_made_leaves_the_exit_code_alone(tmp_path: Path) -> None:
    """As where a signal arrives during imports: dataclasses run the text of their methods."""
    (tmp_path / "interrupted_program.py").write_text(
        "import os, signal, sys\n"
        "from search.jobs.interrupts import terminable\n"
        "try:\n"
        "    with terminable():\n"
        "        exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    command = [sys.executable, "-m", "interrupted_program"]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False).returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_drains_may_end_by_itself_or_is_given_up(number: int) -> None:
    before = signal.getsignal(number)
    with terminable():
        with drainable(60):
            assert draining() is None
            os.kill(os.getpid(), number)
            assert draining() == f"{signal.Signals(number).name} was received"
        assert draining()
    assert draining() is None
    with terminable(), drainable(0.05):
        os.kill(os.getpid(), number)
        time.sleep(5)
        pytest.fail("the grace period has no end")
    assert signal.getsignal(number) is before
    assert not interrupted()


def test_work_may_have_to_end_at_a_moment_given_in_advance() -> None:
    said: list[float] = []
    began = time.time()
    with terminable(), drainable(0.1, said.append, until=began + 0.05):
        time.sleep(5)
        pytest.fail("the grace period has no end")
    assert len(said) == 1
    assert began + 0.15 <= said[0] <= time.time()
    assert draining() is None


def test_a_second_signal_while_work_drains_interrupts_it() -> None:
    @terminable()
    def work() -> None:
        with drainable(60):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR1)  # twice, as some schedulers do: nothing more happens
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert draining() is None


def test_a_handler_of_a_library_does_not_keep_work_from_draining() -> None:
    with terminable(), drainable(60):
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # it would end the process
        raise_interrupt()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert draining()

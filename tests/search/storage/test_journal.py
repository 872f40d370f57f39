"""Opening a run's folder: one run at a time, and journals that a crash left half written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from analysis.lake.run_folder import JOURNAL, LOCK
from cl_core.errors import BadRequest
from search.storage.journal import DamagedStudies, mend, open_file, read_file
from search.storage.lock import acquire, held

PARAMS = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}


def journal_with_trials(folder: Path, count: int) -> Path:
    study = optuna.create_study(storage=open_file(folder / JOURNAL), study_name="cell", sampler=_random())
    for _ in range(count):
        trial = study.ask(PARAMS)
        study.tell(trial, trial.params["x"])
    return folder / JOURNAL


def _random() -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=0)


def trials_in(folder: Path) -> list[float | None]:
    storage = read_file(folder / JOURNAL)
    assert storage is not None
    return [trial.value for trial in optuna.load_study(study_name="cell", storage=storage).trials]


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_torn_last_line_is_cut_and_the_journal_goes_on(cut: int, tmp_path: Path) -> None:
    path = journal_with_trials(tmp_path, 3)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(whole[:-cut])
    assert mend(path) == len(lines[-1]) - cut
    assert path.read_bytes() == b"".join(lines[:-1])
    study = optuna.load_study(study_name="cell", storage=open_file(tmp_path / JOURNAL), sampler=_random())
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    study.tell(2, 0.5)
    assert trials_in(tmp_path)[2] == 0.5


@pytest.mark.parametrize("tail", [b"\0" * 40, b'{"op_code":', b"garbage\n", b"17\n"])
def test_a_tail_that_is_no_record_is_cut(tail: bytes, tmp_path: Path) -> None:
    path = journal_with_trials(tmp_path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert mend(path) == len(tail)
    assert path.read_bytes() == whole


def test_a_whole_journal_is_left_alone(tmp_path: Path) -> None:
    path = journal_with_trials(tmp_path, 2)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert mend(path) == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_damage_before_the_end_is_refused_with_its_line(tmp_path: Path) -> None:
    path = journal_with_trials(tmp_path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"torn{\n", *lines[2:]]))
    with pytest.raises(BadRequest, match=r"is damaged \(line 3, not its last\): give the command") as caught:
        open_file(tmp_path / JOURNAL)
    assert "\n" not in str(caught.value)


def test_a_number_that_a_flipped_bit_changed_is_found(tmp_path: Path) -> None:
    path = journal_with_trials(tmp_path, 2)
    whole = path.read_bytes()
    at = whole.index(b'"param_value_internal":0.') + len(b'"param_value_internal":0.')
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DamagedStudies, match=r"is damaged \(line [0-9]+, not its last\)"):
        open_file(path)


def test_a_journal_that_loses_lines_while_it_is_written_to_is_damaged(tmp_path: Path) -> None:
    path = journal_with_trials(tmp_path, 1)
    study = optuna.load_study(study_name="cell", storage=open_file(path), sampler=_random())
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[-1])  # a dashboard may append
    study.ask(PARAMS)
    path.write_bytes(whole[:100])
    with pytest.raises(DamagedStudies, match="bytes were lost while a command worked"):
        study.ask(PARAMS)


def test_a_disk_that_keeps_the_lock_is_named_and_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal_with_trials(tmp_path, 1)
    study = optuna.load_study(study_name="cell", storage=open_file(path), sampler=_random())

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="Read-only file system"):
        study.ask(PARAMS)


def test_a_stale_journal_lock_is_removed(tmp_path: Path) -> None:
    path = journal_with_trials(tmp_path, 1)
    Path(f"{path}.lock").touch()
    Path(f"{path}.lock1234.rename").touch()
    study = optuna.load_study(study_name="cell", storage=open_file(tmp_path / JOURNAL), sampler=_random())
    study.tell(study.ask(PARAMS), 1.0)  # would wait 30 seconds for a stale lock
    assert sorted(p.name for p in tmp_path.iterdir()) == [JOURNAL]


def test_reading_changes_nothing_and_needs_no_journal(tmp_path: Path) -> None:
    assert read_file(tmp_path / JOURNAL) is None
    path = journal_with_trials(tmp_path, 2)
    path.write_bytes(path.read_bytes() + b'{"op')
    before = path.read_bytes()
    assert len(trials_in(tmp_path)) == 2
    assert path.read_bytes() == before


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom search.storage.lock import acquire\n"
        "lock = acquire(pathlib.Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BadRequest, match="another run is working in") as caught:
            acquire(tmp_path)
        assert "\n" not in str(caught.value)
    finally:
        other.kill()  # no clean end: the lock goes with the process
        other.communicate()
    with held(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_the_lock_may_be_taken_again_by_its_holder(tmp_path: Path) -> None:
    with held(tmp_path), held(tmp_path):
        pass
    lock = acquire(tmp_path)
    assert lock.is_locked
    lock.release()
    assert not lock.is_locked


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(BadRequest, match="the run folder must be writable"):
            acquire(folder)


def test_enqueued_trials_are_found_as_optuna_finds_them(tmp_path: Path) -> None:
    path, waiting = tmp_path / JOURNAL, (TrialState.WAITING,)
    storage = open_file(path)
    study = optuna.create_study(storage=storage, sampler=_random())
    for enqueued in ([], [0.1], [], [0.3, 0.9], [], [0.5]):
        for x in enqueued:
            study.enqueue_trial({"x": x})
        plain = JournalStorage(JournalFileBackend(str(path)))
        found = [[t.number for t in each.get_all_trials(0, states=waiting)] for each in (storage, plain)]
        assert found[0] == found[1]
        trial = study.ask(PARAMS)
        assert found[0][:1] in ([], [trial.number])
        study.tell(trial, trial.params["x"])
    assert [study.trials[number].params["x"] for number in (1, 3, 4, 5)] == [0.1, 0.3, 0.9, 0.5]

"""A journal that is damaged or gone is made anew from the tables, and nothing that ended is trained again."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from analysis import equal
from analysis.lake.run_folder import JOURNAL, file_stem
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from search.cells.cell_progress import read_progress
from search.cells.search_queue import SearchQueue
from search.commands.run import run_study
from search.commands.status import status
from search.worker import runner
from spaces.resolved.study import ResolvedStudy
from spaces.study.storage import StoragePart
from tests.search.simulation import Driver, begun, told, trials_in
from tests.search.storage.test_mirror import LWF, told_by

SQLITE = StoragePart(optuna="sqlite")
pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

REAL = {
    "study": "small",
    "data": {"name": "digits", "per_class": 30},
    "scenarios": ["B0-5tasks"],
    "methods": ["lwf"],
    "recipe": {"epochs": 1},
    "search": {"sampler": "tpe", "sampler_args": {"n_startup_trials": 2}, "stopper": "median"},
}


def break_line(folder: Path) -> bytes:
    """Flip a bit that makes a middle line of the journal no JSON; returns what then stands there."""
    path = folder / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b"[" + lines[len(lines) // 2][1:]
    path.write_bytes(b"".join(lines))
    return path.read_bytes()


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four trials. Read only."""
    return run_study(REAL, tmp_path_factory.mktemp("four") / "run", ["search.trials=4"], local=True).folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of seven trials without a pause. Read only."""
    return run_study(REAL, tmp_path_factory.mktemp("seven") / "run", ["search.trials=7"], local=True).folder


@pytest.mark.parametrize("how", ["damaged", "removed"])
def test_a_run_goes_on_bit_for_bit_without_its_journal(
    how: str, four: Path, straight: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(four, tmp_path / "run")
    notes: list[str] = []
    if how == "damaged":
        damaged = break_line(folder)
        with pytest.raises(BadRequest, match=r"optuna\.journal is damaged \(its lines cannot") as caught:
            status(folder)
        assert "\n" not in str(caught.value)
    else:
        (folder / JOURNAL).unlink()
    again = run_study(REAL, folder, ["search.trials=7"], local=True, warn=notes.extend)
    assert again.failed == 0
    assert equal(straight, folder), equal(straight, folder)
    assert [told_by(t) for t in trials_in(folder, LWF)] == [told_by(t) for t in trials_in(straight, LWF)]
    logs = (folder / "logs").glob("*.log")
    assert all(path.read_text().count("attempt") == 1 for path in logs)  # nothing was trained again
    if how == "damaged":
        assert (folder / "damaged" / JOURNAL).read_bytes() == damaged
        assert sum("optuna.journal was damaged (line" in note for note in notes) == 1


def test_a_run_under_way_has_all_its_values_in_a_journal_made_anew(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keep, seen = tmp_path / "run", SearchQueue.report, list[int]()

    def report(queue: SearchQueue, run: str, task: int, increments: float | None) -> bool:
        seen.append(task)
        stop = keep(queue, run, task, increments)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return stop

    with monkeypatch.context() as patch:
        patch.setattr(SearchQueue, "report", report)
        with pytest.raises(KeyboardInterrupt):
            run_study(REAL, folder, ["search.trials=7"], local=True)
    assert seen[-1] == 3  # it resumes there, so its trainer has no more to say of the tasks before
    (folder / JOURNAL).unlink()
    run_study(REAL, folder, ["search.trials=7"], local=True)
    assert [told_by(t) for t in trials_in(folder, LWF)] == [told_by(t) for t in trials_in(straight, LWF)]
    assert equal(straight, folder), equal(straight, folder)


def test_a_run_that_lacked_its_end_alone_has_all_its_values_in_a_journal_made_anew(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keep = tmp_path / "run", runner.write_rows

    def write(place: Path, table: str, *more: Any) -> None:
        if table == "runs":
            raise KeyboardInterrupt
        keep(place, table, *more)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "write_rows", write)
        with pytest.raises(KeyboardInterrupt):
            run_study(REAL, folder, ["search.trials=7"], local=True)
    (folder / JOURNAL).unlink()
    run_study(REAL, folder, ["search.trials=7"], local=True)
    assert [told_by(t) for t in trials_in(folder, LWF)] == [told_by(t) for t in trials_in(straight, LWF)]
    assert equal(straight, folder), equal(straight, folder)


def test_a_stopped_run_whose_rows_are_damaged_ends_where_it_ended(straight: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(straight, tmp_path / "run")
    stopped = [trial for trial, row in run_rows(folder).items() if row["status"] == "stopped"]
    assert stopped
    for trial in stopped:
        (folder / "tables" / "tasks" / f"{file_stem(trial)}.parquet").write_bytes(b"PAR1 damaged PAR1")
    notes: list[str] = []
    again = run_study(REAL, folder, ["search.trials=7"], local=True, warn=notes.extend)
    assert (again.stopped, again.worked) == (len(stopped), True)
    assert len([note for note in notes if "was damaged" in note]) == len(stopped)
    assert equal(straight, folder), equal(straight, folder)
    assert not run_study(REAL, folder, ["search.trials=7"], local=True).worked


def test_trials_lost_from_tables_and_journal_are_trained_again_with_the_same_end(
    straight: Path, tmp_path: Path
) -> None:
    """Beside the trials after them, both would be stopped."""
    folder, notes = shutil.copytree(straight, tmp_path / "run"), list[str]()
    for number in (1, 4):
        path = folder / "tables" / "tasks" / f"{file_stem(f'{LWF}/{number}')}.parquet"
        path.write_bytes(b"PAR1 damaged PAR1")
    (folder / JOURNAL).unlink()
    again = run_study(REAL, folder, ["search.trials=7"], local=True, warn=notes.extend)
    assert (again.completed, again.stopped) == (6, 1)
    assert equal(straight, folder), equal(straight, folder)
    assert [told_by(t) for t in trials_in(folder, LWF)] == [told_by(t) for t in trials_in(straight, LWF)]
    assert [note[:15] for note in notes if "neither in the tables" in note] == [f"{LWF}/{n}" for n in (1, 4)]


def test_a_trial_that_continued_with_its_next_run_is_not_stopped_before_it_later(
    study: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    race = {"stopper": "median", "stopper_args": {"n_startup_trials": 1}}
    resolved = begun(study({"lwf": None}, trials=3, protocol={"orders": 2}, **race), folder)
    with SearchQueue(resolved, folder, bases=False) as cells:
        driver = Driver(cells, folder, concurrent=3)
        while driver.start():
            driver.open.reverse()  # the last trial ends first
            driver.end_oldest()
    before = [entry[:2] for entry in told(folder, LWF)]
    (folder / JOURNAL).unlink()
    with SearchQueue(resolved, folder, bases=False) as cells:
        assert cells.finished
    assert [entry[:2] for entry in told(folder, LWF)] == before


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("objective", [["average_incremental_accuracy"], ["last_accuracy", "forgetting"]])
def test_what_several_workers_had_ended_at_a_kill_is_not_trained_again(
    sampler: str, objective: list[str], study: Any, tmp_path: Path
) -> None:
    """With several at a time the sampler would ask for others now: the tables say what it asked then."""
    resolved = begun(study(sampler=sampler, objective=objective, stopper="median"), tmp_path / "run")
    folder = tmp_path / "run"
    with SearchQueue(resolved, folder, bases=False) as cells:
        first = Driver(cells, folder, concurrent=3).run(14)
    under_way = {job.id for job in first.open}
    before = {cell.name: told(folder, cell.name) for cell in resolved.cells}
    break_line(folder)
    with SearchQueue(resolved, folder, bases=False) as cells:
        assert len(cells.notes) == 1
        second = Driver(cells, folder, concurrent=3).run()
        assert cells.finished
    ended = {job for job, _ in first.order} - under_way
    assert not ended & {job for job, _ in second.order}
    for cell in resolved.cells:
        known = {entry[0]: entry for entry in told(folder, cell.name)}
        assert all(known[entry[0]] == entry for entry in before[cell.name] if entry[1] == "COMPLETE")
        assert sorted(known) == list(range(12))
    assert {p.started for p in read_progress(folder)} == {12}


def test_no_flipped_bit_of_a_journal_ends_in_a_traceback(study: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    resolved = begun(study({"lwf": None}, trials=3), folder)
    with SearchQueue(resolved, folder, bases=False) as cells:
        Driver(cells, folder).run()
    content = (folder / JOURNAL).read_bytes()
    made_anew = 0
    for at in range(0, len(content), 47):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 7
        (folder / JOURNAL).write_bytes(flipped)
        with SearchQueue(resolved, folder, bases=False) as cells:
            made_anew += len(cells.notes)
            assert [p.started for p in cells.progress()] == [3]
        shutil.rmtree(folder / "damaged", ignore_errors=True)
    assert made_anew > 10


def test_a_journal_kept_on_this_machine_is_made_anew_and_so_is_its_copy(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    resolved = begun(study(trials=3), folder)
    monkeypatch.setattr("search.storage.studies.network_type", lambda path: "nfs4")
    monkeypatch.setattr("search.storage.studies.own_place", lambda: tmp_path / "own")
    with SearchQueue(resolved, folder, bases=False) as cells:
        Driver(cells, folder).run(3)
    (own,) = (tmp_path / "own").rglob(JOURNAL)
    break_line(own.parent)
    with SearchQueue(resolved, folder, bases=False) as cells:
        assert len(cells.notes) == 1
        Driver(cells, folder).run()
    assert [p.completed for p in read_progress(folder)] == [3, 3]
    with SearchQueue(resolved, folder, bases=False) as cells:
        assert not cells.notes


@pytest.fixture
def searched(study: Any, tmp_path: Path) -> tuple[ResolvedStudy, Path]:
    """A search of three trials that has ended in a SQLite file: the study and its folder."""
    folder, plain = tmp_path / "run", study({"lwf": None}, trials=3)
    resolved = begun(
        dataclasses.replace(plain, study=plain.study.model_copy(update={"storage": SQLITE})), folder
    )
    with SearchQueue(resolved, folder, bases=False) as cells:
        Driver(cells, folder).run()
    return resolved, folder


# A flipped bit in the name of an attribute, once: SQLite itself sees nothing.
RENAMED = (
    "UPDATE trial_user_attributes SET key = 'x' WHERE trial_user_attribute_id = (SELECT "
    "trial_user_attribute_id FROM trial_user_attributes WHERE key = '{}' ORDER BY trial_id LIMIT 1)"
)


@pytest.mark.parametrize(
    ("damage", "seen_by_status"),
    [
        (RENAMED.format("number"), False),
        (RENAMED.format("values"), False),
        ("UPDATE trial_user_attributes SET value_json = '{broken' WHERE key = 'values'", True),
        ("UPDATE trial_params SET distribution_json = '{broken'", True),
        ("UPDATE trials SET state = 'UNKNOWN'", True),
        ("DELETE FROM trial_values", True),
        ("DELETE FROM studies", False),
    ],
)
def test_a_sqlite_file_whose_rows_are_damaged_is_said_in_one_line(
    damage: str, seen_by_status: bool, searched: tuple[ResolvedStudy, Path]
) -> None:
    resolved, folder = searched
    path = folder / "optuna.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    readers = [lambda: read_progress(folder)] if seen_by_status else []
    for look in (lambda: SearchQueue(resolved, folder, bases=False), *readers):
        with pytest.raises(BadRequest, match=r"storage.optuna sqlite is damaged .* move it away") as caught:
            look()
        assert "\n" not in str(caught.value)
    path.unlink()
    with SearchQueue(resolved, folder, bases=False) as cells:
        assert cells.finished


@pytest.mark.parametrize("damage", [b"no database at all" * 100, None])
def test_a_damaged_sqlite_file_is_said_in_one_line_and_made_anew_once_it_is_moved(
    damage: bytes | None, searched: tuple[ResolvedStudy, Path]
) -> None:
    resolved, folder = searched
    before, path = told(folder, LWF), folder / "optuna.sqlite3"
    content = path.read_bytes()
    path.write_bytes(damage or content[:4096] + b"U" * (len(content) - 4096))
    for look in (lambda: read_progress(folder), lambda: SearchQueue(resolved, folder, bases=False)):
        with pytest.raises(BadRequest, match=r"move it away .* makes it from the tables") as caught:
            look()
        assert "\n" not in str(caught.value)
    path.unlink()
    with SearchQueue(resolved, folder, bases=False) as cells:
        assert cells.finished
    assert told(folder, LWF) == before

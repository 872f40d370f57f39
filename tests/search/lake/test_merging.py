"""A merge that is killed at any step: every reader finds each row once, and the next one ends it."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import equal, open_results
from analysis.lake import tables
from analysis.lake.run_folder import GATHERED, merged_files, own_files, table_folder
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from cl_core.records import TABLES
from search.lake import merging
from search.lake.merging import merged_file, put, settle, workplace
from search.lake.receipts import lost_rows, receipt
from search.lake.writer import compact, drop_gathered, drop_run, gather, read_rows
from search.storage.repair import mend_folder
from tests.search.lake.test_tables import READERS

STEPS = ("hardlink_to", "symlink_to", "replace", "rename", "unlink", "mkdir")


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Kill before the given step that changes a folder, counted from here on."""
    left = [10**9]

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return change(*args, **options)

        return step

    for name in STEPS:
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    yield lambda steps: left.__setitem__(0, steps)
    left[0] = 10**9


def _seen(place: Path) -> dict[str, Counter[str]]:
    return {name: Counter(read(place)) for name, read in READERS.items()}


@pytest.mark.parametrize("older", [False, True])
def test_every_reader_finds_each_row_once_wherever_a_merge_is_killed(
    older: bool, finished: Path, tmp_path: Path, kill: Callable[[int], None]
) -> None:
    start = shutil.copytree(finished, tmp_path / "start")
    runs = sorted(run_rows(start))
    if older:
        compact(start, runs[:1])
        shutil.move(next(iter(merged_files(table_folder(start, "tasks")))), tmp_path / "segment")
        shutil.move(tmp_path / "segment", table_folder(start, "tasks") / GATHERED)
    wanted = _seen(table_folder(start, "tasks"))
    rows = sorted(open_results(start).rows("tasks").to_pylist(), key=str)
    whole = shutil.copytree(start, tmp_path / "whole")
    gather(whole)
    steps, done = 0, False
    while not done:
        folder = shutil.copytree(start, tmp_path / str(steps))
        place = table_folder(folder, "tasks")
        merged_file(place).parent.mkdir(exist_ok=True)
        shutil.copy(table_folder(whole, "tasks") / GATHERED, merged_file(place))
        kill(steps)
        with contextlib.suppress(Killed):
            put(place, GATHERED, own_files(place))
            done = True
        kill(10**9)
        assert _seen(place) == wanted, steps
        assert sorted(open_results(folder).rows("tasks").to_pylist(), key=str) == rows, steps
        assert len(read_rows(folder, "tasks", runs[0], merged=True)) == 5
        settle(place)
        assert _seen(place) == wanted, steps
        assert not workplace(place).exists()
        assert not any(path.is_symlink() for path in place.iterdir())
        steps += 1
    assert steps > 10


def test_the_next_gather_ends_what_a_killed_one_began(
    finished: Path, tmp_path: Path, kill: Callable[[int], None]
) -> None:
    wanted = {table: _seen(table_folder(finished, table)) for table in TABLES}
    for steps in range(5, 150, 36):
        folder = shutil.copytree(finished, tmp_path / str(steps))
        kill(steps)
        with contextlib.suppress(Killed):
            gather(folder)
        kill(10**9)
        assert {table: _seen(table_folder(folder, table)) for table in TABLES} == wanted
        assert equal(folder, finished)
        assert mend_folder(folder) == []
        gather(folder)
        assert {path.name for path in table_folder(folder, "runs").iterdir()} == {GATHERED, "schema.parquet"}
        assert equal(folder, finished)


@pytest.mark.parametrize("table", ["runs", "confusion"])
def test_rows_that_move_between_listing_and_reading_are_read_once(
    table: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, columns = shutil.copytree(finished, tmp_path / "run"), tables.columns

    def late(name: str) -> Any:
        """Gather once files are listed, and be killed when rows have moved and names have not."""
        monkeypatch.setattr(tables, "columns", columns)
        with monkeypatch.context() as patched, contextlib.suppress(Killed):
            patched.setattr(merging, "settle", killed)
            gather(folder)
        return columns(name)

    def killed(place: Path) -> None:
        if place.name == table and workplace(place).exists():  # not before the merge
            raise Killed
        settle(place)

    wanted, results = len(open_results(finished).read(table)), open_results(folder)
    if table == "confusion":
        counts = open_results(finished).confusions(results.runs["run"].iloc[0], "val")
    monkeypatch.setattr(tables, "columns", late)
    if table == "confusion":
        assert np.array_equal(results.confusions(results.runs["run"].iloc[0], "val")[-1], counts[-1])
    assert len(results.read(table)) == wanted
    assert workplace(table_folder(folder, table)).exists()


def test_rows_that_a_killed_merge_has_moved_count_as_received(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = shutil.copytree(finished, tmp_path / "run"), sorted(run_rows(finished))[0]
    given = receipt(finished, run)

    def killed(place: Path) -> None:
        raise Killed(place)

    monkeypatch.setattr(merging, "settle", killed)
    with pytest.raises(Killed):
        gather(folder)
    assert lost_rows(folder, run, given, patience=0) == []
    drop_run(folder, run)
    assert lost_rows(folder, run, given, patience=0)


def test_queries_go_on_after_a_gather_and_older_relations_say_so(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    results, wanted = open_results(folder), open_results(finished)
    older = results.table("confusion")
    results.query("select count(*) from tasks").arrow()
    gather(folder)
    for name in ("run_metrics", "confusion"):
        assert len(results.table(name).arrow()) == len(wanted.table(name).arrow())
        assert len(results.query(f"select run from {name}").arrow()) == len(wanted.table(name).arrow())
    with pytest.raises(BadRequest, match="the tables have changed, so query them again"):
        older.arrow()


def test_where_no_links_can_be_made_files_are_merged_all_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = shutil.copytree(finished, tmp_path / "run")
    gather(folder)
    assert equal(folder, finished)
    assert [len(own_files(table_folder(folder, table))) for table in TABLES] == [0] * len(TABLES)
    drop_gathered(folder, "runs", run_rows(folder))
    assert run_rows(folder) == {}

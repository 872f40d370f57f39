"""Compaction: files of ended runs are merged while a study runs; readers and crashes see the same rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analysis import equal, open_results
from analysis.lake.run_folder import merged_files, own_files, table_folder
from analysis.lake.run_rows import run_rows
from cl_core.records import TABLES
from search.lake import compaction, writer
from search.lake.compaction import Compaction, compact_left
from search.lake.writer import compact, gather, read_rows
from search.storage.repair import mend_folder


def _copy(finished: Path, place: Path) -> tuple[Path, list[str]]:
    folder = shutil.copytree(finished, place / "run")
    return folder, sorted(run_rows(folder))


def _own(folder: Path) -> int:
    return sum(len(own_files(table_folder(folder, table))) for table in TABLES)


def test_segments_have_the_rows_of_the_files_that_they_replace(finished: Path, tmp_path: Path) -> None:
    folder, runs = _copy(finished, tmp_path)
    for count, run in enumerate(runs, start=1):
        compact(folder, [run])
        assert [len(merged_files(table_folder(folder, table))) for table in TABLES] == [count] * len(TABLES)
        assert equal(folder, finished), equal(folder, finished)
    assert _own(folder) == 0
    assert run_rows(folder) == run_rows(finished)
    assert len(open_results(folder).read("tasks", runs[:1])) == 5
    assert read_rows(folder, "classes", runs[1], merged=True) == read_rows(finished, "classes", runs[1])
    assert mend_folder(folder) == []
    gather(folder)
    names = {path.name for table in TABLES for path in merged_files(table_folder(folder, table))}
    assert names == {"gathered.parquet"}
    assert equal(folder, finished), equal(folder, finished)


def test_a_file_that_is_damaged_while_it_is_merged_keeps_its_rows_out_and_the_command_alive(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder, runs), scan = _copy(finished, tmp_path), writer.scan

    def damaging(database: Any, place: Path, table: str, *more: Any) -> Any:
        if table == "classes":
            path = own_files(table_folder(place, table))[0]
            path.write_bytes(path.read_bytes()[:-10])
        return scan(database, place, table, *more)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "scan", damaging)
        compact(folder, runs)
    assert run_rows(folder) == run_rows(finished)
    (line,) = mend_folder(folder)
    assert "was damaged" in line
    assert len(run_rows(folder)) == len(runs) - 1


@pytest.mark.parametrize("left", [TABLES, ("runs",), ("tasks", "confusion")])
def test_a_compaction_that_was_killed_loses_and_doubles_nothing(
    finished: Path, tmp_path: Path, left: tuple[str, ...]
) -> None:
    folder, runs = _copy(finished, tmp_path)
    compact(folder, runs)
    for table in left:  # the run's own files, which go last
        for path in own_files(table_folder(finished, table)):
            shutil.copy(path, table_folder(folder, table))
    assert equal(folder, finished), equal(folder, finished)
    if "runs" in left:
        (table_folder(folder, "runs") / "gathered.000001.parquet").unlink()  # it is written last
        assert equal(folder, finished), equal(folder, finished)
    assert mend_folder(folder) == []
    compact(folder, runs)
    assert equal(folder, finished), equal(folder, finished)
    assert _own(folder) == (0 if "runs" in left else 2 * len(left))
    plain = pq.read_table(table_folder(folder, "tasks"), columns=["run"])["run"].to_pylist()
    assert sorted(plain) == sorted(5 * runs)


def test_a_segment_that_was_gathered_and_comes_back_doubles_no_row_for_plain_readers(
    finished: Path, tmp_path: Path
) -> None:
    folder, runs = _copy(finished, tmp_path)
    compact(folder, runs[:1])
    kept = {t: (table_folder(folder, t) / "gathered.000001.parquet").read_bytes() for t in TABLES}
    gather(folder)
    for table, content in kept.items():  # as an object store has it still, when a command is killed
        (table_folder(folder, table) / "gathered.000001.parquet").write_bytes(content)
    assert mend_folder(folder) == []
    plain = pq.read_table(table_folder(folder, "tasks"), columns=["run"])["run"].to_pylist()
    assert sorted(plain) == sorted(5 * runs)
    assert equal(folder, finished), equal(folder, finished)


def test_a_damaged_segment_is_set_aside_and_its_runs_are_trained_again(
    finished: Path, tmp_path: Path
) -> None:
    for table in ("runs", "classes"):
        folder, runs = _copy(finished, tmp_path / table)
        for run in runs:
            compact(folder, [run])
        path = table_folder(folder, table) / "gathered.000002.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        lines = mend_folder(folder)
        assert "gathered.000002.parquet was damaged (its checksum does not fit)" in lines[0]
        assert (folder / "damaged" / "tables" / table / path.name).exists()
        assert list(run_rows(folder)) == runs[:1]
        assert {len(read_rows(folder, name, runs[1], merged=True)) for name in TABLES} == {0}
        assert mend_folder(folder) == []


def test_a_command_merges_runs_as_they_end_and_what_others_left(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SEGMENT", 2)
    folder, runs = _copy(finished, tmp_path)
    merging = Compaction(folder)
    merging.add(runs[0])
    assert _own(folder) == 10
    merging.add(runs[1])
    merging.close()
    assert _own(folder) == 0
    assert equal(folder, finished), equal(folder, finished)
    again, _ = _copy(finished, tmp_path / "again")
    compact_left(again)
    assert _own(again) == 0

"""The tables on disk: who may read them while a run writes, and what a damaged byte does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from analysis import equal
from analysis.lake.checksums import Damaged, read_sealed
from cl_core.records import TABLES
from tests.search.terminal import call, refused, write

READERS: dict[str, Callable[[Path], list[str]]] = {
    "pandas": lambda table: list(pd.read_parquet(table)["run"]),
    "pyarrow": lambda table: ds.dataset(table).to_table()["run"].to_pylist(),
    "polars": lambda table: pl.read_parquet(table)["run"].to_list(),
    "polars, lazy": lambda table: pl.scan_parquet(table).select("run").collect()["run"].to_list(),
    "duckdb": lambda table: [run for (run,) in duckdb.sql(f"select run from '{table}/*.parquet'").fetchall()],
}
TRIAL = "finetune@B0-5tasks--1"


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def flip(path: Path, at: float) -> None:
    """Flip a bit of the byte at a share of a file's length."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0x04
    path.write_bytes(content)


def test_all_readers_read_every_table_while_a_run_writes(tmp_path: Path) -> None:
    """A file that ended runs left is never replaced, and nothing else stands in a table's folder."""
    study, folder = write(tmp_path, methods=["finetune", "lwf"], search={"trials": 4}), tmp_path / "run"
    command = [sys.executable, "-m", "search.cli", "run", str(study), "--local", "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as going:
        seen: dict[str, list[int]] = {name: [] for name in READERS}
        while going.poll() is None:
            for table in TABLES:
                place = folder / "tables" / table
                if not (place / "schema.parquet").exists():
                    continue
                for name, read in READERS.items():
                    trials = read(place)
                    if table == "runs":
                        assert len(set(trials)) == len(trials)
                        seen[name].append(len(trials))
    assert going.returncode == 0
    for name, counts in seen.items():
        assert counts == sorted(counts), name
        assert len(set(counts)) > 3, name  # it read while there was more to come
    for table in TABLES:
        first, *others = (sorted(read(folder / "tables" / table)) for read in READERS.values())
        assert all(other == first for other in others)


@pytest.mark.parametrize("table", ["confusion", "runs"])
def test_no_flipped_bit_changes_what_is_read(table: str, finished: Path, tmp_path: Path) -> None:
    path = finished / "tables" / table / f"{TRIAL}.parquet"
    rows, content = pq.read_table(path, partitioning=None).to_pylist(), path.read_bytes()
    other, caught = tmp_path / "part.parquet", 0
    places = range(0, len(content), 3 if table == "confusion" else 11)
    for at in places:
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        other.write_bytes(flipped)
        try:
            assert read_sealed(other).to_pylist() == rows  # a byte of the checksum's own name
        except Damaged:
            caught += 1
    assert caught >= len(places) - 10


@pytest.mark.parametrize(("table", "at"), [("confusion", 0.2), ("tasks", 0.6), ("runs", 0.97)])
def test_a_flipped_bit_is_named_set_aside_and_trained_again(
    table: str, at: float, finished: Path, copy: Path
) -> None:
    path = copy / "tables" / table / f"{TRIAL}.parquet"
    flip(path, at)
    damaged = path.read_bytes()
    (copy / "report.html").unlink()
    for verb in ("gather", "report", "evaluate") if table == "runs" else ("gather",):
        assert f"{path} is damaged" in refused(verb, copy)
    for verb in ("compare", "plan"):
        told = call(verb, copy, *([finished] if verb == "compare" else []))
        assert told.exit_code == 0 or f"{path} is damaged" in told.stderr
        assert "Traceback" not in told.output
    shown = call("status", copy)
    assert shown.exit_code == 0
    assert (f"{path} is damaged" in shown.stdout.replace("\n", "")) == (table == "runs")
    again = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert again.exit_code == 0, again.output
    assert f"note: {path} was damaged" in again.stderr
    assert "\n2 runs completed\n" in again.stdout
    assert (copy / "damaged" / "tables" / table / path.name).read_bytes() == damaged
    assert equal(finished, copy)
    assert "nothing to do" in call("run", finished.parent / "small.yaml", "--local", "--out", copy).stdout


@pytest.mark.parametrize("how", ["cut", "removed"])
def test_a_file_that_is_cut_or_gone_is_trained_again(how: str, finished: Path, copy: Path) -> None:
    part, other = (copy / "tables" / "classes" / f"finetune@B0-5tasks--{n}.parquet" for n in (1, 0))
    if how == "cut":
        os.truncate(part, 100)
        assert f"{part} is damaged" in refused("gather", copy)
        assert str(part) in refused("rerun", copy, "finetune@B0-5tasks/1")
    else:
        part.unlink()
        os.truncate(part.with_name("schema.parquet"), 50)
    before = other.stat().st_mtime_ns
    again = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert again.exit_code == 0, again.output
    assert "\n2 runs completed\n" in again.stdout
    assert equal(finished, copy)
    assert other.stat().st_mtime_ns == before
    assert call("gather", copy).exit_code == 0
    assert "nothing to do" in call("run", finished.parent / "small.yaml", "--local", "--out", copy).stdout


@pytest.mark.parametrize("table", ["runs", "confusion"])
def test_a_damaged_merged_file_is_kept_until_somebody_removes_it(
    table: str, finished: Path, copy: Path
) -> None:
    assert call("gather", copy).exit_code == 0
    path = copy / "tables" / table / "gathered.parquet"
    flip(path, 0.5)
    command = ("run", finished.parent / "small.yaml", "--local", "--out", copy)
    for verb in (command, ("gather", copy)):
        line = refused(*verb)
        assert f"{path} is damaged" in line
        assert "restore it from a copy, or remove it" in line
    path.unlink()
    again = call(*command)
    assert again.exit_code == 0, again.output
    assert equal(finished, copy)


def test_a_file_of_another_writer_needs_no_checksum(finished: Path, tmp_path: Path) -> None:
    rows: Any = pq.read_table(finished / "tables" / "runs" / f"{TRIAL}.parquet", partitioning=None)
    pq.write_table(rows, tmp_path / "part.parquet")
    assert read_sealed(tmp_path / "part.parquet").equals(rows)
    os.truncate(tmp_path / "part.parquet", 3000)
    with pytest.raises(Damaged, match=r"part\.parquet is damaged"):
        read_sealed(tmp_path / "part.parquet")

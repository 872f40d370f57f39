"""Run folders with damaged parts, journals and small files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import open_results
from analysis.lake.run_folder import CODE, CONTROL, JOURNAL, LEDGER, NODES, PLAN, SPENT, STUDY
from cl_core.records import TABLES
from tests.fuzz.damage import answers, damaged, fuzzed, put, refused_in_one_line
from tests.search.terminal import call

SMALL = {
    CONTROL: b'{"paused": ["finetune@B0-5tasks"], "priority": {"finetune@B0-5tasks": 1}}\n',
    SPENT: b'{"gpu_seconds": 1.5}\n',
    NODES: b'["node a cannot train"]\n',
    LEDGER: b'{"time": "2027-01-31T18:00:00+00:00", "what": "evaluate", "cells": ["x"], "runs": 1}\n',
    PLAN: b'{"version": 1}\n',
}


@pytest.fixture(scope="module")
def folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run, which every case leaves as it was. Half of it is merged."""
    place = tmp_path_factory.mktemp("fuzz")
    copy = shutil.copytree(finished, place / "run")
    shutil.copy(finished.parent / "small.yaml", place)
    call("gather", copy, code=0)
    for table in TABLES:
        for path in (finished / "tables" / table).glob("*--0.parquet"):
            shutil.copy(path, copy / "tables" / table)
    return copy


@given(data=st.data())
@fuzzed
def test_a_damaged_part_is_named_in_one_line(folder: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted((folder / "tables").glob("*/*.parquet"))))
    before = path.read_bytes()
    put(path, data.draw(damaged(before)))
    try:
        answers("status", folder)
        refused_in_one_line(lambda: [open_results(folder).read(table) for table in TABLES])
    finally:
        put(path, before)


@given(data=st.data())
@fuzzed
def test_a_damaged_journal_or_small_file_is_named_in_one_line(folder: Path, data: st.DataObject) -> None:
    names: Any = st.sampled_from([JOURNAL, JOURNAL, JOURNAL, STUDY, STUDY, CODE, *SMALL])
    path = folder / data.draw(names)
    before = path.read_bytes() if path.exists() else None
    put(path, data.draw(damaged(SMALL[path.name] if before is None else before)))
    try:
        answers("status", folder)
        answers("run", folder.parent / "small.yaml", "--dry-run", "--local", "--out", folder)
    finally:
        path.unlink()
        if before is not None:
            put(path, before)

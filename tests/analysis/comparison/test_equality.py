"""Equality of two run folders: every bit of what must be equal, in any order."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.lake.open import open_results
from analysis.lake.run_folder import file_stem
from cl_core.errors import BadRequest
from cl_core.records import TABLES
from tests.analysis.planted_tables import gather, rewrite, setting


def test_a_lake_equals_itself_gathered(lake, kept_lake):
    for table in TABLES:
        gather(lake, table, [file_stem(t) for t in open_results(kept_lake).runs["run"]])
    found = analysis.equal(lake, kept_lake)
    assert found, str(found)
    assert str(found).startswith("equal: 9 runs, ")


def test_volatile_columns_do_not_count(lake, kept_lake):
    rewrite(lake, "runs", "joint@B0-3tasks/1", setting("seconds", 1e6))
    rewrite(lake, "tasks", "joint@B0-3tasks/1", setting("shared", False))
    assert analysis.equal(lake, kept_lake)


@pytest.mark.parametrize("value", [np.nextafter(1.0, 2.0), -0.0, float("nan")])
def test_one_bit_of_one_float_is_a_difference(lake, kept_lake, value):
    rewrite(lake, "phases", "joint@B0-3tasks/1", setting("value", value, 2))
    found = analysis.equal(lake, kept_lake)
    assert not found
    assert len(found.differences) == 1
    assert found.differences[0].startswith(
        "phases: joint@B0-3tasks/1 task 1 phase train epoch 0 term ce value: "
    )


def test_signed_zeros_differ_and_nans_are_equal(lake, kept_lake):
    rewrite(lake, "classes", "joint@B0-3tasks/1", setting("bias", float("nan")))
    assert not analysis.equal(lake, kept_lake)
    assert analysis.equal(lake, lake)
    rewrite(lake, "classes", "joint@B0-3tasks/1", setting("bias", -0.0))
    assert "bias: -0.0 and 0.0" in str(analysis.equal(lake, kept_lake))


def test_missing_trials_rows_and_columns_are_named(lake, kept_lake):
    for table in TABLES:
        (lake / "tables" / table / "joint@B0-3tasks--1.parquet").unlink()
    rewrite(lake, "tasks", "joint@B0-3tasks/0", lambda frame: frame.iloc[:-1])
    rewrite(lake, "runs", "icarl@B0-3tasks/1", setting("hp.exemplars_per_class", 99))
    text = str(analysis.equal(lake, kept_lake))
    assert "runs: run joint@B0-3tasks/1 only in the second" in text
    assert "tasks: joint@B0-3tasks/0 task 2 only in the second" in text
    assert "runs: icarl@B0-3tasks/1 hp.exemplars_per_class: 99" in text
    assert analysis.equal(lake, kept_lake, runs=["finetune@B0-3tasks/0", "finetune@B0-3tasks/1"])


def test_a_row_that_stands_twice_is_a_difference(lake, kept_lake):
    rewrite(lake, "tasks", "joint@B0-3tasks/1", lambda frame: pd.concat([frame, frame.iloc[:1]]))
    assert "joint@B0-3tasks/1 task 0 stands more than once in the first" in str(
        analysis.equal(lake, kept_lake)
    )


def test_comparing_a_trial_that_neither_has_is_refused(lake):
    with pytest.raises(BadRequest, match="unknown run 'joint@B0-3tasks/9'"):
        analysis.equal(lake, lake, runs=["joint@B0-3tasks/9"])


def test_only_the_first_differences_are_listed(lake, kept_lake):
    rewrite(lake, "classes", "joint@B0-3tasks/1", lambda frame: frame.assign(correct=0))
    lines = analysis.equal(lake, kept_lake).differences
    assert len(lines) == 6
    assert lines[-1].endswith("more differences")


def test_reading_and_comparing_need_neither_torch_nor_ray(lake):
    code = (
        "import sys, analysis; print(analysis.equal(sys.argv[1], sys.argv[1])); "
        "print(sorted({'torch', 'ray', 'optuna', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(lake)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("equal: 9 runs")
    assert done.stdout.splitlines()[1] == "[]"

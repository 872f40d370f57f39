"""Simulated run folders; built once a session and copied where a test changes them."""

from __future__ import annotations

import shutil

import pytest

from tests.analysis.planted import Plan, write

SMALL = Plan(labels=("finetune", "joint", "icarl"), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=3, rows=8)


@pytest.fixture(scope="session")
def kept_lake(tmp_path_factory):
    """A small lake that no test may change."""
    return write(tmp_path_factory.mktemp("lake") / "run", SMALL)


@pytest.fixture
def lake(kept_lake, tmp_path):
    """A small lake of the test's own."""
    return shutil.copytree(kept_lake, tmp_path / "run")

"""Simulated studies on ten classes of noise."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cl_core.images.dataset import Data
from spaces.resolved.study import ResolvedStudy
from tests.search.simulation import images, made
from tests.search.terminal import call, write


@pytest.fixture(scope="session")
def data() -> Data:
    return images()


@pytest.fixture
def study(data: Data) -> Callable[..., ResolvedStudy]:
    return functools.partial(made, data)


@pytest.fixture
def no_lock_outlives_a_test() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of one cell and two trials, its study file beside it. Read only."""
    place = tmp_path_factory.mktemp("finished")
    result = call("run", write(place), "--local", "--out", place / "run")
    assert result.exit_code == 0, result.output
    assert "2 runs completed" in result.stdout
    assert f"report: {place / 'run' / 'report.html'}" in result.stdout
    return place / "run"

"""Simulated studies on ten classes of noise."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator

import pytest

from cl_core.images.dataset import Data
from spaces.resolved.study import ResolvedStudy
from tests.search.simulation import images, made


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

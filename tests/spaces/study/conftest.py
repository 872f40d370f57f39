"""The images of the studies here."""

from __future__ import annotations

import pytest

from cl_core.images.dataset import Data
from tests.spaces.study.small_study import images


@pytest.fixture(scope="module")
def data() -> Data:
    return images()

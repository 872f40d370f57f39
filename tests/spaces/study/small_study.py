"""A small study and its images, which the tests of studies change."""

from __future__ import annotations

from typing import Any

import numpy as np

from cl_core.images.dataset import Data
from spaces.study.study import Study
from spaces.study.study_file import load_study

PLAIN: dict[str, Any] = {
    "study": "tiny",
    "data": "digits",
    "scenarios": ["B0-5tasks"],
    "methods": ["finetune", "lwf"],
}


def images() -> Data:
    """Twenty images of each of ten classes."""
    y = np.repeat(np.arange(10), 20)
    x = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    return Data.from_arrays(x, y, name="arrays")


def study(*overrides: str, **changes: Any) -> Study:
    """The study with keys changed; `...` leaves one out."""
    plain = {key: value for key, value in {**PLAIN, **changes}.items() if value is not ...}
    return load_study(plain, overrides)

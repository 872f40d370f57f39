"""Handwritten digits: 1,797 grey 8 x 8 images of 10 classes, which are part of scikit-learn.

The test split is the last fifth of each class in file order.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.loading import DATASETS
from cl_core.images.pixels import Array


@DATASETS.register("digits")
def load(spec: DataSpec) -> Data:
    """1,797 real handwritten digits, 8 x 8 grey; nothing to download."""
    table = _table()
    x = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # they are counts 0..16
    y = table[:, -1].astype(np.int64)
    held = np.zeros(len(y), bool)
    for label in range(10):
        rows = np.flatnonzero(y == label)
        held[rows[len(rows) - len(rows) // 5 :]] = True
    return Data.from_arrays(
        x[~held],
        y[~held],
        test=(x[held], y[held]),
        name="digits",
        augment=Augment(crop=1),
        net="convnet-small",
        recipe={"epochs": 10, "batch": 64, "lr": 0.05},
    )


def _table() -> Array:
    """The rows of scikit-learn's file, 64 pixels and the label each, [1797, 65] float64.

    Importing scikit-learn for one file would take two seconds.
    """
    found = find_spec("sklearn")
    folders = found.submodule_search_locations if found is not None else None
    paths = [Path(folder) / "datasets" / "data" / "digits.csv.gz" for folder in folders or ()]
    for path in paths:
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    where = f"{paths[0]} is not there" if paths else "it is not installed"
    raise BadRequest(f"data set 'digits' reads a file of scikit-learn, and {where}: pip install scikit-learn")

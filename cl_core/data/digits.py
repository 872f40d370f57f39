"""Handwritten digits: 1,797 grey 8 x 8 images of 10 classes that come with scikit-learn, so nothing is
downloaded.

The test split is the last fifth of each class in file order.
"""

from __future__ import annotations

import numpy as np

from cl_core.dataset import DATASETS, Augment, Data, DataSpec


@DATASETS.register("digits")
def load(spec: DataSpec) -> Data:
    """1,797 real handwritten digits, 8 x 8 grey; nothing to download."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # they are counts 0..16
    y = bunch.target.astype(np.int64)
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

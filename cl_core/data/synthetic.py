"""Generated images for tests and dry runs: each class is a smooth colour pattern under noise. No files.

Class c is the same whatever the number of classes, and its first images are the same whatever their number.
`data.classes` (10), `data.size` (8) and `data.per_class` (40 training images) may be any size; 20 test images
a class.
"""

from __future__ import annotations

import numpy as np

from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.loading import DATASETS
from cl_core.images.pixels import Array
from cl_core.seeds import numpy_stream

_TEST = 20  # images a class
_GRID = 4  # a pattern is drawn on 4 x 4 points and interpolated, so that a shifted image stays recognisable


@DATASETS.register("synthetic")
def load(spec: DataSpec) -> Data:
    """Generated colour patterns, any number of classes, sizes and images; for tests."""
    classes, size, per_class = spec.classes or 10, spec.size or 8, spec.per_class or 40
    train = [_draw(c, "train", per_class, size) for c in range(classes)]
    test = [_draw(c, "test", _TEST, size) for c in range(classes)]
    return Data.from_arrays(
        np.concatenate(train),
        np.repeat(np.arange(classes), per_class),
        test=(np.concatenate(test), np.repeat(np.arange(classes), _TEST)),
        name="synthetic",
        augment=Augment(crop=1, flip=True),
        net="convnet-small",
        recipe={"epochs": 10, "batch": 64, "lr": 0.05},
    )


def _draw(label: int, split: str, count: int, size: int) -> Array:
    """[count, size, size, 3] uint8 images of one class."""
    pattern = numpy_stream(0, "synthetic", "pattern", label).uniform(-1, 1, (_GRID, _GRID, 3))
    pattern += pattern[:, ::-1]  # mirror images belong to the same class
    at = np.linspace(0, _GRID - 1, size)
    low = np.minimum(at.astype(int), _GRID - 2)
    part = (at - low)[:, None, None]
    rows = pattern[low] * (1 - part) + pattern[low + 1] * part
    part = (at - low)[None, :, None]
    smooth = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    noise = numpy_stream(0, "synthetic", split, label).standard_normal((count, size, size, 3))
    return np.clip(np.rint(128 + 45 * smooth + 40 * noise), 0, 255).astype(np.uint8)

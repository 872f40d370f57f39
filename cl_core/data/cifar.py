"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 60,000 colour images of 32 x 32, from the official archives.

`root` holds `cifar-10-batches-py` or `cifar-100-python`; torchvision checks the files against the official
MD5 sums.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data, Images
from cl_core.images.loading import DATASETS

_FOLDER = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_MEAN = {"cifar10": (0.4914, 0.4822, 0.4465), "cifar100": (0.5071, 0.4867, 0.4408)}
_STD = {"cifar10": (0.2470, 0.2435, 0.2616), "cifar100": (0.2675, 0.2565, 0.2761)}


@DATASETS.register("cifar10")
def load_cifar10(spec: DataSpec) -> Data:
    """CIFAR-10: 10 classes, 50,000 + 10,000 images, 32 x 32."""
    return _load(spec, "cifar10")


@DATASETS.register("cifar100")
def load_cifar100(spec: DataSpec) -> Data:
    """CIFAR-100: 100 classes, 50,000 + 10,000 images, 32 x 32."""
    return _load(spec, "cifar100")


def _load(spec: DataSpec, name: str) -> Data:
    from torchvision.datasets import CIFAR10, CIFAR100

    root = Path(spec.root or "~/data").expanduser()
    folder = root / _FOLDER[name]
    if not folder.is_dir() and not spec.download:
        raise BadRequest(
            f"{name} must be in {folder}: it is not. Add --set data.download=true to fetch it, or --set "
            "data.root=DIR to name another folder"
        )
    make = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    splits = []
    for train in (True, False):
        try:
            with warnings.catch_warnings():
                # Newer NumPy versions warn about the dtypes in the official pickles.
                warnings.simplefilter("ignore")
                source = make(str(root), train=train, download=spec.download)
        except (RuntimeError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadRequest(
                f"{name} in {folder} cannot be used ({reason}): remove the folder and fetch it again with "
                "--set data.download=true, or say where it is with --set data.root=DIR"
            ) from error
        splits.append(Images(np.ascontiguousarray(source.data), np.asarray(source.targets, np.int64)))
    return Data(
        name=name,
        train=splits[0],
        test=splits[1],
        class_names=tuple(source.classes),
        mean=_MEAN[name],
        std=_STD[name],
        augment=Augment(crop=4, flip=True),
        net="resnet32",
        recipe={"epochs": 100, "batch": 128, "lr": 0.1},
    )

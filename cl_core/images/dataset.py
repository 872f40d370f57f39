"""A data set in memory: uint8 images and labels, with the facts that training needs.

`Data.from_arrays(x, y)` takes arrays. Pixels stay uint8 until a batch is made; nothing is augmented or
normalised here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cl_core.errors import BadRequest
from cl_core.hparams import Choice, Domain, Float, Int, Value
from cl_core.images.class_names import composed, unfit
from cl_core.images.pixels import Array, as_pixels, chunks, combine_digests, pixel_digest, statistics

POLICIES = ("cifar10", "imagenet", "svhn")  # of AutoAugment, by the data set on which each was learned
_RANGES: dict[str, Domain] = {
    "crop": Int(0, 4096),
    "flip": Choice(False, True),
    "brightness": Float(0, 1),
    "contrast": Float(0, 1),
    "cutout": Int(0, 4096),
}


@dataclass(frozen=True, eq=False)
class Images:
    """One split: `x` [N, H, W, C] uint8 (may be memory-mapped, copy on write) and `y` [N] int64 class ids."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Augment:
    """Changes of a training image that keep its class.

    `crop`: pixels of zero padding on each side, from which a window of the old size is cut at random.
    `flip`: mirror left and right with probability one half.
    `brightness`: multiply pixels by a factor drawn from [1 - brightness, 1 + brightness], cut at white.
    `contrast`: move pixels from their image's mean grey by a factor drawn likewise, before or after.
    `auto_augment`: then two operations of AutoAugment's policy of this name, as torchvision has them.
    `cutout`: at last blacken a square with this side around a random pixel (DeVries & Taylor, 2017).

    Raises BadRequest on values out of range.
    """

    crop: int = 0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    auto_augment: str | None = None
    cutout: int = 0

    def __post_init__(self) -> None:
        for key, domain in _RANGES.items():
            object.__setattr__(self, key, domain.check(f"data.augment.{key}", getattr(self, key)))
        if self.auto_augment not in (None, *POLICIES):
            raise BadRequest(
                f"data.augment.auto_augment must be {', '.join(POLICIES)} or null, not {self.auto_augment!r}"
            )


@dataclass(frozen=True, eq=False)
class Data:
    """A data set. Every class 0..K-1 has a training image, and a test image unless the test split is absent.

    `mean` and `std` are of x / 255, one value a channel. `augment`, `net` and `recipe` (keys of `Recipe`) are
    a run's defaults. `fingerprint` is the SHA-256 of pixels, labels and class names,
    wherever they lie. `notes` are lines to show before work; they enter no digest. Raises
    BadRequest when the parts do not fit together.
    """

    name: str
    train: Images
    test: Images | None
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment = Augment()
    net: str = "convnet"
    recipe: dict[str, Value] = field(default_factory=dict)
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.class_names:
            if (rule := unfit(name)) is not None:
                raise BadRequest(
                    f"class names must {rule}: {name!a} of {self.name!r} breaks this. Rename it."
                )
        object.__setattr__(self, "class_names", tuple(map(composed, self.class_names)))
        for split, images in (("training", self.train), ("test", self.test)):
            if images is not None:
                _check_images(f"the {split} split of {self.name!r}", images, len(self.class_names))
        if len(set(self.class_names)) != len(self.class_names):
            twice = sorted({n for n in self.class_names if self.class_names.count(n) > 1})
            raise BadRequest(
                f"class names must differ, and {twice[0]!r} stands twice in {self.name!r}: rename one"
            )
        absent = _absent(self.train, self.num_classes)
        if absent:
            raise BadRequest(
                f"every class needs a training image, and class {absent[0]} "
                f"({self.class_names[absent[0]]!r}) of {self.name!r} has none: "
                f"number the classes 0..{self.num_classes - 1} without gaps"
            )
        absent = [] if self.test is None else _absent(self.test, self.num_classes)
        if absent:
            raise BadRequest(
                f"the test split of {self.name!r} must have every class, and lacks {len(absent)} of "
                f"{self.num_classes}, such as class {absent[0]} ({self.class_names[absent[0]]!r}): add test "
                "images of it, or give no test split"
            )
        if self.test is not None and self.test.x.shape[1:] != self.train.x.shape[1:]:
            raise BadRequest(
                f"training and test images must have one shape, not {self.train.x.shape[1:]} and "
                f"{self.test.x.shape[1:]} (height, width, channels): resize the test images"
            )
        channels = self.train.x.shape[3]
        if len(self.mean) != channels or len(self.std) != channels or not all(s > 0 for s in self.std):
            raise BadRequest(
                f"mean and std need {channels} values and std above 0, not {self.mean} and {self.std}: "
                "leave them out (in a study: data.mean=null and data.std=null) to have them computed"
            )
        if channels not in (1, 3) and (self.augment.contrast or self.augment.auto_augment):
            raise BadRequest(
                f"contrast and auto_augment need images of 1 or 3 channels, not {channels}: leave both out "
                "of data.augment"
            )
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self.train, self.test, self.class_names))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        height, width, channels = self.train.x.shape[1:]
        return channels, height, width

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        test: tuple[Any, Any] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        augment: Augment | None = None,
        net: str = "convnet",
        recipe: Mapping[str, Value] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Data:
        """Data from arrays (or CPU tensors).

        `x` is [N, H, W], [N, H, W, C] or [N, C, H, W] with at most 4 channels (the last axis is taken for the
        channels where both could be), uint8 or float in [0, 1]; `y` [N] integers 0..K-1. Without `augment`,
        images are shifted by up to an eighth of their side and not mirrored; without `mean` and `std` they
        are computed from `x`. Raises BadRequest.
        """
        pixels, labels = as_pixels("x", x), _as_labels("y", y)
        if class_names is None:
            class_names = [str(c) for c in range(int(labels.max(initial=-1)) + 1)]
        train = Images(pixels, labels)
        held = None
        if test is not None:
            if not isinstance(test, tuple | list) or len(test) != 2:
                raise BadRequest(f"test must be a pair (x, y), not {type(test).__name__}")
            held = Images(as_pixels("test x", test[0]), _as_labels("test y", test[1]))
        _check_images(f"the training split of {name!r}", train, len(class_names))
        computed_mean, computed_std = statistics(pixels)
        return cls(
            name=name,
            train=train,
            test=held,
            class_names=tuple(str(n) for n in class_names),
            mean=tuple(float(m) for m in mean) if mean is not None else computed_mean,
            std=tuple(float(s) for s in std) if std is not None else computed_std,
            augment=augment if augment is not None else Augment(crop=min(pixels.shape[1:3]) // 8),
            net=net,
            recipe=dict(recipe) if recipe is not None else {"epochs": 50, "batch": 128, "lr": 0.05},
        )


def fingerprint(train: Images, test: Images | None, class_names: Sequence[str]) -> str:
    """SHA-256 (hexadecimal) of pixels, labels and class names; no path and no file name is in it."""
    splits = [
        (images.x.shape, pixel_digest(chunks(images.x)), images.y)
        for images in (train, test)
        if images is not None
    ]
    return combine_digests(splits, class_names)


def _as_labels(name: str, value: Any) -> Array:
    y = np.asarray(value)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise BadRequest(
            f"{name} must be a flat list of whole numbers 0..K-1, not {y.dtype} of shape {list(y.shape)}"
        )
    return np.ascontiguousarray(y, dtype=np.int64)


def _absent(images: Images, classes: int) -> list[int]:
    """The classes without an image."""
    return np.flatnonzero(np.bincount(images.y, minlength=classes) == 0).tolist()


def _check_images(what: str, images: Images, classes: int) -> None:
    x, y = images.x, images.y
    if x.ndim != 4 or x.dtype != np.uint8 or y.ndim != 1 or y.dtype != np.int64:
        raise BadRequest(
            f"{what} must be uint8 [N, H, W, C] with int64 [N], not {x.dtype} {list(x.shape)} with {y.dtype} "
            f"{list(y.shape)}: Data.from_arrays converts"
        )
    if len(x) != len(y):
        raise BadRequest(f"{what} has {len(x)} images and {len(y)} labels: give one label an image")
    if not len(y):
        raise BadRequest(f"{what} is empty: give at least one image a class")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise BadRequest(
            f"{what} has labels {low}..{high}, which must lie in 0..{classes - 1} ({classes} classes): "
            "number the classes from 0"
        )

"""A data set in memory: uint8 images and labels, with what a trainer must know about them.

`load("digits")` or `load(DataSpec("image-folder", root="~/photos", size=64))` finds a loader by name in
`DATASETS`; `Data.from_arrays(x, y)` takes arrays. Pixels stay uint8 until a batch is made; nothing is
augmented or normalised here.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cl_core.errors import BadRequest, defined_at, first_line, located, source_of, unknown
from cl_core.hparams import Int, Value
from cl_core.images.class_names import composed, unfit
from cl_core.images.pixels import Array, as_pixels, chunks, combine_digests, pixel_digest, resized, statistics
from cl_core.registry import Registry


@dataclass(frozen=True, eq=False)
class Images:
    """One split: `x` [N, H, W, C] uint8 (may be memory-mapped, copy on write) and `y` [N] int64 class ids."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Augment:
    """What may be done to a training image without changing its class.

    `crop`: pixels of zero padding on each side, from which a window of the old size is cut at random.
    `flip`: mirror left and right with probability one half.
    """

    crop: int = 0
    flip: bool = False


HALVES = ("tune", "evaluate")


@dataclass(frozen=True)
class DataSpec:
    """Which data, and how much of it.

    `name` is a registered data set or `module:function` of one's own; `root` the folder of its files; `size`
    the side of the square images in pixels; `classes` keeps the first N classes in the data set's order;
    `per_class` keeps at most that many training images of each class, evenly spaced in file order (the test
    split is not cut); `half` keeps one of two halves of the classes, "tune" or "evaluate" (see
    `half_of_classes`); `download` allows fetching what is missing. Raises BadRequest on values that cannot be
    meant.
    """

    name: str
    root: str | None = None
    size: int | None = None
    classes: int | None = None
    per_class: int | None = None
    download: bool = False
    half: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BadRequest(
                f"data.name must name a data set, not {self.name!r}: see `cl-search list datasets`"
            )
        if self.root is not None and (not isinstance(self.root, str) or not self.root):
            raise BadRequest(f"data.root must be a folder, not {self.root!r}: leave it out for the default")
        if not isinstance(self.download, bool):
            raise BadRequest(f"data.download must be true or false, not {self.download!r}")
        if self.half is not None and self.half not in HALVES:
            raise BadRequest(
                f"data.half must be {' or '.join(HALVES)}, not {self.half!r}: leave it out for all"
            )
        for key, domain in (
            ("size", Int(1, 4096)),
            ("classes", Int(1, 1_000_000)),
            ("per_class", Int(1, 10**9)),
        ):
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, domain.check(f"data.{key}", value))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | str) -> DataSpec:
        """From a mapping of the fields, or the name alone. Raises BadRequest on an unknown key."""
        if isinstance(values, str):
            return cls(values)
        if not isinstance(values, Mapping) or "name" not in values:
            raise BadRequest(f"data needs a name, as in {{name: digits}}, and got {values!r}")
        known = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise unknown("data key", key, known)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not set is left out."""
        out = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {key: value for key, value in out.items() if value is not None and value is not False}

    def identity(self) -> dict[str, Any]:
        """What decides the data, for digests: `root` and `download` only say where they come from."""
        return {key: value for key, value in self.to_dict().items() if key not in ("root", "download")}


@dataclass(frozen=True, eq=False)
class Data:
    """A data set. Every class 0..K-1 has a training image, and a test image unless the test split is absent.

    `mean` and `std` are of x / 255, one value a channel. `augment`, `net` and `recipe` (keys of `Recipe`) are
    what a run uses unless it says otherwise. `fingerprint` is the SHA-256 of pixels, labels and class names,
    wherever they lie. `notes` are lines on how the images were found, to be shown before work; no digest
    has them. Raises BadRequest when the parts do not fit together.
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
                "leave them out to have them computed"
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


def _fault(item: object) -> str | None:
    if not callable(item):
        return f"must be a function that takes the root, not {type(item).__name__}"
    if _takes(item) is None:
        return (
            f"must take the root, or the whole request as `spec`, or nothing, not {inspect.signature(item)}"
        )
    return None


Loader = Callable[..., Any]

DATASETS: Registry[Loader] = Registry("data set", "cl_core.data", _fault)
"""Functions of `root`, of the whole request `spec: DataSpec`, or of nothing, that give Data or pairs of
arrays; see `load`."""


def load(spec: DataSpec | str) -> Data:
    """The data that `spec` asks for: found, decoded, cut to its classes and images, resized.

    A data set of one's own, by `module:function` or an entry point, is a function of the root, of the whole
    request (a parameter named `spec`) or of nothing. It returns Data, or (x, y) of the training and of the
    test split, the latter perhaps None. Raises BadRequest.
    """
    spec = DataSpec(spec) if isinstance(spec, str) else spec
    made, where = _made(DATASETS[spec.name], spec)
    if isinstance(made, Data):
        return _fitted(made, spec)
    if (
        not isinstance(made, tuple | list)
        or len(made) != 2
        or not isinstance(made[0], tuple | list)
        or len(made[0]) != 2
    ):
        raise BadRequest(
            f"data set {spec.name!r} must return Data or ((x, y), (x, y)) of training and test, "
            f"not {type(made).__name__} ({where})"
        )
    name = spec.name.rpartition(":")[0].rpartition(".")[2] if ":" in spec.name else spec.name
    try:
        whole = Data.from_arrays(made[0][0], made[0][1], test=made[1], name=name)
    except BadRequest as error:
        raise BadRequest(f"data set {spec.name!r}: {error} ({where})") from error
    data = _fitted(whole, spec)
    if data is whole:
        return data
    mean, std = statistics(data.train.x)
    return dataclasses.replace(data, mean=mean, std=std)


def _made(loader: Loader, spec: DataSpec) -> tuple[Any, str]:
    """What a loader returns for `spec`, and where it is defined."""
    arguments = {"spec": (spec,), "root": (spec.root,), "nothing": ()}[_takes(loader) or "root"]
    where = defined_at(loader)
    try:
        return loader(*arguments), where
    except BadRequest:
        raise
    except Exception as error:
        if getattr(loader, "__module__", "").startswith(f"{DATASETS.package}."):
            if isinstance(error, OSError):  # of the file system, such as a path that is too long
                reason = error.strerror or first_line(error)
                raise BadRequest(
                    f"data set {spec.name!r} cannot be read ({reason}): check data.root"
                ) from error
            raise
        line = located(error, source_of(loader))
        raise BadRequest(f"data set {spec.name!r} failed: {line}; mend it") from error


def keep_classes(available: int, spec: DataSpec) -> int:
    """How many of the `available` classes `spec` keeps. Raises BadRequest when it asks for more."""
    if spec.classes is not None and spec.classes > available:
        raise BadRequest(
            f"data.classes is {spec.classes}, but {spec.name!r} has {available} classes: ask for at most that"
        )
    return available if spec.classes is None else spec.classes


def half_of_classes(classes: int, half: str) -> Array:
    """The class ids of one half of `classes` classes, ascending: hyperparameters are chosen on "tune", and
    methods compared on "evaluate" (Cha & Cho, arXiv 2403.09066, who take two data sets).

    The halves share no class. They are drawn from the number of classes alone, so every run, seed and machine
    has the same; of an odd number "tune" has one more. Raises BadRequest on fewer than four classes.
    """
    from cl_core.rng import numpy_stream  # torch, which a data set does without

    if classes < 4:
        raise BadRequest(
            f"data.half needs at least 4 classes, two a half, and there are {classes}: take a larger data set"
        )
    drawn = numpy_stream(0, "halves", classes).permutation(classes)
    middle = (classes + 1) // 2
    return np.sort(drawn[:middle] if half == "tune" else drawn[middle:])


def evenly(available: int, wanted: int | None) -> Array:
    """Positions of at most `wanted` items evenly spaced in `available`: all of them if there are no more.

    >>> evenly(10, 4).tolist()
    [0, 2, 5, 7]
    """
    if wanted is None or wanted >= available:
        return np.arange(available)
    return np.arange(wanted) * available // wanted


def fingerprint(train: Images, test: Images | None, class_names: Sequence[str]) -> str:
    """SHA-256 (hexadecimal) of pixels, labels and class names; no path and no file name is in it."""
    splits = [
        (images.x.shape, pixel_digest(chunks(images.x)), images.y)
        for images in (train, test)
        if images is not None
    ]
    return combine_digests(splits, class_names)


def _fitted(data: Data, spec: DataSpec) -> Data:
    """`data` cut and resized as `spec` asks; `data` itself if that is what it is already."""
    train, test = data.train, data.test
    kept = np.arange(keep_classes(data.num_classes, spec))
    if spec.half is not None:
        kept = half_of_classes(len(kept), spec.half)
    label = np.full(data.num_classes, -1, dtype=np.int64)
    label[kept] = np.arange(len(kept))
    rows = np.sort(np.concatenate([_rows_of(train.y, c, spec.per_class) for c in kept.tolist()]))
    if len(rows) < len(train):
        train = Images(train.x[rows], label[train.y[rows]])
    if test is not None and len(kept) < data.num_classes:
        known = label[test.y] >= 0
        test = Images(test.x[known], label[test.y[known]])
    augment, before = data.augment, train.x.shape[1:3]
    if spec.size is not None and before != (spec.size, spec.size):
        train = Images(resized(train.x, spec.size), train.y)
        test = None if test is None else Images(resized(test.x, spec.size), test.y)
        augment = dataclasses.replace(augment, crop=round(augment.crop * spec.size / min(before)))
    if train is data.train and test is data.test:
        return data
    names = tuple(data.class_names[c] for c in kept)
    return dataclasses.replace(
        data,
        train=train,
        test=test,
        class_names=names,
        augment=augment,
        fingerprint=fingerprint(train, test, names),
    )


def _rows_of(y: Array, label: int, per_class: int | None) -> Array:
    rows = np.flatnonzero(y == label)
    return rows[evenly(len(rows), per_class)]


def _takes(loader: Callable[..., Any]) -> str | None:
    """The argument that a loader wants: "spec", "root", "nothing", or None where it wants more than one."""
    try:
        signature = inspect.signature(loader)
    except (TypeError, ValueError):  # some callables written in C have no signature
        return "root"
    if not signature.parameters:
        return "nothing"
    try:
        signature.bind("one")
    except TypeError:
        return None
    return "spec" if next(iter(signature.parameters)) == "spec" else "root"


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

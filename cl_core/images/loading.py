"""Load the data set that a request names, cut to the classes, images and size asked for.

load("digits")
load(DataSpec("image-folder", root="~/photos", size=64))
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from cl_core.errors import BadRequest, defined_at, first_line, located, source_of
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data, Images, fingerprint
from cl_core.images.pixels import Array, resized, statistics
from cl_core.registry import Registry
from cl_core.seeds import numpy_stream


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
    """Return the data that `spec` names: decoded, cut to its classes and images, resized.

    A data set of your own, by `module:function` or an entry point, is a function of the root, of the whole
    request (a parameter named `spec`) or of nothing. It returns Data, or (x, y) of the training and of the
    test split, the latter perhaps None. Raises BadRequest.
    """
    spec = DataSpec(spec) if isinstance(spec, str) else spec
    return _dressed(_loaded(spec), spec)


def _loaded(spec: DataSpec) -> Data:
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


def _dressed(data: Data, spec: DataSpec) -> Data:
    """Return the data with the augmentation and the normalisation that `spec` asks for. Raises BadRequest."""
    asked = {key: value for key in ("augment", "mean", "std") if (value := getattr(spec, key)) is not None}
    return dataclasses.replace(data, **asked) if asked else data


def _made(loader: Loader, spec: DataSpec) -> tuple[Any, str]:
    """Return the result of a loader for `spec`, and the place of its definition."""
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
    """Return the number of `available` classes that `spec` keeps. Raises BadRequest when it asks for more."""
    if spec.classes is not None and spec.classes > available:
        raise BadRequest(
            f"data.classes is {spec.classes}, but {spec.name!r} has {available} classes: ask for at most that"
        )
    return available if spec.classes is None else spec.classes


def half_of_classes(classes: int, half: str) -> Array:
    """Return the class ids of one half of `classes` classes, ascending.

    Hyperparameters are chosen on "tune", and methods compared on "evaluate" (Cha & Cho, arXiv 2403.09066,
    with two data sets). The halves share no class and follow from the number of classes alone, so they are
    equal for every run, seed and machine. Of an odd number "tune" has one more. Raises BadRequest on fewer
    than four classes.
    """
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
    """Return the argument of a loader: "spec", "root", "nothing", or None where it needs more than one."""
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

"""The request for a data set: which one, and how much of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Int
from cl_core.images.dataset import Augment

HALVES = ("tune", "evaluate")


@dataclass(frozen=True)
class DataSpec:
    """A data set and the part of it to use.

    `name` is a registered data set or `module:function` of your own; `root` the folder of its files; `size`
    the side of the square images in pixels; `classes` keeps the first N classes in the data set's order;
    `per_class` keeps at most that many training images of each class, evenly spaced in file order (the test
    split is not cut); `half` keeps one of two halves of the classes, "tune" or "evaluate" (see
    `half_of_classes`); `download` allows fetching what is missing. `augment`, `mean` and `std` (of x / 255,
    a value a channel) replace the data set's own. Raises BadRequest on values out of range.
    """

    name: str
    root: str | None = None
    size: int | None = None
    classes: int | None = None
    per_class: int | None = None
    download: bool = False
    half: str | None = None
    augment: Augment | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.augment is not None and not isinstance(self.augment, Augment):
            object.__setattr__(self, "augment", _augment(self.augment))
        for key in ("mean", "std"):
            if (values := getattr(self, key)) is not None:
                object.__setattr__(self, key, _numbers(f"data.{key}", values))
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
        """Make a request from a mapping of its fields, or from the name alone. Raises BadRequest."""
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
        """Return plain values without those that are not set."""
        out = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        out["augment"] = None if self.augment is None else dataclasses.asdict(self.augment)
        out |= {key: list(out[key]) for key in ("mean", "std") if out[key] is not None}
        return {key: value for key, value in out.items() if value is not None and value is not False}

    def identity(self) -> dict[str, Any]:
        """Return what decides the data, for digests: not `root` and `download`, which name their place."""
        return {key: value for key, value in self.to_dict().items() if key not in ("root", "download")}


def _numbers(key: str, values: Any) -> tuple[float, ...]:
    numbers = values if isinstance(values, list | tuple) else [None]
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise BadRequest(f"{key} must be a list of numbers, a value a channel, not {values!r}")
    return tuple(map(float, numbers))


def _augment(plain: Any) -> Augment:
    if not isinstance(plain, Mapping):
        raise BadRequest(f"data.augment must be a mapping, as in {{crop: 4, flip: true}}, not {plain!r}")
    known = [f.name for f in dataclasses.fields(Augment)]
    for key in plain:
        if key not in known:
            raise unknown("key of data.augment", key, known)
    return Augment(**plain)

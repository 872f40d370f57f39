"""One registry for everything that has a name: methods, data sets, nets, presets, views.

A built-in item is a file in the registry's package, found when it is first asked for; nothing is imported
before. Others come from an entry point of an installed distribution (group `cl_search.<kind>`) or as
`module:attribute`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from cl_core.errors import BadRequest, first_line, unknown
from cl_core.own_code import REFERENCE, check

T = TypeVar("T")


class Registry(Generic[T]):
    """Items of one kind, by name.

    `kind` is the word used in messages; `package` the dotted package whose modules register the built-in
    items. What `module:attribute` points at must pass `accepts`, described by `what`.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        accepts: Callable[[object], bool] = callable,
        what: str = "a function",
    ) -> None:
        self.kind = kind
        self.package = package
        self._accepts, self._what = accepts, what
        self._items: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates under `name`."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"two {self.kind} items are named {name!r}")
            self._items[name] = item
            return item

        return add

    def names(self) -> list[str]:
        """Every name known, sorted; imports the package's modules."""
        self._load()
        points = importlib.metadata.entry_points(group=f"cl_search.{self.kind.replace(' ', '_')}")
        return sorted({*self._items, *(p.name for p in points)})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __getitem__(self, name: str) -> T:
        """The item called `name`, or the one that `module:attribute` points at, where that is permitted (see
        `cl_core.own_code`). Raises BadRequest."""
        if ":" in name:
            return self._from_path(name)
        if name not in self._items:
            self._load()
        if name not in self._items:
            for point in importlib.metadata.entry_points(group=f"cl_search.{self.kind.replace(' ', '_')}"):
                if point.name == name:
                    self._items.setdefault(name, point.load())
        if name not in self._items:
            raise unknown(self.kind, name, self.names())
        return self._items[name]

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._loaded = True

    def _from_path(self, path: str) -> T:
        if not REFERENCE.fullmatch(path):
            raise BadRequest(f"a {self.kind} of one's own is named module:attribute, not {path!r}")
        check(self.kind, path)
        module, attribute = path.split(":")
        try:
            item: T = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a module of one's own may raise anything while it is imported
            raise BadRequest(
                f"cannot load {self.kind} {path!r}: {first_line(error)}; is the module on PYTHONPATH?"
            ) from error
        if not self._accepts(item):
            raise BadRequest(f"{self.kind} {path!r} must be {self._what}, not {type(item).__name__}")
        return item

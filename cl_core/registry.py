"""One registry for everything that has a name: methods, data sets, nets, presets, views.

A built-in item is a file in the registry's package, imported at its first use and not
before. Others come from an entry point of an installed distribution (group `cl_search.<kind>`) or as
`module:attribute`. A broken file or entry point is an error only for a run that names it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from cl_core.errors import BadRequest, defined_at, located, unknown
from cl_core.own_code import REFERENCE, check_own_code

T = TypeVar("T")

_REGISTER = re.compile(r'^@(?:\w+\.)?register\((?:"([^"]+)"\))?', re.MULTILINE)
_MADE: dict[tuple[str, str], Registry[Any]] = {}  # by kind and package


def listed(kind: str, package: str) -> list[str] | None:
    """Return the names of a kind as its package's files register them, without an import.

    A registry that is made already answers itself, as a program may have registered more. Names that cannot
    be used are included. Return None where a file computes a name.
    """
    if (made := _MADE.get((kind, package))) is not None:
        return sorted({*made.names(), *made._broken})
    spec = importlib.util.find_spec(package)
    found = {point.name for point in _entry_points(kind)}
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob("*.py"):
            found |= set(_REGISTER.findall(path.read_text(encoding="utf-8")))
    return None if "" in found else sorted(found)


def _entry_points(kind: str) -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=f"cl_search.{kind.replace(' ', '_')}")


def not_callable(item: object) -> str | None:
    """Return the reason why an item is not a function, or None."""
    return None if callable(item) else f"must be a function, not {type(item).__name__}"


class Registry(Generic[T]):
    """Items of one kind, by name.

    `kind` is the word used in messages; `package` the dotted package whose modules register the built-in
    items. `fault` says what is wrong with an item, or None: "must be a function, not int".
    """

    def __init__(self, kind: str, package: str, fault: Callable[[object], str | None] = not_callable) -> None:
        self.kind = kind
        self.package = package
        self.fault = fault
        self._items: dict[str, T] = {}
        self._broken: dict[str, str] = {}  # name -> one line
        self._modules: dict[str, str] = {}  # of those that come from an entry point
        self._loaded = False
        _MADE[kind, package] = self

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates under `name`."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"two {self.kind} items are named {name!r}")
            self._items[name] = item
            return item

        return add

    @contextlib.contextmanager
    def temporarily(self) -> Iterator[None]:
        """Forget at the end of a `with` block which items were registered or looked up in it.

        A notebook can so register an item again after an edit.
        """
        self._load()
        tables: tuple[dict[str, Any], ...] = (self._items, self._broken, self._modules)
        before = [dict(table) for table in tables]
        try:
            yield
        finally:
            for table, kept in zip(tables, before, strict=True):
                table.clear()
                table.update(kept)

    def names(self) -> list[str]:
        """Every name known, sorted; imports the package's modules, and no entry point."""
        self._load()
        ours = self._items.keys() - self._modules.keys()  # an entry point counts while it is installed
        return sorted({*ours, *(point.name for point in _entry_points(self.kind))} - self._broken.keys())

    def broken(self) -> dict[str, str]:
        """Return the broken items by name, each with a line on file and error. Loads entry points."""
        for name in self.names():
            with contextlib.suppress(BadRequest):
                self[name]
        return dict(sorted(self._broken.items()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __getitem__(self, name: str) -> T:
        """Return the item `name`, or `module:attribute` if permitted (`own_code`). Raises BadRequest."""
        if ":" in name:
            return self._from_path(name)
        if name not in self._items:
            self._load()
        if name not in self._items and name not in self._broken:
            self._from_entry_point(name)
        if name in self._broken:
            raise BadRequest(f"{self.kind} {name!r} cannot be used: {self._broken[name]}")
        if name not in self._items:
            beside = "".join(f"; {line}" for line in self._broken.values())
            raise BadRequest(f"{unknown(self.kind, name, self.names())}{beside}")
        return self._items[name]

    def module(self, name: str) -> str:
        """The dotted name of the module that an item comes from. Raises BadRequest as looking it up does."""
        item = self[name]
        if ":" in name:
            return name.split(":")[0]
        return self._modules.get(name) or str(item.__module__)

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            before, name = set(self._items), module.name.rstrip("_")
            try:
                importlib.import_module(f"{self.package}.{module.name}")
            except (Exception, SystemExit) as error:  # a file may raise anything while it is imported
                where = located(error, f"{package.__path__[0]}/{module.name}")
                self._broken[name] = f"{where}; mend the file or remove it"
                for half in self._items.keys() - before:
                    del self._items[half]
            for new in self._items.keys() - before:
                self._judge(new)
        self._loaded = True

    def _from_entry_point(self, name: str) -> None:
        for point in _entry_points(self.kind):
            if point.name != name:
                continue
            of = f" of {point.dist.name}" if point.dist else ""
            try:
                self._items.setdefault(name, point.load())
                self._modules.setdefault(name, point.module)
            except (Exception, SystemExit) as error:
                self._broken[name] = f"{located(error)}; mend or uninstall the entry point{of}"
            else:
                self._judge(name)

    def _judge(self, name: str) -> None:
        if (wrong := self.fault(self._items[name])) is not None:
            self._broken[name] = f"{wrong} ({defined_at(self._items.pop(name))})"

    def _from_path(self, path: str) -> T:
        if not REFERENCE.fullmatch(path):
            raise BadRequest(f"a {self.kind} of your own is named module:attribute, not {path!r}")
        check_own_code(self.kind, path)
        # Where the command is given, as `python -m` does; not before: entry points would be looked for there.
        if os.getcwd() not in sys.path:  # noqa: PTH109 - an entry of sys.path is a text
            sys.path.append(os.getcwd())  # noqa: PTH109
        name, attribute = path.split(":")
        try:
            item: T = getattr(importlib.import_module(name), attribute)
        except (Exception, SystemExit) as error:  # a module of your own may raise anything
            remedy = "mend the module"
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                remedy = "is the module on PYTHONPATH?"
            elif isinstance(error, AttributeError) and name in sys.modules:
                remedy = f"name what {getattr(sys.modules[name], '__file__', name)} defines"
            raise BadRequest(f"cannot load {self.kind} {path!r}: {located(error)}; {remedy}") from error
        if (wrong := self.fault(item)) is not None:
            raise BadRequest(f"{self.kind} {path!r} {wrong} ({defined_at(item)})")
        return item

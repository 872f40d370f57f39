"""The code that decides a run's numbers: its files, each with a digest, and the versions beside them.

From the trainer, and from the modules of method, net and data set, imports are followed through cl_core and
through the folder tree or the distribution that code of your own comes from. Comments, docstrings and layout
do not count. Compiled modules, and modules named only while the program runs, are not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cl_core.hparams import digest
from cl_core.images.loading import DATASETS
from cl_core.method import METHODS
from cl_core.nets.network import NETS

CORE = Path(__file__).parents[1]
ALWAYS = (
    "cl_core.training.trainer",
    "cl_core.metrics",
    "cl_core.methods.finetune",
)  # shared-base and chf train this


class Source(NamedTuple):
    """A module's file below `root`, the folder in which its dotted name begins."""

    root: Path
    path: Path

    @property
    def label(self) -> str:
        """The file below its root: cl_core/methods/lwf.py."""
        return self.path.relative_to(self.root).as_posix()


def code_of(*parts: tuple[str, str, str]) -> dict[str, str]:
    """Return the digest of each file that decides the numbers of runs, by its name. Raises BadRequest.

    Runs are given by the names of their method, net and data set.
    """
    return files(
        [
            *ALWAYS,
            *{METHODS.module(method) for method, _, _ in parts},
            *{NETS.module(net) for _, net, _ in parts},
            *{DATASETS.module(data) for _, _, data in parts},
        ]
    )


def code_digest(method: str, net: str, data: str) -> str:
    """Return the digest that names the code of a run in its row: files and versions."""
    return digest({"files": code_of((method, net, data)), "versions": versions()})


def own_code(module: str) -> str | None:
    """The digest of a module outside cl_core with all that it imports from beside it; None for one inside."""
    if module.split(".")[0] == CORE.name:  # it imports nothing from outside that would count
        return None
    own = {name: known for name, known in files([module]).items() if not name.startswith("cl_core/")}
    return digest(own) if own else None


def files(modules: Iterable[str]) -> dict[str, str]:
    """Return the digest of each file of some modules and their imports, by name: cl_core/methods/lwf.py."""
    return {source.label: file.digest for source, file in _closure(modules)}


def own_sources(modules: Iterable[str]) -> dict[str, Path]:
    """Return the files of modules outside cl_core and of their imports from beside them, by name."""
    found = {source.label: source.path for source, _ in _closure(modules)}
    return {name: path for name, path in found.items() if CORE not in path.parents}


def versions() -> dict[str, str]:
    """Versions that decide numbers: of Python (whose sum of floats changed with 3.12), torch, NumPy."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "torch": torch.__version__, "NumPy": np.__version__}


class _File(NamedTuple):
    digest: str
    imports: frozenset[str]  # dotted names; a relative one keeps its dots


def _closure(modules: Iterable[str]) -> Iterator[tuple[Source, _File]]:
    """The modules' files, and those that they import from below the same roots or from cl_core."""
    waiting = [source for module in modules for source in _sources_of(module)]
    seen: set[Path] = set()
    followed: set[tuple[Path, str, str]] = set()  # imports by the folder or module below the root
    while waiting:
        source = waiting.pop()
        if source.path in seen:
            continue
        seen.add(source.path)
        stat = source.path.stat()
        file = _read(source.path, stat.st_mtime_ns, stat.st_size)
        yield source, file
        top = source.path.relative_to(source.root).parts[0]
        for name in file.imports:
            if name.startswith(".") or (source.root, top, name) not in followed:
                followed.add((source.root, top, name))
                waiting += _found(source, name)


def _sources_of(module: str) -> Iterator[Source]:
    """The files that importing a module runs: those of the packages around it, then its own."""
    loaded = importlib.import_module(module)
    if not (file := getattr(loaded, "__file__", None)) or Path(file).suffix != ".py":
        return
    path, parts = Path(file), module.split(".")
    if module == "__main__":
        yield Source(path.parent, path)
        return
    root = path.parents[len(parts) - (path.name != "__init__.py")]
    yield from (Source(root, found) for found in _below(root, parts))


def _found(source: Source, name: str) -> Iterator[Source]:
    """The files of an import that stands in a file, where they are cl_core's or lie below the same root."""
    parts = [part for part in name.lstrip(".").split(".") if part]
    if dots := len(name) - len(name.lstrip(".")):
        package = source.path.relative_to(source.root).parent.parts
        parts = [*package[: len(package) - dots + 1], *parts]
    if parts and parts[0] == "cl_core":
        yield from (Source(CORE.parent, path) for path in _below(CORE.parent, parts))
    elif parts and CORE not in source.path.parents:
        paths = list(_below(source.root, parts))
        if paths and _together(source, parts[0]):
            yield from (Source(source.root, path) for path in paths)


def _together(source: Source, top: str) -> bool:
    """Return true if a top-level module beside a file belongs to the same code.

    A module of the standard library or of another distribution does not.
    """
    first = source.path.relative_to(source.root).parts[0].removesuffix(".py")
    if top == first or top in sys.stdlib_module_names:
        return top == first
    owners = {*_owners().get(top, [])}
    return not owners or bool(owners & {*_owners().get(first, [])})


def _below(root: Path, parts: Collection[str]) -> Iterator[Path]:
    """The files that importing a dotted name runs; what is no file at its end is an attribute."""
    place = root
    for part in parts:
        place = place / part
        if (place / "__init__.py").is_file():
            yield place / "__init__.py"
        elif place.with_name(f"{part}.py").is_file():
            yield place.with_name(f"{part}.py")
            return
        elif not place.is_dir():
            return


@cache
def _owners() -> Mapping[str, list[str]]:
    """The installed distributions that top-level modules come from."""
    return importlib.metadata.packages_distributions()


@lru_cache(maxsize=4096)
def _read(path: Path, changed: int, size: int) -> _File:
    """A file's digest and imports, read again when it has changed."""
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except SyntaxError:  # it is mentioned and never imported
        return _File(hashlib.sha256(content).hexdigest()[:16], frozenset())
    imports = frozenset(_imports(tree))
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [statement for statement in body if not _is_text(statement)]
    return _File(hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], imports)


def _is_text(statement: ast.stmt) -> bool:
    """Tell whether a statement is a text alone, such as a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_for_type_checkers(test: ast.expr) -> bool:
    """Tell `TYPE_CHECKING` and `typing.TYPE_CHECKING`, and not what only contains them, such as `not`."""
    name = test.id if isinstance(test, ast.Name) else getattr(test, "attr", None)
    return name == "TYPE_CHECKING"


def _imports(tree: ast.AST) -> Iterator[str]:
    """Every import, wherever it stands, but for those of type checkers; `from a import b` may be a.b."""
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _is_for_type_checkers(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = "." * node.level + (node.module or "")
            yield stem
            yield from (f"{stem}.{alias.name}" if node.module else stem + alias.name for alias in node.names)
        waiting += ast.iter_child_nodes(node)

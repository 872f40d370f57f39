"""The source files of the four packages and their imports, as the rules of this folder read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cl_core", "spaces", "search", "analysis")
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# The contracts set the global generators and take gradients, to see that nothing else does.
RUN_FILES = [p for p in FILES if "testing" not in p.relative_to(ROOT).parts]


class Import(NamedTuple):
    line: int
    module: str
    inner: bool  # it stands in a function


def name(path: Path) -> str:
    """Return the path of a file below the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def module(path: Path) -> str:
    """Return the dotted name of a file's module."""
    return name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module(path): path for path in FILES}


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Return every import of a file, wherever it stands; `from a import b` is a, and also a.b."""
    return tuple(_imports(tree(path), inner=False))


def _imports(node: ast.AST, inner: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(child.lineno, alias.name, inner) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield Import(child.lineno, child.module, inner)
            yield from (Import(child.lineno, f"{child.module}.{a.name}", inner) for a in child.names)
        else:
            yield from _imports(child, inner or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def known(path: Path) -> frozenset[str]:
    """Return the modules of our packages that a file imports."""
    found = {i.module for i in imports(path) if i.module in MODULES} - {module(path)}
    outer = {i.module.rsplit(".", 1)[0] for i in imports(path) if i.module in found}
    # `from a.b import c` names the package a.b too; it is an import of it only where c is no module.
    bare = {i.module for i in imports(path) if i.module not in MODULES}
    return frozenset(m for m in found if m not in outer or any(b.rsplit(".", 1)[0] == m for b in bare))


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every call in a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, dotted(node.func)


def dotted(node: ast.expr) -> str:
    """Return the dotted name of an expression such as torch.random.manual_seed, or its named end."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""

"""Keep names apart: one public name, one meaning in a package; docstrings begin with a verb or a noun."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import FILES, PACKAGES, TESTS, dotted, name, tree

# Names that several modules of one package define, each with the reason.
SHARED = {
    "cl_core": {
        "T": "the type variable of a generic",
        "idle": "a pair: chf and shared_base say alike where they change nothing",
        "load": "what each file of data/ registers, and the function that finds it by name",
        "run": "the Python API, and the contracts' run on small data",
    },
    "spaces": {},
    "search": {},
    "analysis": {
        "TITLE": "every view's title",
        "FORMULAS": "a view's formulas, which the report prints",
    },
}
QUESTIONS = {"What", "Whether", "Where", "How", "Who", "When", "Which", "Why"}
NO_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


def public(path: Path) -> Iterator[str]:
    """Yield the public functions, classes and constants that a module defines."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (each for each in names if not each.startswith("_"))


def repeated(package: str) -> dict[str, list[str]]:
    """Return the public names that several modules of a package define, with the modules.

    A verb of `search/cli` may have the name of the function that carries it out.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        if name(path).startswith(f"{package}/") and path.stem != "__init__":
            for each in dict.fromkeys(public(path)):
                found[each].append(name(path))
    twice = {each: files for each, files in found.items() if len(files) > 1}
    pairs = {each for each, files in twice.items() if len(files) == 2 and files[0].startswith("search/cli/")}
    return {each: files for each, files in twice.items() if each not in pairs}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_stands_in_one_module_of_a_package(package: str) -> None:
    found = repeated(package)
    assert {each: files for each, files in found.items() if each not in SHARED[package]} == {}
    assert set(SHARED[package]) <= set(found), "a listed name is no longer shared: take it off the list"


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_begin_with_a_verb_or_a_noun(package: str) -> None:
    found = []
    for path in FILES:
        if name(path).startswith(f"{package}/"):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node) or ""
                    if text.split() and text.split()[0].strip(",:.;") in QUESTIONS:
                        found.append(f"{name(path)}: {text.splitlines()[0]}")
    assert found == []


def test_no_module_is_named_after_nothing() -> None:
    assert not {path.stem for path in FILES} & NO_NAMES


# Names with an underscore that a library made for all to use.
PUBLIC = {"_replace", "_asdict", "_fields", "_exit", "_getframe"}


def private(path: Path) -> Iterator[str]:
    """Yield the private names of others that a file reads, imports or patches."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            words = [] if own else [node.attr]
        elif isinstance(node, ast.ImportFrom):
            words = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call) and dotted(node.func).startswith("monkeypatch."):
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            words = [word for text in texts for word in str(text).split(".")]
        else:
            continue
        for word in words:
            if word.startswith("_") and not word.startswith("__") and word not in PUBLIC:
                yield f"{name(path)}:{node.lineno}: {word}"


def test_no_test_touches_a_private_name() -> None:
    assert [each for path in TESTS for each in private(path)] == []

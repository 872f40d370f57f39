"""The rooms of the house: the folders of the four packages, in their order, and the table of them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.architecture.sources import FILES, MODULES, ROOT, imports, known, module, name, tree

PAGE = ROOT / "cl_core" / "README.md"
MARKS = ("<!-- rooms -->\n", "<!-- /rooms -->")

# From the ground up: a room imports rooms of the lines above it, and packages that its own one may import.
# Files beside the folders of a package are listed by name; those of one line may import each other.
ORDER: dict[str, tuple[str, ...]] = {
    "cl_core": (
        "aside.py contract.py errors.py hparams.py metric_queries.py metrics.py own_code.py records.py"
        " recipe.py registry.py rng.py seeds.py task.py yaml_text.py",
        "images",
        "data",
        "scenarios",
        "memory.py",
        "nets",
        "state.py",
        "blocks",
        "method.py",
        "methods",
        "training",
        "model",
        "__init__.py",
        "testing",
    ),
    "spaces": ("presets", "space", "study", "resolved", "__init__.py"),
    "search": (
        "lake",
        "storage",
        "remote",
        "worker",
        "jobs",
        "backends",
        "cells",
        "display",
        "launch",
        "preparation",
        "cost",
        "commands",
        "cli",
        "__init__.py",
    ),
    "analysis": (
        "lake",
        "statistics",
        "selection",
        "comparison",
        "survey",
        "report",
        "views",
        "paper",
        "tracking",
        "__init__.py",
        "testing.py",
        "examples",
    ),
}


class Room(NamedTuple):
    name: str  # cl_core/nets, or cl_core for the files beside the folders
    files: int
    lines: int
    imports: Mapping[str, int]  # other rooms of the package, with the number of imports
    packages: frozenset[str]  # other packages


def place(path: Path) -> str:
    """Return the entry of ORDER that a file belongs to: its folder, or its name at the top of a package."""
    return path.relative_to(ROOT).parts[1]


def floor(path: Path) -> int:
    """Return the line of ORDER on which a file stands. Raises LookupError where it stands on none."""
    order = ORDER[path.relative_to(ROOT).parts[0]]
    for number, line in enumerate(order):
        if place(path) in line.split():
            return number
    raise LookupError(f"{name(path)} stands in no room: list {place(path)} in tests/architecture/rooms.py")


def arrows_up() -> list[str]:
    """Return the imports inside a package that point to a higher line of ORDER."""
    found = []
    for path in FILES:
        for other in sorted(known(path)):
            target = MODULES[other]
            same = target.relative_to(ROOT).parts[0] == path.relative_to(ROOT).parts[0]
            if same and floor(target) > floor(path):
                found.append(f"{name(path)} imports {other}")
    return found


def circles() -> list[list[str]]:
    """Return the groups of modules that import each other in a circle."""
    graph = {module(path): known(path) for path in FILES}
    reach = {start: _reached(start, graph) for start in graph}
    found = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in graph if a in reach[a]}
    return sorted(list(group) for group in found)


def _reached(start: str, graph: Mapping[str, frozenset[str]]) -> set[str]:
    seen: set[str] = set()
    rest = list(graph[start])
    while rest:
        if (at := rest.pop()) not in seen:
            seen.add(at)
            rest += graph[at]
    return seen


def inner_imports(package: str) -> list[str]:
    """Return the import statements of a package that stand inside functions, as file:line."""
    found = (
        f"{name(p)}:{i.line}"
        for p in FILES
        if name(p).startswith(f"{package}/")
        for i in imports(p)
        if i.inner
    )
    return list(dict.fromkeys(found))


def rooms() -> list[Room]:
    """Measure the rooms, from the ground up within each package."""
    found = []
    for package, order in ORDER.items():
        folders = [entry for line in order for entry in line.split() if not entry.endswith(".py")]
        for room in [package, *(f"{package}/{folder}" for folder in folders)]:
            paths = [p for p in FILES if _room(p) == room]
            links = [_room(MODULES[m]) for p in paths for m in known(p)]
            near = {r: links.count(r) for r in sorted(set(links)) if r != room and r.startswith(package)}
            far = frozenset(r.split("/")[0] for r in links) - {package}
            lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in paths)
            found.append(Room(room, len(paths), lines, near, far))
    return found


def _room(path: Path) -> str:
    return (
        "/".join(path.relative_to(ROOT).parts[:2])
        if len(path.relative_to(ROOT).parts) > 2
        else (path.relative_to(ROOT).parts[0])
    )


def summary(room: str) -> str:
    """Return what a room holds: the first sentence of its package's docstring."""
    text = ast.get_docstring(tree(ROOT / room / "__init__.py")) or ""
    return " ".join(text.split()).split(". ")[0].rstrip(".")


def row(room: Room) -> str:
    """Return a room's row of the table, without its size, which every edit changes."""
    near = ", ".join(r.removeprefix(f"{r.split('/')[0]}/") for r in room.imports)
    far = ", ".join(sorted(room.packages))
    return f"| `{room.name}` | {summary(room.name)} | {near or '-'} | {far or '-'} |"


def table() -> str:
    """Return the table of rooms for the page, with files and lines rounded to fifty."""
    lines = [
        "| room | holds | imports rooms | imports packages | files | lines |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"{row(r)} {r.files} | {max(round(r.lines, -1), 10):,} |" for r in rooms()]
    return "\n".join(lines) + "\n"


def written() -> str:
    """Return the table that stands on the page; empty where the page has none."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return text.partition(MARKS[0])[2].partition(MARKS[1])[0]


def write() -> None:
    """Put the table on the page, between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, mark, rest = text.partition(MARKS[0])
    if not mark:
        raise SystemExit(
            f"{name(PAGE)} has no {MARKS[0].strip()}: write the two marks where the table belongs"
        )
    PAGE.write_text(before + mark + table() + MARKS[1] + rest.partition(MARKS[1])[2], encoding="utf-8")

"""Keep the order of the rooms: imports point down, none in a circle, and the page has their table."""

from __future__ import annotations

import pytest

from tests.architecture.rooms import (
    arrows_up,
    circles,
    floor,
    inner_imports,
    rooms,
    row,
    written,
)
from tests.architecture.sources import FILES, module

# Imports belong at the top of a file. Inside a function they stand where a verb loads what only it needs, and
# for Ray and Optuna, which are slow to load.
INNER = {"cl_core": 10, "spaces": 1, "search": 30, "analysis": 4}


def test_every_file_stands_in_a_room() -> None:
    for path in FILES:
        assert floor(path) >= 0


def test_imports_between_rooms_point_down() -> None:
    assert arrows_up() == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles() == []


@pytest.mark.parametrize("package", INNER)
def test_few_imports_stand_inside_functions(package: str) -> None:
    found = inner_imports(package)
    assert len(found) <= INNER[package], "\n".join(found)


def test_two_modules_that_import_each_other_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = FILES[:3]
    graph = {one: {module(two)}, two: {module(three)}, three: {module(two)}}
    monkeypatch.setattr("tests.architecture.rooms.FILES", [one, two, three])
    monkeypatch.setattr("tests.architecture.rooms.known", lambda path: frozenset(graph[path]))
    assert circles() == [sorted([module(two), module(three)])]


def test_the_page_shows_the_rooms_and_their_imports() -> None:
    shown = written()
    for room in rooms():
        assert row(room) in shown, f"run `python -m tests.architecture --write`: {room.name} has changed"
    assert shown.count("\n| `") == len(rooms())

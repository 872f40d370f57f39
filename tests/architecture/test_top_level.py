"""Keep the top level: four packages, tests, and every folder of modules listed for the installation."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.architecture.sources import FILES, PACKAGES, ROOT, TESTS


def _tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_no_other_folder_stands_at_the_top_level() -> None:
    folders = {path.split("/")[0] for path in _tracked() if "/" in path}
    assert folders <= {*PACKAGES, "tests", ".ci"}


def test_every_package_is_listed_and_every_listed_one_is_there() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in FILES if p.stem == "__init__"}
    assert sorted(listed) == sorted(found)
    folders = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in FILES}
    assert folders == found, "a folder of modules without __init__.py"


def test_the_tests_mirror_the_packages() -> None:
    folders = {
        p.relative_to(ROOT / "tests").parts[0] for p in TESTS if len(p.relative_to(ROOT / "tests").parts) > 1
    }
    assert folders <= {*PACKAGES, "contracts", "architecture", "benchmarks", "faults", "fuzz"}
    names = [p.name for p in TESTS if p.name.startswith("test_")]
    assert len(names) == len(set(names)), "two test files of one name"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_a_package_s_tests_are_its_rooms(package: str) -> None:
    tests = ROOT / "tests" / package
    rooms = {p.parent.relative_to(ROOT / package) for p in FILES if p.is_relative_to(ROOT / package)}
    found = {p.parent.relative_to(tests) for p in TESTS if p.is_relative_to(tests)}
    helpers = {Path("replay")} if package == "search" else set()  # recorded grids
    assert found - helpers <= rooms

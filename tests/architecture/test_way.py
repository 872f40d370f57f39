"""Keep the way of a run short, from the command line to its first gradient."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.architecture.sources import ROOT

LIMITS = {"cl-search train": 11, "cl-search run --local": 11, "forms": 11}


@pytest.fixture(scope="module")
def shown() -> str:
    command = [sys.executable, "-m", "tests.architecture.way"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("what", LIMITS)
def test_a_run_reaches_its_first_gradient_on_a_short_way(what: str, shown: str) -> None:
    line = re.search(rf"^.*{re.escape(what)}.*: (\d+)$", shown, re.MULTILINE)
    assert line is not None
    assert 3 <= int(line[1]) <= LIMITS[what], shown

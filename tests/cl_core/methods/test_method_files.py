"""A method is one file that can be read at a sitting."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from cl_core import methods
from cl_core.method import METHODS

FILES = sorted(Path(methods.__path__[0]).glob("[!_]*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_method_s_file_has_at_most_150_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, "move a part of it to cl_core/blocks"


@pytest.mark.parametrize("method", METHODS.names())
def test_a_method_defines_its_loss_itself(method: str) -> None:
    assert "loss" in vars(METHODS[method])
    assert Path(inspect.getfile(METHODS[method])).stem.rstrip("_") == method

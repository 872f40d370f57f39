"""The command line as a person uses it: a call, a refusal, a small study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from search.cli import app


def call(*arguments: object, code: int | None = None) -> Result:
    """Return what a command prints, and its exit code, which must be `code` if one is given."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert code in (None, result.exit_code), result.output
    return result


def refused(*arguments: object) -> str:
    """The one line that a bad request gets."""
    result = call(*arguments, code=2)
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def write(folder: Path, **changes: Any) -> Path:
    """A study file: one cell, two trials, a second of training."""
    study = {
        "study": "small",
        "data": {"name": "digits", "per_class": 30},
        "scenarios": ["B0-5tasks"],
        "methods": ["finetune"],
        "recipe": {"epochs": 1, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
        "search": {"trials": 2},
        **changes,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(study))
    return path

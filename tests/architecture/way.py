"""Print the way of a run from the command line to `.backward()`: its frames, and the forms it takes.

python -m tests.architecture.way

A frame is a call of our code that is open when the first gradient is taken. A form is a type of value that
carries the run's method and hyperparameters on its way through the search.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from pydantic import BaseModel

from tests.architecture.sources import PACKAGES, ROOT

MARK = 3.14159  # a hyperparameter's value, by which a run is known in whatever form
SMALL = ("--set", "recipe.epochs=1", "--set", "data.per_class=10", "--threads", "1")
TRAIN = ("train", "--method", "lwf", "--data", "digits", "--scenario", "B0-5tasks", *SMALL)
STUDY = {
    "study": "way",
    "data": {"name": "digits", "per_class": 10},
    "scenarios": ["B0-5tasks"],
    "methods": {"lwf": {"kd_weight": MARK}},
    "recipe": {"epochs": 1},
    "search": {"trials": 1},
    "resources": {"cpu": 1, "gpu": 0},
}


class Arrived(BaseException):
    """The first gradient is about to be taken."""


def frames(arguments: Sequence[str]) -> list[str]:
    """Run a command up to its first gradient; return the open calls of our code, the outermost first."""
    found: list[str] = []

    def arrive(*_: object, **__: object) -> None:
        frame = sys._getframe(1)
        while frame is not None:
            if _ours(frame):
                path = Path(frame.f_code.co_filename).relative_to(ROOT)
                found.insert(0, f"{path}: {frame.f_code.co_qualname}")
            frame = frame.f_back
        raise Arrived

    backward, torch.Tensor.backward = torch.Tensor.backward, arrive
    try:
        _command(arguments)
    except Arrived:
        pass
    finally:
        torch.Tensor.backward = backward
    return found


def forms(arguments: Sequence[str]) -> list[str]:
    """Run a command; return the types of values, in order, that carried the run's method and mark."""
    found: dict[str, None] = {}

    def look(frame: FrameType, event: str, value: Any) -> None:
        form = _form(value) if event == "return" and _ours(frame) else ""
        if form and form not in found and _holds(value, MARK) and _holds(value, "lwf"):
            found[form] = None

    def arrive(*_: object, **__: object) -> None:
        sys.setprofile(None)
        raise Arrived

    backward, torch.Tensor.backward = torch.Tensor.backward, arrive
    sys.setprofile(look)
    try:
        _command(arguments)
    except Arrived:
        pass
    finally:
        sys.setprofile(None)
        torch.Tensor.backward = backward
    return list(found)


def _command(arguments: Sequence[str]) -> None:
    from search.cli import main

    sys.argv = ["cl-search", *arguments]
    main()


def _ours(frame: FrameType) -> bool:
    return any(frame.f_code.co_filename.startswith(f"{ROOT / package}/") for package in PACKAGES)


def _form(value: Any) -> str:
    """Return the name of a value's form; empty for what is no record of values."""
    kind = type(value)
    if isinstance(value, Mapping):
        return f"{kind.__name__} of {', '.join(sorted(map(str, value))[:4])}"
    if dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel) or hasattr(kind, "_fields"):
        return f"{kind.__module__}.{kind.__qualname__}"
    return "text" if kind is str else ""


def _holds(value: Any, wanted: object, depth: int = 8) -> bool:
    """Return True where a value, or what it is made of, is the one wanted."""
    if isinstance(value, str):
        return value == wanted or (len(value) > 20 and str(wanted) in value)
    if isinstance(value, int | float):
        return value == wanted
    if depth == 0 or value is None:
        return False
    if isinstance(value, Mapping):
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif dataclasses.is_dataclass(value) or isinstance(value, BaseModel):
        parts = list(vars(value).values()) if hasattr(value, "__dict__") else []
        parts.append(getattr(value, "model_extra", None))  # keys that a model takes besides its fields
    else:
        parts = []
    return any(_holds(part, wanted, depth - 1) for part in parts)


def study_file(folder: Path) -> Path:
    """Write the study of one run, and return its file."""
    path = folder / "way.yaml"
    path.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return path


def show(title: str, found: Sequence[str]) -> None:
    print(f"{title}: {len(found)}")
    print("".join(f"  {line}\n" for line in found))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = ["run", str(study_file(folder)), "--local"]
        show("frames of `cl-search train`", frames(TRAIN))
        show("frames of `cl-search run --local`", frames([*run, "--out", str(folder / "frames")]))
        show("forms of a run of `cl-search run --local`", forms([*run, "--out", str(folder / "forms")]))

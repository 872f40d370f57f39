"""The errors, as one small tree.

    ClSearchError
    ├── BadRequest         a request that cannot be carried out; raised before any work; the CLI ends with
    2
    └── RunError         one run failed; the study continues; the CLI ends with 1
        └── NonFiniteLoss  a loss term became NaN or infinite

A message is one line: the rule, the value, the remedy.
"""

from __future__ import annotations

import difflib
import inspect
import traceback
from collections.abc import Iterable
from typing import Any


class ClSearchError(Exception):
    """Base of every error that cl-search raises on purpose."""


class BadRequest(ClSearchError, ValueError):
    """A request that cannot be carried out: rule, value and remedy in one line."""


class RunError(ClSearchError):
    """One run failed; nothing else is affected."""


class NonFiniteLoss(RunError):
    """A loss term, or a weight in the last step, became NaN or infinite; the message names it.

    `seconds` are those of the training that an earlier process has spent.
    """

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type's name where it has none.

    >>> first_line(AssertionError())
    'AssertionError'
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def named_line(error: BaseException) -> str:
    """The type and the first line of an exception.

    >>> named_line(ValueError("no number"))
    'ValueError: no number'
    """
    text, name = first_line(error), type(error).__name__
    return name if text == name else f"{name}: {text}"


def defined_at(item: object) -> str:
    """File and line at which a class or a function is defined; the name of its type where none is known.

    >>> defined_at(1)
    'int'
    """
    try:
        found: Any = inspect.unwrap(item)  # type: ignore[arg-type]
        return f"{inspect.getsourcefile(found)}:{inspect.getsourcelines(found)[1]}"
    except (OSError, TypeError, ValueError):
        return type(item).__name__


def source_of(item: object) -> str:
    """The file in which a class or a function is defined, or the name of its type."""
    return defined_at(item).rpartition(":")[0] or type(item).__name__


def located(error: BaseException, inside: str = "") -> str:
    """One line for an error of code that is not ours: file, line, type, message.

    The line is the innermost one in a file whose path begins with `inside`, or the innermost one there is.

    >>> located(KeyError("weight"))
    "KeyError: 'weight'"
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not frame.filename.endswith(_IMPORTERS)
    ]
    frames = [frame for frame in frames if inside and frame.filename.startswith(inside)] or frames
    what = first_line(error)
    if not isinstance(error, ClSearchError) and what != type(error).__name__:
        what = f"{type(error).__name__}: {what}"
    return f"{frames[-1].filename}:{frames[-1].lineno}: {what}" if frames else what


_IMPORTERS = ("importlib/__init__.py", "importlib/metadata/__init__.py", "cl_core/registry.py")


def unknown(kind: str, name: object, known: Iterable[str]) -> BadRequest:
    """The error for a name that does not exist, with the nearest one that does.

    >>> str(unknown("method", "lfw", ["lwf", "lwm", "bic"]))
    "unknown method 'lfw': did you mean 'lwf'? (known: bic, lwf, lwm)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    near.sort(key=lambda other: sorted(other) != sorted(str(name)))  # exchanged letters before wrong ones
    hint = f"did you mean {near[0]!r}? " if near else ""
    return BadRequest(f"unknown {kind} {str(name)!r}: {hint}(known: {', '.join(names) or 'none'})")

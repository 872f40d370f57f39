"""What can go wrong, as one small tree.

    ClSearchError
    ├── BadRequest         something was asked that cannot be done; raised before any work; the CLI ends with
    2
    └── TrialError         one run failed; the sweep goes on; the CLI ends with 1
        └── NonFiniteLoss  a loss term became NaN or infinite

A message is one line: the rule, the value, the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClSearchError(Exception):
    """Base of every error that cl-search raises on purpose."""


class BadRequest(ClSearchError, ValueError):
    """A request that cannot be carried out: rule, value and remedy in one line."""


class TrialError(ClSearchError):
    """One run failed; nothing else is affected."""


class NonFiniteLoss(TrialError):
    """A loss term, or a weight in the last step, became NaN or infinite; the message names it."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type's name where it has none.

    >>> first_line(AssertionError())
    'AssertionError'
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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

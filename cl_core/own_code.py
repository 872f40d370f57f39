"""Permission to import code from outside cl-search.

A reference `module:attribute` that arrives in a file, be it a study, a run's folder or a model, would run
whatever the author of that file chose. Verbs that read files therefore work inside `only(...)`, with the
references that the user gave himself; the registry asks `check` before it imports any. Names without a colon
stand for parts of cl-search and of installed distributions, which are trusted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from cl_core.errors import BadRequest

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

_allowed: frozenset[str] | None = None  # None: all of them, as where a program names its own code


@contextlib.contextmanager
def only(references: Iterable[str] | None) -> Iterator[None]:
    """Let no code but `references` be imported inside the block; None lets all. The innermost block counts.

    It holds for the whole process, so that threads which a library starts are bound by it as well. A worker
    process has no block of its own: it is told what to train by a driver that has imported the same code.
    """
    global _allowed
    before = _allowed
    _allowed = None if references is None else frozenset(references)
    try:
        yield
    finally:
        _allowed = before


def check_own_code(kind: str, name: str) -> None:
    """Raise BadRequest, before anything is imported, where `name` is a reference that is not permitted."""
    if ":" in name and _allowed is not None and name not in _allowed:
        raise BadRequest(
            f"{kind} {name!r} is code that a file names, not part of cl-search: add --own-code "
            "(in Python own_code=True) if you trust it"
        )


def references(*texts: object) -> list[str]:
    """All that may be a `module:attribute` in texts, or in the text of plain values.

    >>> references("data.name=mypkg.data:load", {"net": {"choice": ["convnet", "nets:wide"]}})
    ['mypkg.data:load', 'nets:wide']
    """
    return [found for text in texts for found in REFERENCE.findall(str(text))]

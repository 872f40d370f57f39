"""Permission to import code from outside cl-search.

A study file, a run folder or a saved model may contain a reference `module:attribute`. Importing it would run
code that the file's author chose. So commands that read files work inside `only(...)`, with the references
that the user typed, and the registry calls `check_own_code` before an import. Names without a colon are parts
of cl-search and of installed distributions. They are trusted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from cl_core.errors import BadRequest

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

_allowed: frozenset[str] | None = None  # None: all, as for a program that names its own code


@contextlib.contextmanager
def only(references: Iterable[str] | None) -> Iterator[None]:
    """Permit the import of `references` alone inside the block; None permits all. The innermost block counts.

    The permission holds for the whole process, including the threads of libraries. A worker process needs no
    block, because its driver has already imported the same code.
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
    """Return every `module:attribute` in texts, or in the text of plain values.

    >>> references("data.name=mypkg.data:load", {"net": {"choice": ["convnet", "nets:wide"]}})
    ['mypkg.data:load', 'nets:wide']
    """
    return [found for text in texts for found in REFERENCE.findall(str(text))]

"""Class names: text that tables, terminals and pages can carry, in one Unicode form."""

from __future__ import annotations

import unicodedata

_UNFIT = {"Cc", "Zl", "Zp"}  # control characters, and what ends a line


def composed(name: str) -> str:
    """`name` in the composed Unicode form (NFC): the same name written on another system is equal.

    >>> composed("cafe\\N{COMBINING ACUTE ACCENT}") == "caf\\N{LATIN SMALL LETTER E WITH ACUTE}"
    True
    """
    return unicodedata.normalize("NFC", name)


def unfit(name: object) -> str | None:
    """The rule that `name` breaks as a class name, or None.

    >>> unfit("a\\nb")
    'have no control characters'
    """
    if not isinstance(name, str) or not name:
        return "be text that is not empty"
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of a file name that are no UTF-8 stand in it as lone surrogates
        return "be UTF-8"
    if any(unicodedata.category(character) in _UNFIT for character in name):
        return "have no control characters"
    return None

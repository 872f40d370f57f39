"""The cards of the built-in methods as a file, so that `list methods` and `describe` need no torch.

`python -m tests.methods_table --write` renews the file; a test compares it with the methods.
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from typing import Any

from cl_core.registry import listed

FILE = "cards.json"
PARADIGMS = ("baseline", "regularisation", "data replay", "generated data", "feature replay", "architecture")
"""Paradigms in the survey's order. Those of other packages' methods come after them."""


def stored_cards() -> dict[str, dict[str, Any]] | None:
    """Return the card of every method by name; None where the methods have to answer themselves.

    They do if a file or an entry point adds a method, and in a program that has loaded them already.
    """
    if "cl_core.method" in sys.modules:
        return None
    text = resources.files("cl_core.methods").joinpath(FILE).read_text(encoding="utf-8")
    cards: dict[str, dict[str, Any]] = json.loads(text)
    return cards if listed("method", "cl_core.methods") == sorted(cards) else None


def taxonomy_of(cards: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return every method with its place in the survey's taxonomy, by paradigm, then by name."""
    columns = ("title", "paradigm", "level", "kind", "base family", "paper")

    def place(name: str) -> tuple[int, str, str]:
        paradigm = cards[name]["paradigm"]
        known = PARADIGMS.index(paradigm) if paradigm in PARADIGMS else len(PARADIGMS)
        return known, paradigm, name

    return {name: {column: cards[name][column] for column in columns} for name in sorted(cards, key=place)}

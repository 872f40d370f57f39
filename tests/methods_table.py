"""The table of methods in the README, and their cards as a file: `--write` renews both.

python -m tests.methods_table [--write]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cl_core.method import METHODS
from search.commands.cards import method_card
from search.commands.listing import listing

README = Path(__file__).parents[1] / "README.md"
CARDS = Path(__file__).parents[1] / "cl_core/methods/cards.json"
MARKS = ("<!-- methods -->\n", "<!-- /methods -->")
COLUMNS = ("paradigm", "title", "level", "kind", "base family", "paper")


def table() -> str:
    """Return the table, from what the methods say of themselves."""
    rows = [["method", *COLUMNS]]
    rows += [[f"`{name}`", *(card[key] for key in COLUMNS)] for name, card in listing("methods").items()]
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    return "".join([lines[0], "|---" * len(rows[0]), "|\n", *lines[1:]])


def cards() -> str:
    """Return the cards of the built-in methods as JSON, for `search.commands.stored_cards`."""
    built_in = [name for name in METHODS if METHODS.module(name).startswith("cl_core.")]
    return json.dumps({name: method_card(name) for name in built_in}, indent=1) + "\n"


def written() -> str:
    """Return the table that stands in the README."""
    return README.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        text = README.read_text(encoding="utf-8")
        CARDS.write_text(cards(), encoding="utf-8")
        README.write_text(text.replace(MARKS[0] + written(), MARKS[0] + table()), encoding="utf-8")
    print(table(), end="")

"""The table of methods in the README: `python -m tests.methods_table`; `--write` renews it there."""

from __future__ import annotations

import sys
from pathlib import Path

from search.commands.listing import listing

README = Path(__file__).parents[1] / "README.md"
MARKS = ("<!-- methods -->\n", "<!-- /methods -->")
COLUMNS = ("paradigm", "title", "level", "kind", "base family", "paper")


def table() -> str:
    """Return the table, from what the methods say of themselves."""
    rows = [["method", *COLUMNS]]
    rows += [[f"`{name}`", *(card[key] for key in COLUMNS)] for name, card in listing("methods").items()]
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    return "".join([lines[0], "|---" * len(rows[0]), "|\n", *lines[1:]])


def written() -> str:
    """Return the table that stands in the README."""
    return README.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        text = README.read_text(encoding="utf-8")
        README.write_text(text.replace(MARKS[0] + written(), MARKS[0] + table()), encoding="utf-8")
    print(table(), end="")

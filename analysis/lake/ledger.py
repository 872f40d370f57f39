"""The openings of a run's test set, from `ledger.jsonl` in its folder: one JSON object a line, in time.

`search.lake.ledger` writes it. Nothing is ever removed: a line that a crash has torn is an opening all the
same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.lake.run_folder import LEDGER


def openings(folder: Path) -> list[dict[str, Any]]:
    """Every opening: time, what, study, cells, runs, versions.

    `what` is evaluate, oracle-test, fixed or train --unsealed. Empty where the test set was never opened. A
    damaged line has `what` "a damaged line" alone.
    """
    try:
        text = (folder / LEDGER).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    out = []
    for line in text.splitlines():
        if line.strip():
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            out.append(found if isinstance(found, dict) else {"what": "a damaged line"})
    return out


def told(found: Sequence[dict[str, Any]]) -> str:
    """Count openings by purpose: "opened 2 times: evaluate (2, last 2026-11-21T08:40:01+00:00)"."""
    if not found:
        return "never opened"
    parts = []
    for what in dict.fromkeys(str(opening.get("what", "unknown")) for opening in found):
        mine = [opening for opening in found if str(opening.get("what", "unknown")) == what]
        last = mine[-1].get("time")
        parts.append(f"{what} ({len(mine)}{f', last {last}' if last else ''})")
    times = "once" if len(found) == 1 else f"{len(found)} times"
    return f"opened {times}: {', '.join(parts)}"

"""The ledger of openings: one line each time, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.lake.ledger import openings, told
from analysis.lake.run_folder import LEDGER
from search.lake.ledger import note_opening


def test_every_opening_leaves_a_line_of_its_own(tmp_path: Path) -> None:
    assert openings(tmp_path) == []
    assert told([]) == "never opened"
    for what in ("evaluate", "oracle-test", "evaluate"):
        note_opening(tmp_path, what, "abc", ["lwf@B0-5tasks"], 3, {"torch": "2"})
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["evaluate", "oracle-test", "evaluate"]
    first = openings(tmp_path)[0]
    assert {k: v for k, v in first.items() if k != "time"} == {
        "what": "evaluate",
        "study": "abc",
        "cells": ["lwf@B0-5tasks"],
        "runs": 3,
        "versions": {"torch": "2"},
    }
    assert told(openings(tmp_path)).startswith("opened 3 times: evaluate (2, last 20")


def test_a_torn_line_stays_an_opening_and_spoils_no_other(tmp_path: Path) -> None:
    note_opening(tmp_path, "evaluate", "abc", [], 1, {})
    whole = (tmp_path / LEDGER).read_bytes()
    (tmp_path / LEDGER).write_bytes(whole + whole[: len(whole) // 2])
    note_opening(tmp_path, "evaluate", "abc", [], 1, {})
    assert [line["what"] for line in openings(tmp_path)] == ["evaluate", "a damaged line", "evaluate"]

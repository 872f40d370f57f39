"""Warnings of differences that a study cannot tell from luck."""

from __future__ import annotations

import pytest

from search.cost.luck import lucky
from tests.search.simulation import images, made


@pytest.mark.parametrize(("objective", "count"), [("last_accuracy", 1), ("forgetting", 1), ("kept_bytes", 0)])
def test_a_cost_is_no_share_of_rows_so_it_gets_no_warning(objective: str, count: int) -> None:
    found = lucky(made(images(), {"lwf": None}, objective=objective))
    assert len(found) == count
    assert all("are luck" in line and "lwf@B0-5tasks" in line for line in found)

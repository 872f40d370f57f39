"""The short form of the campaign: a few faults, and the tables of an undisturbed run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.campaign import Campaign

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at processes as Linux lists them")

KINDS = {
    "local": ["driver killed", "part damaged", "journal torn", "file size limited"],
    "ray": ["worker killed", "driver killed"],
    "store": ["answer of a put lost", "driver killed in an upload"],
}


@pytest.mark.parametrize(("way", "count"), [("local", 3), ("ray", 2), ("store", 2)])
def test_a_sweep_with_faults_has_the_tables_of_an_undisturbed_one(
    way: str, count: int, tmp_path: Path
) -> None:
    lines: list[dict[str, Any]] = []
    campaign = Campaign(tmp_path, seed=5, say=lines.append, ways=[way], most=count, short=True, quick=30)
    campaign.run(count, KINDS[way])
    assert campaign.losses == [], lines
    assert campaign.faults == count

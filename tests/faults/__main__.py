"""Inflict faults: `python -m tests.faults --seed S --count N`. A JSON line for each; exit 1 after a loss."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults.campaign import Campaign
from tests.faults.kinds import FAULTS
from tests.faults.sweep import WAYS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="decides kinds and moments (0)")
    parser.add_argument("--count", type=int, default=20, help="number of faults (20)")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="default: all")
    parser.add_argument("--kind", action="append", choices=[f.name for f in FAULTS], help="default: all")
    parser.add_argument("--most", type=int, default=8, help="faults of one sweep (8)")
    parser.add_argument("--quick", type=float, default=6.0, help="divides the times of object stores (6)")
    asked = parser.parse_args()

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # nodes and disks have to go
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="faults-"))
    campaign = Campaign(place, asked.seed, say, asked.way or list(WAYS), asked.most, quick=asked.quick)
    campaign.run(asked.count, asked.kind or [])
    say(
        {
            "faults": campaign.faults,
            "losses": campaign.losses,
            "seconds": round(time.monotonic() - began),
            "folder": str(place),
        }
    )
    sys.exit(1 if campaign.losses else 0)


if __name__ == "__main__":
    main()

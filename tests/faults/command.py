"""The command line with small segments, so that the few runs of a sweep are merged as thousands are.

FAULTS_QUICK divides the times of object stores, so that a fault of minutes takes seconds.
"""

from __future__ import annotations

import os

from search.cli import main
from search.lake import compaction
from search.remote import lease, object_store, working_copy

TIMES = (
    (lease, ("LASTS", "RENEWED")),
    (object_store, ("REPEATED", "FIRST", "REQUEST", "LONGEST")),
    (working_copy, ("REPEATED", "FIRST", "RENEWED", "SENT_EVERY")),
)

if __name__ == "__main__":
    compaction.SEGMENT = 3
    quick = float(os.environ.get("FAULTS_QUICK", 1))
    for module, names in TIMES:
        for name in names:
            setattr(module, name, getattr(module, name) / quick)
    main()

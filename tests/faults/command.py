"""The command line with small segments, so that the few runs of a sweep are merged as thousands are."""

from __future__ import annotations

from search.cli import main
from search.lake import compaction

if __name__ == "__main__":
    compaction.SEGMENT = 3
    main()

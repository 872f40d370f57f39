"""`python -m search.cli`, the same as `cl-search`."""

from __future__ import annotations

from search.cli import main

main()

"""The finished run of the search's tests."""

from __future__ import annotations

from tests.search.conftest import finished

__all__ = ["finished"]

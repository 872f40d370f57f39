"""Progress of a cell, as the commands show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellProgress:
    """Counts of a cell's trials, or of its runs in an evaluation.

    `best` is the best first objective of a completed trial. Where class orders are searched, it is that of
    the hardest or easiest order so far.
    """

    cell: str
    budget: int
    started: int
    running: int
    completed: int
    stopped: int
    failed: int
    best: float | None
    paused: bool = False
    seeks: str = ""  # hardest | easiest, where class orders are searched
    to_confirm: int = 0  # runs on fresh class orders after the trials, at most until they are known
    confirmed: int = 0  # those of them that have ended

    @property
    def ended(self) -> int:
        """The trials, or runs, that have ended."""
        return self.completed + self.stopped + self.failed

    @property
    def most(self) -> int:
        """The trials, or runs, at the end.

        A confirmation that was added later lowers the budget, also below the trials that have begun.
        """
        return max(self.budget, self.started)

"""Nodes: the machines on which jobs failed for reasons that are no run's, and those that are left out."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from analysis.lake.run_folder import NODES
from cl_core.aside import aside
from cl_core.errors import ClSearchError
from search.worker.job import Node

FAILURES = 2  # failures of a node before it gets no further job
CHECK = 5.0  # seconds between two looks at the nodes
NONE_LEFT = "no node is left that can hold a run"
NONE_YET = "the cluster has no node yet that can hold a run"


class NoNodeLeft(ClSearchError):
    """No node can train. The command ends, and can be given again."""


class Nodes:
    """The failures of nodes in one command. `say` gets a line for each node that is left out.

    `alive` returns the ids of the nodes that could train a job; without it there is but one machine. Where
    none is there, `patience` seconds pass before the command ends: an autoscaler needs minutes for a node.
    `needs` says what such a node must have.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None] = lambda line: None,
        alive: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.say, self.alive = say, alive
        self.patience, self.needs = 0.0, ""
        self._seen = False  # a node that could train
        self._next_look = 0.0
        self._none_since: dict[str, float] = {}  # job -> time; '' stands for every job
        self._path = folder / NODES
        self._failures: Counter[str] = Counter()
        self._left_out: dict[str, str] = {}  # id -> line
        self._tried: dict[str, set[str]] = {}  # job -> ids of nodes on which it failed

    def begin(self) -> None:
        """Forget what an earlier command has left out."""
        self._path.unlink(missing_ok=True)
        self._seen = bool(self.alive())

    def avoided(self, job: str) -> list[str]:
        """Return the ids of the nodes that must not get a job."""
        return sorted({*self._left_out, *self._tried.get(job, ())})

    def failed(self, job: str, node: Node, reason: str) -> None:
        """Note that a job must be trained on another node. Raises NoNodeLeft if there is none."""
        self._failures[node.id] += 1
        self._tried.setdefault(job, set()).add(node.id)
        line = f"node {node.name} cannot train: {reason}"
        if not set(self.alive()) - set(self.avoided(job)):
            raise NoNodeLeft(f"{line} (and no other node can). Mend that, then give the same command again.")
        if self._failures[node.id] >= FAILURES and node.id not in self._left_out:
            self._left_out[node.id] = line
            self.say(f"{line}. It gets no further run.")
            with aside(self._path) as hidden:
                hidden.write_text(json.dumps(list(self._left_out.values())) + "\n", encoding="utf-8")

    def look(self, waiting: Iterable[str] = ()) -> None:
        """See that a node is there that could train, and one for each job in `waiting`, every CHECK seconds.

        Says once that there is none. Raises NoNodeLeft if none came for `patience` seconds: without a node
        the jobs would wait for ever, and nobody would know.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + CHECK
        alive = set(self.alive())
        self._seen = self._seen or bool(alive)
        without = [job for job in ("", *waiting) if alive <= set(self.avoided(job))]
        first = {job: self._none_since.get(job, now) for job in without}
        news, self._none_since = first.keys() - self._none_since.keys(), first
        if not without:
            return
        job = without[0]  # if every job is without a node, that is the one thing to say
        what = NONE_LEFT if self._seen else f"{NONE_YET} ({self.needs})"
        if job:
            what = f"no node is left that can train {job}, which failed on the others"
        if self.patience and job in news:
            self.say(f"{what}: waiting {self.patience / 60:.0f} min for one")
        if now - first[job] >= self.patience:
            gone = not job and self._seen
            why = " (Ray was stopped, its machines are gone, or they were left out)" if gone else ""
            raise NoNodeLeft(
                f"{what}{why}. Give the same command again: it continues from the last checkpoints."
            )


def left_out_nodes(folder: Path) -> list[str]:
    """Return a line for each node that the last command in a run folder left out."""
    try:
        lines = json.loads((folder / NODES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(line) for line in lines] if isinstance(lines, list) else []

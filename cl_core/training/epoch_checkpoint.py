"""The epoch checkpoint: a task in training, saved at the end of an epoch, where its training continues.

A phase that had ended is not trained again. The method yields it again, and its tensors get the values of its
end. So the code of a method between two phases finds the bits that it found before. Every random draw is
named by task, phase, epoch and step, so no state of a generator is saved.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cl_core.errors import ClSearchError
from cl_core.method import Phase
from cl_core.records import PhaseValue
from cl_core.state import State
from cl_core.training.checkpoints import Checkpoint, CheckpointStore
from cl_core.training.result import Trained

_KEPT = "kept"
TIMES = 50  # a save that took s seconds is followed by TIMES * s of training at least: 2 %


class TaskLeft(Exception):
    """A task was left at the end of an epoch, after its checkpoint was saved, since its time is over."""


@dataclass
class Record:
    """The values, images and seconds of some phases so far, up to now."""

    values: list[PhaseValue] = field(default_factory=list)
    images: int = 0
    started: float = field(default_factory=lambda: time.perf_counter())

    @property
    def seconds(self) -> float:
        """Seconds of training, without those of saving and of continuing."""
        return time.perf_counter() - self.started

    def take(self, place: Place) -> None:
        """Continue the record of a phase at a place in it."""
        self.values += place.values
        self.images += place.images
        self.started = time.perf_counter() - place.seconds


class Place(NamedTuple):
    """A point in a phase: `epoch` finished epochs, their values and images, and the tensors then.

    `seconds` count from the first of the phases that a record has together.
    """

    epoch: int
    values: Sequence[PhaseValue]
    images: int
    seconds: float
    tensors: dict[str, Tensor]

    def to_meta(self) -> dict[str, Any]:
        """Plain values, without the tensors."""
        values = [asdict(value) for value in self.values]
        return {"epoch": self.epoch, "values": values, "images": self.images, "seconds": self.seconds}

    @classmethod
    def from_meta(cls, meta: dict[str, Any], tensors: dict[str, Tensor]) -> Place:
        """Make the place that `to_meta` described."""
        values = [PhaseValue(**value) for value in meta["values"]]
        return cls(meta["epoch"], values, meta["images"], meta["seconds"], tensors)


class Attempted(NamedTuple):
    """An attempt at a task that has ended. One that diverged has no accuracy, but an error."""

    trained: Trained
    accuracy: float | None
    error: str | None = None

    def to_meta(self) -> dict[str, Any]:
        """Plain values."""
        return {**self._asdict(), "trained": self.trained.to_meta()}

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> Attempted:
        """Make the attempt that `to_meta` described."""
        return cls(Trained.from_meta(meta["trained"]), meta["accuracy"], meta["error"])


class EpochCheckpoints:
    """The epoch checkpoints of one task of a run, one file in `store`: each save replaces the one before.

    `key` names the file and `identity` everything that has decided its tensors. Saves are `every` seconds
    apart at least. `ends` gives the Unix time at which running work is given up, None while there is none:
    then a phase that would not end by that time is left at the end of an epoch.
    """

    def __init__(
        self,
        store: CheckpointStore,
        key: str,
        identity: str,
        every: float,
        ends: Callable[[], float | None],
    ) -> None:
        self._store, self._key, self._identity = store, key, identity
        self._every, self._ends = every, ends
        self._ended: dict[str, Place] = {}  # phases that have ended, by name
        self._now: tuple[str, Place] | None = None  # of the checkpoint that was found
        self._attempts: list[Attempted] = []  # those that have ended, of a task that is learnt several times
        self._attempt = 0
        self.kept: dict[str, Tensor] = {}  # the state after the best of them
        self._met: Counter[str] = Counter()
        self._phase = ""
        self._epoch_began = time.perf_counter()
        self._due, self._due_at_end = self._epoch_began + every, 0.0
        self._load()

    @property
    def earlier_seconds(self) -> float:
        """Seconds that an earlier process has spent on the phases which continue here; 0 where none did."""
        return 0.0 if self._now is None else self._now[1].seconds

    def next_attempt(self) -> Attempted | None:
        """Begin the next attempt at the task; return it if it had ended before the checkpoint was saved."""
        self._attempt += 1
        if self._attempt <= len(self._attempts):
            return self._attempts[self._attempt - 1]
        if self._met:
            self._ended, self._now = {}, None
            self._met.clear()
        return None

    def attempt_ends(self, attempt: Attempted) -> None:
        """Remember an attempt, for later checkpoints."""
        self._attempts.append(attempt)

    def begin(self, phase: Phase) -> tuple[Place | None, bool]:
        """Begin a phase; return the place where it continues, and tell whether that is its end."""
        self._met[phase.name] += 1
        self._phase = f"{phase.name} {self._met[phase.name]}"
        self._epoch_began = time.perf_counter()
        if self._now is not None and self._now[0] == self._phase:
            return self._now[1], False
        return self._ended.get(self._phase), True

    def epoch_ends(self, left: int, place: Callable[[], Place]) -> float:
        """Save the checkpoint if it is due, and return the seconds of that; `left` epochs of the phase are
        left. Raises TaskLeft.
        """
        now, ends = time.perf_counter(), self._ends()
        seconds, self._epoch_began = now - self._epoch_began, now
        leave = ends is not None and time.time() + left * seconds > ends
        if not leave and now < (self._due if ends is None else self._due_at_end):
            return 0.0
        saved = self._save(place())
        if leave and saved:
            raise TaskLeft
        self._epoch_began = time.perf_counter()
        spent = self._epoch_began - now
        self._due_at_end = self._epoch_began + TIMES * spent
        self._due = max(self._due_at_end, self._epoch_began + self._every)
        return spent

    def phase_ends(self, place: Place) -> None:
        """Remember the end of the phase, for later checkpoints."""
        self._ended[self._phase] = place

    def remove(self) -> None:
        """Remove the checkpoint: the task has ended."""
        self._store.remove(self._key)

    def _save(self, place: Place) -> bool:
        """Save a place of the current phase, with the ends of those before; tell whether it is saved."""
        places = [*self._ended.values(), place]
        meta = {
            "identity": self._identity,
            "phases": [*self._ended, self._phase],
            "places": [one.to_meta() for one in places],
            "attempts": [one.to_meta() for one in self._attempts],
        }
        tensors = {f"{_KEPT}.{name}": t for name, t in self.kept.items()}
        tensors |= {f"{n}.{name}": t for n, one in enumerate(places) for name, t in one.tensors.items()}
        try:
            self._store.save(self._key, Checkpoint(tensors, meta))
        except ClSearchError as error:  # the training goes on: it only has more to do again
            print(f"no checkpoint inside the task: {error}", file=sys.stderr, flush=True)
            return False
        return True

    def _load(self) -> None:
        checkpoint = self._store.load(self._key)
        if checkpoint is None or checkpoint.meta.get("identity") != self._identity:
            return
        parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        places = [Place.from_meta(one, parts[str(n)]) for n, one in enumerate(checkpoint.meta["places"])]
        self._ended = dict(zip(checkpoint.meta["phases"], places, strict=True))
        self._now = self._ended.popitem()
        phase, place = self._now
        line = f"the task continues in phase {phase.rpartition(' ')[0]!r} after epoch {place.epoch}"
        print(line, file=sys.stderr, flush=True)
        self._attempts = [Attempted.from_meta(one) for one in checkpoint.meta["attempts"]]
        self.kept = parts[_KEPT]


def trained_tensors(phase: Phase, state: State, params: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Return all tensors that the training of a phase changes: parameters, and buffers in training mode."""
    out: dict[str, Tensor] = {f"parameter.{i}": p for i, p in enumerate(params)}
    if phase.train_mode:
        out |= {f"net.{name}": buffer for name, buffer in state.net.named_buffers()}
    for kind, module in state.modules.items():
        if module.training:
            out |= {f"module.{kind}.{name}": buffer for name, buffer in module.named_buffers()}
    return out


def saved_copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors on the CPU."""
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}


@torch.no_grad()
def put_back(tensors: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    """Give tensors their saved values, each in its place in memory."""
    for name, tensor in tensors.items():
        tensor.copy_(saved[name])

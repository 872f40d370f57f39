"""The state before a task, from which the task can be learnt several times."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable

import torch

from cl_core.errors import NonFiniteLoss
from cl_core.images.view import View
from cl_core.method import Method
from cl_core.nets.network import Frozen
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.epoch_checkpoint import Attempted
from cl_core.training.learner import Learner
from cl_core.training.result import Trained
from cl_core.training.task_end import end_task


class TaskStart:
    """The state before a task. Every attempt begins from it and draws the same random numbers."""

    def __init__(self, learner: Learner, g: Streams) -> None:
        self._learner, self._g = learner, g
        self._state, self._view = learner.state, learner.view
        self._before = _copied(self._state)
        self._kept: tuple[dict[str, torch.Tensor], Frozen | None] | None = None
        self._trained = Trained((), 0, 0.0)
        self._past: Attempted | None = None  # the last attempt, if it had ended before an epoch checkpoint

    def learn(self, method: Method, task: Task) -> Trained:
        """Learn the task from the state before it, and end it. Raises RunError."""
        saves, started = self._learner.saves, time.perf_counter()
        self._past = saves.next_attempt() if saves is not None else None
        if self._past is None:
            try:
                self._trained = self._learn(method, task)
            except NonFiniteLoss as error:
                if saves is not None:
                    error.seconds = saves.earlier_seconds
                    spent = Trained((), 0, error.seconds + time.perf_counter() - started)
                    saves.attempt_ends(Attempted(spent, None, str(error)))
                raise
            return self._trained
        if self._past.error is not None:
            raise NonFiniteLoss(self._past.error, self._past.trained.seconds)
        return self._past.trained

    def _learn(self, method: Method, task: Task) -> Trained:
        self._state.drop_local()
        self._state.restore({name: tensor.clone() for name, tensor in self._before.items()}, task.old)
        method.begin(self._state, task, self._view, self._g)
        learner = dataclasses.replace(self._learner, method=method)
        return learner.train(task, self._g) + end_task(learner, task, self._g)

    def accuracy(self, method: Method, task: Task, classes: Iterable[int]) -> float:
        """Return the accuracy on validation rows of `classes` after the last attempt."""
        if self._past is not None and self._past.accuracy is not None:
            return self._past.accuracy
        found = accuracy_on(classes, method, self._state, task, self._view)
        if self._learner.saves is not None:
            self._learner.saves.attempt_ends(Attempted(self._trained, found))
        return found

    def keep(self) -> None:
        """Keep the state of the last attempt."""
        saves = self._learner.saves
        if saves is not None and self._past is not None:
            self._kept = saves.kept, None
            return
        self._kept = _copied(self._state), self._state.teacher
        if saves is not None:
            saves.kept = self._kept[0]

    def take_kept(self, task: Task) -> None:
        """Return to the state that was kept last."""
        assert self._kept is not None
        tensors, teacher = self._kept
        teacher = teacher or self._state.teacher  # every attempt has the same
        self._state.drop_local()
        self._state.restore(tensors, task.seen)
        self._state.teacher = teacher


@torch.no_grad()
def accuracy_on(classes: Iterable[int], method: Method, s: State, task: Task, data: View) -> float:
    """Return the share of validation rows of `classes` that the primary classifier answers rightly, among
    all classes seen.
    """
    s.net.eval()
    rows = data.rows(classes, "val")
    right = torch.zeros((), dtype=torch.int64, device=data.device)
    for batch in data.batches(rows, "val"):
        scores = method.scores(s, batch.x, task)[method.primary()]
        right += (scores.argmax(dim=1) == batch.y).sum()
    return int(right) / len(rows)


def _copied(state: State) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.tensors().items()}

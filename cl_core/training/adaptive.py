"""Task-wise adaptation: hyperparameters are searched again at every task, on past data alone.

Gok Yildirim et al., AdaCL: Adaptive Continual Learning, ContinualAI Unconference 2023, PMLR 249 (arXiv
2303.13113). From the second task on, the task is learnt several times from the state that the task before it
left. The first attempt has the run's own values. A proposer, which sees the attempts before, gives those of
the others. The attempt with the best accuracy on validation rows of all classes seen so far is kept; of
equal ones the earliest, so that a tie keeps the run's own values.

AdaCL's code judges an attempt by rows of the task's own classes in some methods, stops attempts early, and
adapts the size of the memory. Here the rows are of all classes seen, every attempt is trained to its end, and
the memory is fixed, because the accuracy after a task does not depend on what is kept for the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from cl_core.errors import NonFiniteLoss
from cl_core.hparams import Value
from cl_core.method import Method
from cl_core.task import Task
from cl_core.training.adaptive_options import Attempt, Proposer
from cl_core.training.result import Learnt, Trained

Settings = Callable[[Mapping[str, Value]], tuple[Method, Task]]
"""Return the method and the task, with its recipe, under changed values."""


class Attempting(Protocol):
    """The part of a `TaskStart` that the adaptation needs."""

    def learn(self, method: Method, task: Task) -> Trained: ...

    def accuracy(self, method: Method, task: Task, classes: Iterable[int]) -> float: ...

    def keep(self) -> None: ...

    def take_kept(self, task: Task) -> None: ...


def learn_adaptively(attempts: int, settings: Settings, proposer: Proposer, start: Attempting) -> Learnt:
    """Learn a task `attempts` times and keep the best. Its images and seconds are those of every attempt.

    A training that diverges has no accuracy. Raises NonFiniteLoss where every one does.
    """
    history: list[Attempt] = []
    costs: list[Trained] = []
    best: tuple[float, int, Method, Task] | None = None
    values: Mapping[str, Value] = {}
    method, task = settings(values)
    for number in range(1, attempts + 1):
        if history:
            values = proposer.propose(task.index, history)
            method, task = settings(values)
        started = time.perf_counter()
        accuracy = None
        try:
            costs.append(start.learn(method, task))
            accuracy = start.accuracy(method, task, range(task.seen))
        except NonFiniteLoss as error:
            if number == attempts and best is None:
                raise
            costs.append(Trained((), 0, error.seconds + time.perf_counter() - started))
        history.append(Attempt(values, accuracy, costs[-1].images))
        if accuracy is not None and (best is None or accuracy > best[0]):
            best = accuracy, number, method, task
            start.keep()
    assert best is not None
    accuracy, number, method, task = best
    start.take_kept(task)
    images, seconds = sum(c.images for c in costs), sum(c.seconds for c in costs)
    trained = Trained(costs[number - 1].phases, images, seconds)
    return Learnt(method, task, trained, _note(history, number), tuple(history))


def idle(method: Method, adapted: int) -> str | None:
    """Return a line where the adaptation of `adapted` parameters changes nothing of a method, or None."""
    if method.restarts:
        return f"adaptive sets nothing of {method.name}, which trains every task anew"
    if not adapted:
        return (
            f"adaptive sets nothing of {method.name}: no searched parameter acts on the training of later "
            "tasks"
        )
    return None


def _note(history: list[Attempt], kept: int) -> str:
    best, first = history[kept - 1].accuracy, history[0].accuracy
    note = f"adaptive: attempt {kept} of {len(history)}, {best:.4f}"
    if kept == 1:
        return note
    return f"{note}; the run's own values {'diverged' if first is None else f'{first:.4f}'}"

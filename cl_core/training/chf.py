"""CHF: the continual hyperparameter framework, which sets each task's values from past data alone.

De Lange et al., A continual learning survey: Defying forgetting in classification tasks, TPAMI 2021 (arXiv
1909.08383), Algorithm 1. From the second task on, each from the state that the task before it left:

- Maximal plasticity search: fine-tuning learns the task with each learning rate of a grid; the best accuracy
  on the task's validation rows is A*, and its rate (of several, the highest) is taken.
- Stability decay: the method learns the task with that rate and its stability hyperparameters at their
  strongest; while its accuracy on these rows is below (1 - drop) A*, they are multiplied by `decay` and the
  task is learnt again.

Nothing is read but the task's own rows and the state. The accuracy on the new task is that of the method's
primary classifier among all classes seen (of fine-tuning, the head): the survey knows the task of a test
image; here a class counts as learnt only if it is answered among all classes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection

from cl_core.errors import NonFiniteLoss
from cl_core.hparams import Float, hparams
from cl_core.method import METHODS, Method
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training.chf_options import CHF
from cl_core.training.learner import Learner
from cl_core.training.result import Learnt, Trained
from cl_core.training.task_start import TaskStart

Learn = Callable[[Method, Task], Trained]
Accuracy = Callable[[Method, Task], float]


def strongest(method: Method, fixed: Collection[str] = ()) -> dict[str, float]:
    """Return the active stability hyperparameters, but those `fixed`, at the upper end of their domains."""
    values = method.values()
    known = hparams(type(method).HP).values()
    return {
        p.name: p.domain.high
        for p in known
        if p.stability and p.name not in fixed and isinstance(p.domain, Float) and p.active(values)
    }


def idle(method: Method, fixed: Collection[str] = ()) -> str | None:
    """Return a line on the part of CHF that changes nothing of a method, or None."""
    if method.restarts:
        return f"chf sets nothing of {method.name}, which trains every task anew"
    if not strongest(method, fixed):
        return (
            f"chf sets the learning rate of {method.name} and relaxes nothing: no stability hyperparameter "
            "acts that is not fixed"
        )
    return None


def weaker(method: Method, strength: dict[str, float], decay: float) -> dict[str, float]:
    """The stability hyperparameters times `decay`, or the lower ends of their domains."""
    known = hparams(type(method).HP)
    low = {name: known[name].domain.low for name in strength}  # type: ignore[union-attr]
    return {name: max(low[name], decay * value) for name, value in strength.items()}


def learn_task(options: CHF, learner: Learner, task: Task, g: Streams, fixed: Collection[str] = ()) -> Learnt:
    """Set the rate and the stability of one task, and learn it; see `choose`."""
    start = TaskStart(learner, g)

    def accuracy(method: Method, task: Task) -> float:
        return start.accuracy(method, task, range(task.old, task.seen))

    return choose(options, learner.method, task, start.learn, accuracy, fixed)


def choose(
    options: CHF,
    method: Method,
    task: Task,
    learn: Learn,
    accuracy: Accuracy,
    fixed: Collection[str] = (),
) -> Learnt:
    """Set the rate and the stability of one task, and learn it.

    `learn` trains a method on a task from the state before it, and ends it. `accuracy` is then its share of
    right answers on the task's validation rows. The state at the end is that of the last attempt. A training
    that diverges has not learnt. Raises NonFiniteLoss where every rate or the last attempt diverges.
    """
    costs: list[Trained] = []

    def attempt(one: Method, rated: Task) -> float:
        started = time.perf_counter()
        try:
            costs.append(learn(one, rated))
        except NonFiniteLoss as error:
            costs.append(Trained((), 0, error.seconds + time.perf_counter() - started))
            raise
        return accuracy(one, rated)

    rated, factor, best = _fastest(options, task, attempt)
    strength = strongest(method, fixed)
    wanted = (1.0 - options.drop) * best - 1e-9  # accuracies are shares: 0.72 is 0.8 of 0.9
    limit = options.attempts if strength else 1
    for number in range(1, limit + 1):
        tried = type(method)({**method.values(), **strength})
        relaxed = weaker(tried, strength, options.decay)
        last = number == limit or relaxed == strength
        try:
            reached = attempt(tried, rated)
        except NonFiniteLoss:
            if last:
                raise
            reached = -1.0
        if reached >= wanted or last:
            break
        strength = relaxed
    images, seconds = sum(c.images for c in costs), sum(c.seconds for c in costs)
    note = f"chf: lr {rated.recipe.lr:g} (x{factor:g}), A* {best:.4f}"
    note += f", {reached:.4f} in attempt {number} of {limit}"
    if not strength:
        note += ", no stability hyperparameter"
    elif reached < wanted:
        note += f", below {wanted:.4f}"
    return Learnt(tried, rated, Trained(costs[-1].phases, images, seconds), note)


def _fastest(options: CHF, task: Task, attempt: Accuracy) -> tuple[Task, float, float]:
    # The task with the best rate, its factor, and A*. Of equal accuracies the highest rate counts: what is
    # looked for is plasticity, and on an easy task the lowest rate of the grid may do for fine-tuning while
    # the method, which is held back, learns nothing with it.
    plain = METHODS["finetune"]()
    found: tuple[Task, float, float] | None = None
    for factor in options.factors:
        rated = dataclasses.replace(task, recipe=task.recipe.replace(lr=factor * task.recipe.lr))
        try:
            reached = attempt(plain, rated)
        except NonFiniteLoss:
            continue
        if found is None or (reached, factor) > (found[2], found[1]):
            found = rated, factor, reached
    if found is None:
        raise NonFiniteLoss(
            f"chf needs a learning rate at which fine-tuning stays finite, and none of {options.lrs} times "
            f"{task.recipe.lr:g} does in task {task.index}; add lower ones to chf.lrs"
        )
    return found

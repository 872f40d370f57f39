"""The task checkpoint: a later task, trained once for all runs that train it alike.

Such runs differ in nothing that has acted on the training so far, only in what answers and in what acts
later. Each runs its own `begin`, `end` and evaluation. The checkpoint holds what the phases have changed: the
networks, and the memories and named tensors that are not as they were. What a run's own `end` has written
before stays its own.
"""

from __future__ import annotations

from torch import Tensor

from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.checkpoints import Checkpoint, CheckpointStore
from cl_core.training.learner import Learner
from cl_core.training.result import Trained

_NETWORKS = ("net.", "nets.")
_REMOVED = "removed"


def train_or_take(
    learner: Learner, task: Task, g: Streams, store: CheckpointStore | None, key: str
) -> tuple[Trained, bool]:
    """Begin a later task, and train it or take its training from `store`; tell which.

    Of several processes one trains and the others wait for it. The record of the training comes with it.
    Without a store it is trained.
    """
    state = learner.state
    learner.method.begin(state, task, learner.view, g)
    if store is None:
        return learner.train(task, g), False
    with store.lock(key):
        checkpoint = store.load(key)
        if checkpoint is None:
            before = {name: tensor.clone() for name, tensor in _kept(state).items()}
            trained = learner.train(task, g)
            after = state.tensors()
            removed = sorted(before.keys() - after.keys())
            changed = {name: tensor for name, tensor in after.items() if _differs(name, tensor, before)}
            store.save(key, Checkpoint(changed, {**trained.to_meta(), _REMOVED: removed}))
            return trained, False
    own = {n: t for n, t in _kept(state).items() if n not in checkpoint.meta[_REMOVED]}
    state.restore(own | checkpoint.tensors, task.seen)
    return Trained.from_meta(checkpoint.meta), True


def _kept(state: State) -> dict[str, Tensor]:
    """Return what survives a task beside the networks."""
    return {n: t for n, t in state.tensors().items() if not n.startswith(_NETWORKS)}


def _differs(name: str, tensor: Tensor, before: dict[str, Tensor]) -> bool:
    return name not in before or not tensor.equal(before[name])

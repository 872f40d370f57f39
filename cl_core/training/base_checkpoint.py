"""The base checkpoint: the first task, trained once for all runs of a base family."""

from __future__ import annotations

from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training.checkpoints import Checkpoint, CheckpointStore
from cl_core.training.learner import Learner
from cl_core.training.result import Trained


def train_or_load(
    learner: Learner, task: Task, g: Streams, store: CheckpointStore | None, key: str
) -> tuple[Trained, bool]:
    """Begin the first task, and train it or take its network from `store`; tell which.

    Of several processes one trains and the others wait for its checkpoint. The record of the training comes
    with it. Without a store it is trained.
    """
    state = learner.state
    learner.method.begin(state, task, learner.view, g)
    if store is None:
        return learner.train(task, g), False
    with store.lock(key):
        checkpoint = store.load(key)
        if checkpoint is None:
            trained = learner.train(task, g)
            tensors = {name: t.detach().cpu().contiguous() for name, t in state.net.state_dict().items()}
            store.save(key, Checkpoint(tensors, trained.to_meta()))
            return trained, False
    state.net.load_state_dict(checkpoint.tensors)
    return Trained.from_meta(checkpoint.meta), True

"""One first task for all methods: every increment begins from the same network (protocol shared-base).

That network is fine-tuning's: plain cross-entropy with the study's recipe. Any run of the plain family shares
its checkpoint. A method of the plain family takes it as it is. Any other takes the backbone over, frozen and
with BatchNorm in evaluation mode, and trains its own head and side heads on it, with its own loss of the
first task and the same recipe. So what a method adds to the first task (rotations, mixed classes, sigmoids,
another head) shapes no feature, and differences between methods come from the increments. The backbone ends
in a ReLU, also where a method's own has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from cl_core.method import METHODS, Base, Method, Phase
from cl_core.nets.network import Network
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training.base_checkpoint import train_or_load
from cl_core.training.checkpoints import CheckpointStore
from cl_core.training.configuration import Configuration
from cl_core.training.learner import Learner, first_state
from cl_core.training.result import Trained


def plain_learner(learner: Learner, configuration: Configuration) -> Learner:
    """Return a learner of the plain first task: fine-tuning on the same images, with its own network."""
    plain = configuration.plain()
    method = METHODS[plain.method](plain.hp)
    state = first_state(plain, method, learner.view)
    return dataclasses.replace(learner, method=method, state=state)


def learn_first_task(
    learner: Learner, plain: Learner, task: Task, g: Streams, store: CheckpointStore | None, key: str
) -> tuple[Trained, bool]:
    """Train the plain first task or take it from `store`, and hand its network to `learner`; tell which.

    Where the method has another head, it is trained here, on the frozen backbone.
    """
    trained, shared = train_or_load(plain, task, g, store, key)
    net = learner.state.net
    learner.method.begin(learner.state, task, learner.view, g)
    if takes_the_head(learner.method):
        net.load_state_dict(plain.state.net.state_dict())
        return trained, shared
    net.backbone.load_state_dict(plain.state.net.backbone.state_dict())
    heads = dataclasses.replace(learner, adapt=lambda phase: on_heads(phase, net))
    with frozen_backbone(net):
        return trained + heads.train(task, g), shared


def takes_the_head(method: Method) -> bool:
    """Tell whether the method's first task is the plain one, head included, with nothing left to train."""
    return dataclasses.replace(method.base(), last_relu=True).key() == Base().key()


def idle(method: Method) -> str | None:
    """Return a line where the method's own first task is the shared one, else None."""
    if not takes_the_head(method) or method.base().recipe:
        return None
    return f"shared-base changes nothing of {method.name}: its first task is the plain one"


def on_heads(phase: Phase, net: Network) -> Phase | None:
    """A phase that trains what it would train but the backbone; None where nothing is left.

    It bears another name, since the record of the first task also has the phases of the shared network.
    """
    backbone = {id(p) for p in net.backbone.parameters()}
    params = tuple(p for p in phase.params or net.parameters() if id(p) not in backbone)
    if not params:
        return None
    return dataclasses.replace(phase, name=f"{phase.name}-heads", params=params, train_mode=False)


@contextlib.contextmanager
def frozen_backbone(net: Network) -> Iterator[None]:
    """No gradient reaches the backbone within."""
    trainable = [p for p in net.backbone.parameters() if p.requires_grad]
    for p in trainable:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trainable:
            p.requires_grad_(True)

"""Given maps for LwM, and small nets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cl_core.method import METHODS
from cl_core.nets.network import Frozen, LinearHead, Network, build_network
from cl_core.state import State
from cl_core.task import Batch, Out
from tests import tiny

LwM = METHODS["lwm"]


TASK = tiny.task(3, 2)


def generator(seed: int) -> torch.Generator:
    """Return a generator of that seed."""
    return torch.Generator().manual_seed(seed)


def small_net(seed: int, seen: int) -> Network:
    """Return a small network with `seen` open classes."""
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, seed)
    net.head.open(0, seen, generator(seed))  # type: ignore[operator]
    with torch.no_grad():  # a trained net's classes see something; a random head's maps are mostly dead
        net.head.weight[:seen] = 4 * net.head.weight[:seen] + 0.3  # type: ignore[index, operator]
    return net.eval()


def pair_of_nets(student: int = 0, teacher: int = 1) -> State:
    """A student of 5 classes and a teacher of 3, both in evaluation mode."""
    net = small_net(student, 5)
    state = State(net, lambda: net, ())
    state.teacher = Frozen(small_net(teacher, 3))
    return state


def given_batch(rows: int = 6) -> Batch:
    """Return random images of new classes."""
    return Batch(torch.randn(rows, 3, 8, 8, generator=generator(9)), 3 + torch.arange(rows) % 2)


class Given(nn.Module):
    """A network that answers with given maps, through a head without bias."""

    def __init__(self, maps: Tensor, weight: list[list[float]]) -> None:
        super().__init__()
        self.maps = nn.Parameter(maps)
        self.head = LinearHead(len(weight[0]), len(weight))
        self.head.seen = len(weight)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(weight))

    def forward(self, x: Tensor) -> Out:
        features = self.maps.mean(dim=(2, 3))
        return Out(features, self.head(features), (self.maps,))


def given_state(student: Given, teacher: Given) -> State:
    """Return a state of given networks."""
    state = State(student, lambda: student, ())  # type: ignore[arg-type, return-value]
    state.teacher = Frozen(teacher)  # type: ignore[arg-type]
    return state


def attention_term(s: State, b: Batch, hp: dict[str, Any] | None = None, task: Any = TASK) -> Tensor:
    """Return the value of the attention term."""
    return LwM(hp or {}).loss(s, b, task)["attention"].value

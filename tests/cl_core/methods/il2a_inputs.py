"""Given features for IL2A, and its recorded phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.classmix import pairs
from cl_core.blocks.isda import covariance
from cl_core.method import METHODS
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.events import Event
from tests import tiny

IL2A = METHODS["il2a"]
STREAMS = Streams(0, 1)
TRUE_FEATURES: dict[str, Any] = {"proto_transform": "evaluation"}


def given_images(labels: list[int]) -> Batch:
    """Return images with labels."""
    # The image of position i is the constant i.
    x = torch.arange(len(labels)).float()[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    return Batch(x, torch.tensor(labels))


def given_state(f: Tensor, f_old: Tensor | None, old: int, new: int, pair_rows: bool = True) -> State:
    """Networks that answer with features f, f_old [N, 2], a linear head, pair rows, means and covariances."""
    n = old + new
    state = tiny.fixed_state(torch.zeros(len(f), n), f_old)
    state.head.weight.data.copy_(tiny.normal(10, n, 2))
    state.head.bias.data.copy_(tiny.normal(11, n))
    state.head.seen = n
    state.net.features, state.net.logits = f, F.linear(f, state.head.weight, state.head.bias)
    if pair_rows:
        state.local["pair_weight"] = torch.nn.Parameter(tiny.normal(12, pairs(new), 2))
        state.local["pair_bias"] = torch.nn.Parameter(tiny.normal(13, pairs(new)))
    if old:
        state.kept["prototypes"] = tiny.normal(14, old, 2)
        state.kept["covariances"] = torch.stack([covariance(tiny.normal(20 + c, 5, 2)) for c in range(old)])
    return state


def given_terms(s: State, labels: list[int], classes: list[int], *sizes: int, **hp: Any) -> dict[str, Term]:
    """Return the terms of given labels and drawn classes."""
    batch = Batch(torch.zeros(len(labels), 3, 8, 8), torch.tensor(labels), {"class": torch.tensor(classes)})
    return IL2A(hp).loss(s, batch, tiny.task(*sizes))


def trained_phases(
    hp: dict[str, Any] | None = None, **rest: Any
) -> list[tuple[State, Task, dict[str, Tensor]]]:
    """The parameters that lived during each task of a tiny run, as they were after its training."""
    seen = []

    def watch(event: Event) -> None:
        if event.kind == "phase ends":
            local = {name: p.detach().clone() for name, p in event.state.local.items()}
            seen.append((event.state, event.task, local))

    tiny.train(tiny.configuration("il2a", hp, **rest), watch=watch)
    return seen

"""Exemplars after a task: rank those of new classes, cut those of old ones, compute class means."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.images.view import View
from cl_core.memory import Budget, Memory, herding
from cl_core.rng import Streams
from cl_core.task import Task


@torch.no_grad()
def features_of(
    net: nn.Module, data: View, rows: Tensor, transform: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return features [n, D] of training rows without augmentation, from the network in evaluation mode."""
    return outputs_of(net, data, rows, transform)[0]


@torch.no_grad()
def outputs_of(
    net: nn.Module, data: View, rows: Tensor, transform: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return features [n, D] and logits [n, seen], as `features_of` does."""
    was_training = net.training
    net.eval()
    parts = [net(transform(b.x) if transform else b.x) for b in data.batches(rows)]
    net.train(was_training)
    return torch.cat([out.features for out in parts]), torch.cat([out.logits for out in parts])


def rank(budget: Budget, net: nn.Module, data: View, rows: Tensor, k: int, g: torch.Generator) -> Tensor:
    """Return the k best rows of one class's rows [n], ranked by herding or in random order."""
    if budget.selection == "random":
        return rows[torch.randperm(len(rows), generator=g)[:k]]
    return rows[herding(features_of(net, data, rows), k)]


def update_exemplars(
    budget: Budget, memory: Memory, net: nn.Module, data: View, task: Task, g: Streams
) -> None:
    """Add the classes of `task` to the memory and cut the others to a prefix of their ranking."""
    counts = budget.counts(task.seen, data.image_bytes)
    for c in range(task.old, task.seen):
        memory.rows[c] = rank(budget, net, data, data.rows([c]), counts[c], g("exemplars", c))
    memory.keep(counts)


def class_means(net: nn.Module, data: View, memory: Memory, flip: bool) -> Tensor:
    """Return the normalised mean of the normalised features of exemplars by class, [seen, D] (iCaRL, Alg. 1).

    With `flip` the mirrored images count too, as in the official code.
    """
    views: list[Callable[[Tensor], Tensor] | None] = [None]
    if flip:
        views.append(lambda x: x.flip(3))
    means = []
    for c in sorted(memory.rows):
        each = [
            F.normalize(features_of(net, data, memory.rows[c], view), dim=1).mean(dim=0) for view in views
        ]
        means.append(F.normalize(torch.stack(each).mean(dim=0), dim=0))
    return torch.stack(means)

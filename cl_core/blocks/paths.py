"""Paths through modules that stand side by side in the layers of a net (RPS-Net, NeurIPS 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cl_core.blocks.exemplars import outputs_of
from cl_core.images.view import View
from cl_core.nets.beside import layers_of
from cl_core.nets.network import Network
from cl_core.rng import Streams
from cl_core.task import Task

HELD_OUT = 0.1  # of the training rows of each class, while candidate paths are compared


def open_path(net: Network, modules: int, g: Streams) -> Tensor:
    """Draw one of `modules` modules in each layer at random, and open those that no earlier path has.

    Return the numbers of the opened ones, [L]; 0 in a layer where the path shares a module. The net's own
    module is number 0.
    """
    layers = layers_of(net)
    drawn = torch.randint(modules, (len(layers),), generator=g("path"))
    opened = torch.zeros_like(drawn)
    for i, (layer, m) in enumerate(zip(layers, drawn.tolist(), strict=True)):
        if m and str(m) not in layer:
            layer.open(str(m), g("module", i))
            opened[i] = m
    return opened


def opened_modules(net: Network, opened: Tensor) -> list[nn.Module]:
    """Return the modules that `open_path` has opened, from their numbers [L]."""
    return [layer[str(m)] for layer, m in zip(layers_of(net), opened.tolist(), strict=True) if m]


def divided(rows: Tensor, data: View, task: Task, g: Streams) -> tuple[Tensor, Tensor]:
    """Divide training rows [n] into those that train and a tenth of each class that compares paths.

    At least one row of each class is held out, but none of a class with a single one.
    """
    train, held = [], []
    labels = data.labels(rows)
    for c in range(task.seen):
        of_class = rows[labels == c]
        of_class = of_class[torch.randperm(len(of_class), generator=g("held", c))]
        count = min(len(of_class) - 1, max(1, int(HELD_OUT * len(of_class))))
        held.append(of_class[:count])
        train.append(of_class[count:])
    return torch.cat(train), torch.cat(held)


def mean_accuracy(net: Network, data: View, rows: Tensor) -> float:
    """Return the mean over classes of the share of rows [n] that are answered rightly; 0 without rows."""
    if not len(rows):
        return 0.0
    _, z = outputs_of(net, data, rows)
    y = data.labels(rows).to(z.device)
    right = z.argmax(dim=1) == y
    return float(torch.stack([right[y == c].double().mean() for c in y.unique()]).mean())

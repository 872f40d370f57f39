"""What a phase is trained on and with: the rows of an epoch, the optimiser, and the head's rows that stay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cl_core.method import Rows
from cl_core.nets.network import Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams


def epoch_rows(sources: Sequence[Rows], batch: int, g: Streams, purpose: tuple[str | int, ...]) -> Tensor:
    """The row ids of one epoch, [steps, B].

    The first source is passed over once and sets the number of steps; its last step is completed from the
    start of its permutation, so BatchNorm never sees one image unless there is only one. Further sources are
    reshuffled and repeated for as long as the first lasts.
    """
    columns: list[Tensor] = []
    steps = 0
    for k, source in enumerate(sources):
        n = len(source.ids)
        if not n:
            if not k:
                raise ValueError("a phase needs at least one row")
            continue
        width = source.batch or batch
        if not k:
            width = min(width, n)
            steps = math.ceil(n / width)
        need = steps * width
        rounds = math.ceil(need / n) if k else 1
        shuffled = [torch.randperm(n, generator=g(*purpose, "permutation", k, r)) for r in range(rounds)]
        order = torch.cat([*shuffled, shuffled[0]])[:need]
        columns.append(source.ids[order].view(steps, width))
    return torch.cat(columns, dim=1)


def make_optimizer(params: list[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; its learning rate is set anew in every epoch."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            params, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, foreach=True
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(params, lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=True)


def rows_to_keep(net: Network, head_rows: tuple[int, int] | None) -> list[tuple[Tensor, Tensor, int, int]]:
    """The head's parameters, their values now, and the rows [start, stop) that train; nothing where all do.

    Zero gradient does not freeze a row: weight decay and momentum still move it. So the others are put back
    after every step.
    """
    if head_rows is None:
        return []
    return [(rows, rows.detach().clone(), *head_rows) for rows in net.head.rows()]  # type: ignore[operator]

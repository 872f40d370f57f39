"""A head that grows by a token a task (DyTox, Douillard et al., CVPR 2022)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.nets.attention import TokenBlock, deviation


class TokenHead(nn.Module):
    """A token a task, one attention block for all of them, and a classifier a task on its token's embedding.

    A classifier is a normalisation and a linear layer. Token and normalisation of a task stand in the row of
    its first class, so `rows` has one row a class; the rows between are zero and never read.
    """

    starts: Tensor

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, dim))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.tokens = nn.Parameter(torch.zeros(num_classes, dim))
        self.scales = nn.Parameter(torch.zeros(num_classes, dim))
        self.shifts = nn.Parameter(torch.zeros(num_classes, dim))
        heads = next(h for h in range(max(1, dim // 32), 0, -1) if dim % h == 0)  # 12 of 384
        self.block = TokenBlock(dim, heads)
        self.register_buffer("starts", torch.zeros(num_classes, dtype=torch.int64))  # 1: a task begins here
        self.first: list[int] = []  # the same as numbers, since no step may wait for a GPU
        self.seen = 0
        self.register_load_state_dict_post_hook(_note_starts)

    def open(self, start: int, stop: int, g: torch.Generator) -> None:
        """Initialise token and classifier of a task with the classes [start, stop)."""
        dim = self.weight.shape[1]
        bound = 1.0 / math.sqrt(dim)
        with torch.no_grad():
            for rows in (self.weight[start:stop], self.bias[start:stop]):
                rows.copy_(torch.empty(rows.shape).uniform_(-bound, bound, generator=g))
            for rows in (self.tokens, self.scales, self.shifts):
                rows[start:stop] = 0.0
            self.tokens[start] = (deviation(dim) * torch.randn(dim, generator=g)).to(self.tokens)
            self.scales[start] = 1.0
            self.starts[start:] = 0
            self.starts[start] = 1
        self.first = [*(c for c in self.first if c < start), start]
        self.seen = stop

    def rows(self) -> list[nn.Parameter]:
        """The parameters with one row a class."""
        return [self.weight, self.bias, self.tokens, self.scales, self.shifts]

    def unread(self) -> int:
        """Return the number of parameters in rows that nothing reads."""
        classes, dim = self.weight.shape
        return (classes - self.seen) * (dim + 1) + 3 * (classes - len(self.first)) * dim

    def embed(self, last: Tensor) -> Tensor:
        """The map [B, D, H, W] of the patches -> embeddings of the tokens, side by side [B, tasks * D]."""
        tokens = torch.stack([self.tokens[c] for c in self.first])
        return cast(Tensor, self.block(tokens, last.flatten(2).mT)).flatten(1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """[B, tasks * D] -> [B, seen]; every classifier reads the embedding of its own task."""
        dim, logits = self.weight.shape[1], []
        for t, (a, b) in enumerate(zip(self.first, [*self.first[1:], self.seen], strict=True)):
            own = embeddings[:, t * dim : (t + 1) * dim]
            own = F.layer_norm(own, (dim,), self.scales[a], self.shifts[a])
            logits.append(F.linear(own, self.weight[a:b], self.bias[a:b]))
        return torch.cat(logits, dim=1)


def _note_starts(module: nn.Module, _: object) -> None:
    head = cast(TokenHead, module)
    head.first = head.starts.nonzero().flatten().tolist()

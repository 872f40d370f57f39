"""Transformer blocks: self-attention of patches that knows their places, and attention of task tokens.

Written as in DyTox's official code (github.com/arthurdouillard/dytox, continual/convit.py), without drops.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def deviation(dim: int) -> float:
    """Return the deviation of initial weights and tokens: 0.02 at the paper's 384 dimensions.

    It grows with 1/sqrt(dim), so that a narrow block begins with outputs as large as a wide one's.
    """
    return 0.02 * (384 / dim) ** 0.5


def linear(before: int, after: int, dim: int, bias: bool = True) -> nn.Linear:
    """Return a layer of a block of `dim` dimensions, with normal weights and without an initial bias."""
    layer = nn.Linear(before, after, bias)
    nn.init.normal_(layer.weight, std=deviation(dim))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(dim: int) -> nn.Module:
    """Return two layers with GELU between them, the hidden one four times as wide."""
    return nn.Sequential(linear(dim, 4 * dim, dim), nn.GELU(), linear(4 * dim, dim, dim))


def by_head(x: Tensor, heads: int) -> Tensor:
    """Part the dimensions among heads: [..., N, D] -> [..., heads, N, D / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def offsets(height: int, width: int) -> Tensor:
    """Return columns, rows and squared distance between the P patches of a grid: [P, P, 3]."""
    rows, columns = (
        a.flatten().float() for a in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    )
    down, right = rows[None] - rows[:, None], columns[None] - columns[:, None]
    return torch.stack([right, down, right**2 + down**2], dim=2)


class PatchBlock(nn.Module):
    """Gated positional self-attention and an MLP (ConViT, d'Ascoli et al., ICML 2021, eq. 7).

    Each head mixes attention to content with attention to positions, by a gate that is learned. Positions
    begin as those of a convolution: each head looks at a neighbour of its own, and values begin as copies.
    """

    offsets: Tensor

    def __init__(self, dim: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), mlp(dim)
        self.query_key = linear(dim, 2 * dim, dim, bias=False)
        self.value, self.project = linear(dim, dim, dim, bias=False), linear(dim, dim, dim)
        # Without the official bias, which shifts all positions of a head alike and so changes nothing.
        self.positions = linear(3, heads, 384, bias=False)
        self.gate = nn.Parameter(torch.ones(heads))
        self.register_buffer("offsets", offsets(*grid), persistent=False)
        side = int(heads**0.5)
        middle = (side - 1) / 2
        with torch.no_grad():
            nn.init.eye_(self.value.weight)
            for h in range(side**2):
                down, right = divmod(h, side)
                # -|offset - neighbour|^2 up to a constant
                look = (2 * (right - middle), 2 * (down - middle), -1.0)
                self.positions.weight[h] = torch.tensor(look)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, D] -> [B, P, D]."""
        inside = self.norm1(x)
        q, k = (by_head(part, self.heads) for part in self.query_key(inside).chunk(2, dim=2))
        content = F.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1)  # [B, heads, P, P]
        places = F.softmax(self.positions(self.offsets).movedim(2, 0), dim=-1)  # [heads, P, P]
        gate = self.gate.sigmoid()[:, None, None]
        attended = ((1 - gate) * content + gate * places) @ by_head(self.value(inside), self.heads)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class TokenBlock(nn.Module):
    """Attention of task tokens to patches, and an MLP (DyTox, the task-attention block).

    A token attends to itself and to all patches, never to another token.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), mlp(dim)
        self.query, self.key, self.value = (linear(dim, dim, dim, bias=False) for _ in range(3))
        self.project = linear(dim, dim, dim)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Tokens [T, D] and patches [B, P, D] -> embeddings [B, T, D]."""
        own, seen = self.norm1(tokens), self.norm1(patches)
        q, k, v = (
            by_head(part(own), self.heads) for part in (self.query, self.key, self.value)
        )  # [heads, T, d]
        keys, values = (
            by_head(part(seen), self.heads) for part in (self.key, self.value)
        )  # [B, heads, P, d]
        to_patches = q @ keys.mT  # [B, heads, T, P]
        to_itself = (q * k).sum(dim=2, keepdim=True).expand(len(patches), -1, -1, -1)  # [B, heads, T, 1]
        weights = F.softmax(torch.cat([to_itself, to_patches], dim=3) * q.shape[-1] ** -0.5, dim=3)
        attended = weights[..., :1] * v + weights[..., 1:] @ values  # [B, heads, T, d]
        x = tokens + self.project(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))

"""ConViT: a vision transformer whose attention begins as convolution (d'Ascoli et al., ICML 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cl_core.nets.attention import PatchBlock, deviation
from cl_core.nets.network import NETS, Shape


class ConViT(nn.Module):
    """Patches, a learned place for each, and blocks of self-attention; features are the mean of the patches.

    As DyTox's encoder: no class token, and no normalisation after the last block.
    """

    def __init__(self, shape: Shape, dim: int, heads: int, blocks: int, last_relu: bool) -> None:
        super().__init__()
        size = (max(2, round(shape[1] / 8)), max(2, round(shape[2] / 8)))  # 4 pixels of 32, 2 of 8
        self.grid = (shape[1] // size[0], shape[2] // size[1])
        self.patches = nn.Conv2d(shape[0], dim, size, stride=size)
        self.places = nn.Parameter(torch.empty(self.grid[0] * self.grid[1], dim).normal_(std=deviation(dim)))
        self.blocks = nn.Sequential(*(PatchBlock(dim, heads, self.grid) for _ in range(blocks)))
        self.relu = nn.ReLU() if last_relu else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, C, H, W] -> features [B, D], the map [B, D, rows, columns] of the patches."""
        x = self.blocks(self.patches(x).flatten(2).mT + self.places)
        last = self.relu(x.mT.unflatten(2, self.grid))
        return last.mean(dim=(2, 3)), (last,)


@NETS.register("convit")
def convit(shape: Shape, last_relu: bool) -> nn.Module:
    """DyTox's encoder: five blocks of 384 dimensions and 12 heads; 8,910,192 parameters for 32 pixels."""
    return ConViT(shape, 384, 12, 5, last_relu)


@NETS.register("convit-small")
def convit_small(shape: Shape, last_relu: bool) -> nn.Module:
    """Two blocks of 64 dimensions and four heads, for a CPU; 106,848 parameters for 32 pixels."""
    return ConViT(shape, 64, 4, 2, last_relu)

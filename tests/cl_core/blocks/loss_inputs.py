"""Logits and gradients for the tests of losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LN2, LN3 = math.log(2), math.log(3)


def logits(seed: int, rows: int = 5, classes: int = 4) -> Tensor:
    """Return logits [rows, classes] of a large size, the same for the same seed."""
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def gradient_in(loss: Tensor, z: Tensor) -> Tensor:
    """Return the gradient of a loss in `z`, of its shape."""
    return torch.autograd.grad(loss, z)[0]

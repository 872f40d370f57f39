"""AutoAugment on batches of pixels (Cubuk et al., AutoAugment, CVPR 2019, arXiv 1805.09501).

The policies and the operations are torchvision's. Its transform draws from the global generator, one image at
a time. Here the draws come from a named stream, and the images of one operation are changed together. The
import takes a second, so only who needs it imports this module.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy
from torchvision.transforms.v2 import functional as F

# Half of the magnitudes of these are negative.
SIGNED = ("Shear", "Translate", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
GREY = 128.0  # beside a moved image, as in the authors' code


class Operation(NamedTuple):
    """An operation by torchvision's name, its level in 0..9, and the sign of its magnitude."""

    name: str
    level: int
    sign: int

    def magnitude(self, side: int) -> float:
        """Return the magnitude for images whose side in the operation's direction has `side` pixels."""
        share = self.level / 9
        match self.name:
            case "ShearX" | "ShearY":
                return self.sign * 0.3 * share
            case "TranslateX" | "TranslateY":
                return self.sign * int(150 / 331 * side * share)
            case "Rotate":
                return self.sign * 30 * share
            case "Posterize":
                return 8 - round(4 * share)
            case "Solarize":
                return 255 - 255 * self.level / 9
            case _:
                return self.sign * 0.9 * share


class Policy(NamedTuple):
    """The sub-policies of a policy: pairs of operations, each done with its own probability."""

    probabilities: Tensor  # [P, 2]
    numbers: Tensor  # [P, 2, 2]: of the operation, by its place in the pair and whether its sign is negative
    operations: tuple[Operation, ...]


@cache
def policy_of(name: str) -> Policy:
    """Return the policy learned on the data set `name`: cifar10, imagenet or svhn."""
    pairs = AutoAugment(AutoAugmentPolicy(name)).policies
    signs = [
        [[Operation(op, level or 0, sign) for sign in _signs(op)] for op, _, level in pair] for pair in pairs
    ]
    operations = tuple(sorted({o for pair in signs for both in pair for o in both}))
    numbers = [[[operations.index(o) for o in both] for both in pair] for pair in signs]
    return Policy(
        torch.tensor([[p for _, p, _ in pair] for pair in pairs]), torch.tensor(numbers), operations
    )


def _signs(name: str) -> tuple[int, int]:
    return (1, -1) if name.startswith(SIGNED) else (1, 1)


def draw_operations(name: str, n: int, g: torch.Generator) -> Tensor:
    """Return the two operations of n images, [n, 2] numbers in `policy_of(name).operations`; -1 is none."""
    policy = policy_of(name)
    which = torch.randint(len(policy.probabilities), (n,), generator=g)
    done = torch.rand(n, 2, generator=g) <= policy.probabilities[which]
    negative = torch.randint(2, (n, 2), generator=g)
    numbers = policy.numbers[which].gather(2, negative[:, :, None])[:, :, 0]
    return torch.where(done, numbers, -1)


def operated(images: Tensor, name: str, drawn: Tensor) -> Tensor:
    """Change pixels uint8 [B, H, W, C], C 1 or 3, by the two operations [B, 2] drawn for each."""
    images = images.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    operations = policy_of(name).operations
    for numbers in drawn.T:
        for number in numbers.unique().tolist():
            if number >= 0:
                rows = (numbers == number).nonzero()[:, 0].to(images.device)
                images[rows] = _done(images[rows], operations[number])
    return images.permute(0, 2, 3, 1).contiguous()


def _done(x: Tensor, operation: Operation) -> Tensor:
    """The operation on images uint8 [B, C, H, W], with torchvision's functions and nearest pixels."""
    size = operation.magnitude(x.shape[2 if operation.name.endswith("Y") else 3])
    fill = [GREY] * x.shape[1]
    slant = math.degrees(math.atan(size))
    match operation.name:
        case "ShearX":
            return F.affine(x, 0.0, [0, 0], 1.0, [slant, 0.0], fill=fill, center=[0, 0])
        case "ShearY":
            return F.affine(x, 0.0, [0, 0], 1.0, [0.0, slant], fill=fill, center=[0, 0])
        case "TranslateX":
            return F.affine(x, 0.0, [int(size), 0], 1.0, [0.0, 0.0], fill=fill)
        case "TranslateY":
            return F.affine(x, 0.0, [0, int(size)], 1.0, [0.0, 0.0], fill=fill)
        case "Rotate":
            return F.rotate(x, size, fill=fill)
        case "Brightness":
            return F.adjust_brightness(x, 1.0 + size)
        case "Color":
            return F.adjust_saturation(x, 1.0 + size)
        case "Contrast":
            return F.adjust_contrast(x, 1.0 + size)
        case "Sharpness":
            return F.adjust_sharpness(x, 1.0 + size)
        case "Posterize":
            return F.posterize(x, int(size))
        case "Solarize":
            return F.solarize(x, size)
        case "AutoContrast":
            return F.autocontrast(x)
        case "Equalize":
            return F.equalize(x)
        case "Invert":
            return F.invert(x)
        case other:
            raise ValueError(f"torchvision's policies have a new operation {other!r}: add it here")

"""Residual nets: ResNet-32 for CIFAR and ResNet-18, both from one basic block (He et al., CVPR 2016)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.nets.beside import Beside
from cl_core.nets.network import NETS, Shape


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: a 1x1 convolution with `project`, else stride and zero padding."""

    def __init__(self, before: int, after: int, stride: int, project: bool, last_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.pad, self.last_relu = stride, after - before, last_relu
        self.shortcut: nn.Module | None = None
        if project and (stride > 1 or before != after):
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )
        self.beside = Beside(partial(_initialised, partial(_branch, before, after, stride)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, after, H/stride, W/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.beside(x, self.bn2(self.conv2(y)))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride > 1 or self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.pad))
        y = y + x
        return F.relu(y) if self.last_relu else y


class ResNet(nn.Module):
    """A stem, stages of basic blocks and global average pooling."""

    def __init__(
        self,
        stem: Callable[[], nn.Module],
        widths: tuple[int, ...],
        blocks: int,
        project: bool,
        last_relu: bool,
    ) -> None:
        super().__init__()
        self.stem = stem()
        self.beside = Beside(partial(_initialised, stem))
        self.stages = nn.ModuleList()
        before = widths[0]
        for s, width in enumerate(widths):
            layers = []
            for b in range(blocks):
                last = s == len(widths) - 1 and b == blocks - 1
                stride = 2 if s and not b else 1
                layers.append(BasicBlock(before, width, stride, project, last_relu or not last))
                before = width
            self.stages.append(nn.Sequential(*layers))
        _initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, C, H, W] -> features [B, D], maps of every stage."""
        x = self.beside(x, self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return x.mean(dim=(2, 3)), tuple(maps)


def _stem(channels: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


def _large_stem(channels: int) -> nn.Sequential:
    return _stem(channels, 64, kernel=7, stride=2).append(nn.MaxPool2d(3, 2, padding=1))


def _branch(before: int, after: int, stride: int) -> nn.Module:
    """Return the two convolutions of a basic block, without its shortcut."""
    first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    second = nn.Conv2d(after, after, 3, padding=1, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(after), nn.ReLU(), second, nn.BatchNorm2d(after))


def _initialised(make: Callable[[], nn.Module]) -> nn.Module:
    module = make()
    _initialise(module)
    return module


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@NETS.register("resnet32")
def resnet32(shape: Shape, last_relu: bool) -> nn.Module:
    """The CIFAR ResNet-32 with parameter-free shortcuts: 463,504 parameters without the head, 64 features."""
    return ResNet(partial(_stem, shape[0], 16), (16, 32, 64), 5, project=False, last_relu=last_relu)


@NETS.register("resnet32-projection")
def resnet32_projection(shape: Shape, last_relu: bool) -> nn.Module:
    """ResNet-32 whose shortcuts between stages are 1x1 convolutions, as LUCIR's official one; 64 features."""
    return ResNet(partial(_stem, shape[0], 16), (16, 32, 64), 5, project=True, last_relu=last_relu)


@NETS.register("resnet18")
def resnet18(shape: Shape, last_relu: bool) -> nn.Module:
    """ResNet-18, 512 features; a 3x3 stem up to 64 pixels, the standard 7x7 one with pooling above."""
    stem: Callable[[], nn.Module] = (
        partial(_large_stem, shape[0]) if shape[1] > 64 else partial(_stem, shape[0], 64)
    )
    return ResNet(stem, (64, 128, 256, 512), 2, project=True, last_relu=last_relu)

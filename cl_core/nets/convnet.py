"""A small convolutional net for images of 8 to 64 pixels: three blocks of conv 3x3, BatchNorm, ReLU."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.nets.beside import Beside
from cl_core.nets.network import NETS, Shape


class ConvNet(nn.Module):
    """Three blocks, the first two followed by 2x2 max pooling; features are the average of the last map."""

    def __init__(self, channels: int, width: int, last_relu: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.beside = nn.ModuleList()
        for before in (channels, width, width):
            self.convs.append(nn.Conv2d(before, width, 3, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(width))
            self.beside.append(Beside(partial(_layer, before, width)))
        self.last_relu = last_relu

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, C, H, W] -> features [B, width], maps of the three blocks."""
        maps = []
        for i, (conv, norm, beside) in enumerate(zip(self.convs, self.norms, self.beside, strict=True)):
            if i:
                x = F.max_pool2d(x, 2)
            x = beside(x, norm(conv(x)))
            if i < 2 or self.last_relu:
                x = F.relu(x)
            maps.append(x)
        return x.mean(dim=(2, 3)), tuple(maps)


def _layer(before: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))


@NETS.register("convnet")
def convnet(shape: Shape, last_relu: bool) -> nn.Module:
    """Three conv blocks, 64 wide: 76,000 parameters for colour images."""
    return ConvNet(shape[0], 64, last_relu)


@NETS.register("convnet-small")
def convnet_small(shape: Shape, last_relu: bool) -> nn.Module:
    """Three conv blocks, 32 wide: for digits of 8 pixels."""
    return ConvNet(shape[0], 32, last_relu)

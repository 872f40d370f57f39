"""Modules beside a layer: a net that grows without a change of what it has learnt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from cl_core.nets.network import Network
from cl_core.rng import global_stream, stream


class Beside(nn.ModuleDict):
    """Modules by name that take a layer's input, and whose outputs are added to what the layer gives.

    `make` builds one as the layer's own module is built. There are none at first, so a net has the tensors
    and numbers that it would have without. Loading a state opens those that the state has, and closes others.
    They stand in the order of their names, whichever was opened first: sums depend on it to the last bit.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.make = make
        self.register_buffer("place", torch.empty(0), persistent=False)  # moves with the net
        self.register_load_state_dict_pre_hook(_take_shape)

    def open(self, name: str, g: torch.Generator) -> None:
        """Put a fresh module beside the layer, drawn from the seed of `g`."""
        with global_stream(g):
            module = self.make()
        device = self.get_buffer("place").device
        module.to(memory_format=torch.channels_last).to(device).train(self.training)
        opened = {**dict(self.items()), name: module}
        self.clear()
        self.update({key: opened[key] for key in sorted(opened)})

    def forward(self, x: Tensor, own: Tensor) -> Tensor:
        """Add the outputs on the layer's input x to `own`, the output of the layer's own module."""
        for module in self.values():
            own = own + module(x)
        return own


def _take_shape(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    assert isinstance(module, Beside)
    names = {key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)}
    for name in set(module) - names:
        del module[name]
    for name in sorted(names - set(module)):
        module.open(name, stream(0, "beside"))  # its weights come with the state


def layers_of(net: Network) -> list[Beside]:
    """Return the layers of a network that take modules beside them, in a fixed order."""
    return [module for module in net.backbone.modules() if isinstance(module, Beside)]


@contextlib.contextmanager
def training_only(net: Network, parts: Sequence[nn.Module]) -> Iterator[tuple[nn.Parameter, ...]]:
    """Freeze the backbone within, but for `parts` of it; give the parameters of these and of the head.

    Neither gradients nor the statistics of BatchNorm reach the rest.
    """
    net.backbone.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    net.moving = tuple(parts)
    try:
        yield (*(p for part in parts for p in part.parameters()), *net.head.parameters())
    finally:
        net.moving = None
        net.backbone.requires_grad_(True)

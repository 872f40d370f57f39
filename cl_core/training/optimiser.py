"""The optimisers of a recipe, one kernel a step: SGD with momentum, Adam and AdamW.

They call torch's functional forms with the fused kernels. The classes of torch.optim import torch's compiler
when the first of them is made, which costs a process a second of CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from cl_core.recipe import Recipe
from cl_core.rng import global_stream, stream

Parameters = Sequence[nn.Parameter]
_MOMENTS = ("mean", "square", "steps")  # of Adam


class Optimiser(Protocol):
    """Moves the parameters of a phase along their gradients."""

    def step(self, rate: float | Tensor) -> None:
        """Move every parameter that has a gradient, at this learning rate."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what the optimiser remembers from step to step, by name."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Remember what `tensors` returned."""


def make_optimiser(params: Parameters, recipe: Recipe) -> Optimiser:
    """Return the recipe's optimiser of some parameters."""
    return SGD(params, recipe) if recipe.optimizer == "sgd" else Adam(params, recipe)


class SGD:
    """v = m v + g + w p and p = p - rate v, with momentum m and weight decay w; v begins as g + w p."""

    def __init__(self, params: Parameters, recipe: Recipe) -> None:
        self._params, self._recipe = params, recipe
        self._velocities: dict[nn.Parameter, Tensor | None] = {}

    def step(self, rate: float | Tensor) -> None:
        """Move every parameter that has a gradient, at this learning rate."""
        moved = [p for p in self._params if p.grad is not None]
        begun = [p for p in moved if p in self._velocities]
        fresh = [p for p in moved if p not in self._velocities]
        for params in filter(None, (begun, fresh)):
            velocities = [self._velocities.get(p) for p in params]
            with torch.no_grad():
                sgd(
                    [*params],
                    _gradients(params),
                    velocities,
                    fused=True,
                    lr=rate,
                    momentum=self._recipe.momentum,
                    weight_decay=self._recipe.weight_decay,
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                )
            self._velocities.update(zip(params, velocities, strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """Return the velocities that have begun, by the places of their parameters."""
        known = ((i, self._velocities.get(p)) for i, p in enumerate(self._params))
        return {f"{i}.velocity": v for i, v in known if v is not None}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on with these velocities."""
        for i, p in enumerate(self._params):
            if f"{i}.velocity" in tensors:
                self._velocities[p] = _laid_out_as(p, tensors[f"{i}.velocity"])


class Adam:
    """Adam with betas .9 and .999; weight decay is part of the gradient, or decoupled with `adamw`."""

    def __init__(self, params: Parameters, recipe: Recipe) -> None:
        self._params, self._recipe = params, recipe
        self._moments: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}  # mean, mean square, steps

    def step(self, rate: float | Tensor) -> None:
        """Move every parameter that has a gradient, at this learning rate."""
        params = [p for p in self._params if p.grad is not None]
        for p in params:
            if p not in self._moments:
                steps = torch.zeros((), dtype=torch.float32, device=p.device)
                self._moments[p] = (torch.zeros_like(p), torch.zeros_like(p), steps)
        moments = [self._moments[p] for p in params]
        move = adamw if self._recipe.optimizer == "adamw" else adam
        with torch.no_grad():
            move(
                [*params],
                _gradients(params),
                [mean for mean, _, _ in moments],
                [square for _, square, _ in moments],
                [],
                [steps for _, _, steps in moments],
                fused=True,
                amsgrad=False,
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                eps=1e-8,
                weight_decay=self._recipe.weight_decay,
                maximize=False,
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return means, mean squares and steps, by the places of their parameters."""
        known = ((i, self._moments[p]) for i, p in enumerate(self._params) if p in self._moments)
        return {f"{i}.{name}": t for i, of in known for name, t in zip(_MOMENTS, of, strict=True)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on with these moments."""
        for i, p in enumerate(self._params):
            if f"{i}.steps" in tensors:
                mean, square, steps = (tensors[f"{i}.{name}"] for name in _MOMENTS)
                self._moments[p] = (_laid_out_as(p, mean), _laid_out_as(p, square), steps.to(p.device))


def _laid_out_as(p: Tensor, saved: Tensor) -> Tensor:
    return torch.empty_like(p, requires_grad=False).copy_(saved)


def _gradients(params: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return the gradients; the fused kernels need each laid out in memory as its parameter is."""
    out = []
    for p in params:
        assert p.grad is not None
        fits = p.grad.stride() == p.stride()
        out.append(p.grad if fits else torch.empty_like(p).copy_(p.grad))
    return out


@cache
def warm_up(device: torch.device) -> None:
    """Take one step of a tiny network, so that no task's seconds contain what a process pays once.

    A first step on a GPU loads its libraries.
    """
    with global_stream(stream(0, "warm-up")):
        net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 1)).to(device)
    params = list(net.parameters())
    optimiser = make_optimiser(params, Recipe())
    gradients = torch.autograd.grad(net(torch.zeros(2, 1, 4, 4, device=device)).sum(), params)
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = gradient
    optimiser.step(0.1)
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()  # not the GPU, on which another run may record

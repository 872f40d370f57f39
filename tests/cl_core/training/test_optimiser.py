"""The fused optimisers move parameters as torch.optim does, without its compiler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cl_core.recipe import Recipe
from cl_core.training.optimiser import make_optimiser

CLASSES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
}


def _net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    return net.to(memory_format=torch.channels_last)


def _pull(net: nn.Module, step: int) -> None:
    x = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(step))
    net.zero_grad(set_to_none=True)
    net(x).square().mean().backward()


@pytest.mark.parametrize("name", CLASSES)
def test_steps_are_those_of_torch_bit_for_bit(name: str) -> None:
    own, other = _net(), _net()
    kind, more = CLASSES[name]
    step = make_optimiser(list(own.parameters()), Recipe(optimizer=name, weight_decay=0.01)).step
    reference = kind(other.parameters(), weight_decay=0.01, fused=True, **more)
    for number, rate in enumerate((0.1, 0.1, 0.01)):
        _pull(own, number)
        _pull(other, number)
        step(rate)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), other.parameters(), strict=True))


def test_the_first_two_steps_of_sgd_by_hand() -> None:
    p = nn.Parameter(torch.tensor([1.0]))
    optimiser = make_optimiser([p], Recipe(momentum=0.5, weight_decay=0.1))
    p.grad = torch.tensor([2.0])
    optimiser.step(0.1)  # v = 2 + .1 = 2.1; p = 1 - .21
    assert p.item() == pytest.approx(0.79)
    optimiser.step(0.1)  # v = 1.05 + 2 + .079 = 3.129; p = .79 - .3129
    assert p.item() == pytest.approx(0.4771)


@pytest.mark.parametrize("name", CLASSES)
def test_a_parameter_whose_gradient_comes_late_moves_as_if_it_were_new(name: str) -> None:
    early, late, alone = (nn.Parameter(torch.tensor([1.0])) for _ in range(3))
    recipe = Recipe(optimizer=name)
    both, one = make_optimiser([early, late], recipe), make_optimiser([alone], recipe)
    early.grad = torch.tensor([1.0])
    both.step(0.1)
    assert late.item() == 1.0
    late.grad, alone.grad = torch.tensor([3.0]), torch.tensor([3.0])
    both.step(0.1)
    one.step(0.1)
    assert torch.equal(late, alone)


@pytest.mark.parametrize("name", CLASSES)
def test_a_gradient_may_lie_otherwise_in_memory_than_its_parameter(name: str) -> None:
    gradient = torch.arange(6.0).reshape(2, 3)
    found = []
    for given in (gradient, gradient.T.contiguous().T):
        p = nn.Parameter(torch.ones(2, 3))
        p.grad = given
        make_optimiser([p], Recipe(optimizer=name)).step(0.1)
        found.append(p)
    assert torch.equal(*found)

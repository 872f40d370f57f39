"""The floating-point operations of one image."""

import pytest
import torch
from torch import nn

from cl_core.nets.network import LinearHead, Network
from cl_core.rng import stream
from cl_core.training.flops import flops_of


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)).relu().mean(dim=(2, 3))


def network(seen: int) -> Network:
    head = LinearHead(4, 10)
    head.open(0, seen, stream(0, "head"))
    return Network(Small(), head)


def test_an_image_costs_two_operations_a_multiplication_and_only_the_rows_of_seen_classes():
    conv = 2 * (5 * 6) * (3 * 3 * 3) * 4  # pixels x inputs of each output x channels
    for seen in (1, 7):
        assert flops_of([network(seen)], (3, 5, 6)) == conv + 2 * 4 * seen


def test_two_networks_cost_the_sum_and_stay_as_they_were():
    a, b = network(3), network(3).eval()
    before = {name: value.clone() for name, value in a.state_dict().items()}
    assert flops_of([a, b], (3, 8, 8)) == 2 * flops_of([a], (3, 8, 8))
    assert a.training
    assert not b.training
    assert all(torch.equal(value, before[name]) for name, value in a.state_dict().items())


class Attending(nn.Module):
    """A layer of torch's own transformer on the pixels, in place of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mul_(2).flatten(2).mT).mean(dim=1)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_transformer_layer_of_torch_counts(frozen: bool) -> None:
    net = Network(Attending(), LinearHead(4, 3)).requires_grad_(not frozen)
    pixels, dim, hidden = 5 * 6, 4, 6
    attention = 2 * 4 * pixels * dim * dim + 2 * 2 * pixels * pixels * dim
    assert flops_of([net], (4, 5, 6)) == attention + 2 * 2 * pixels * dim * hidden
    assert all(p.grad is None for p in net.parameters())

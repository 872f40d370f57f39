"""The terms of model inversion by hand, the generator, and what its phase trains."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cl_core.blocks.inversion import (
    Inversion,
    blur,
    content,
    imbalance,
    normal_gap,
    roughness,
    statistics_gap,
)
from cl_core.method import METHODS
from cl_core.nets.generator import LATENT, build_generator
from cl_core.nets.network import LinearHead, Network
from cl_core.training.events import Event
from tests import tiny


def test_the_gap_of_two_normal_distributions_by_hand() -> None:
    x = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])  # one channel: mean 4, variance 5
    gap = normal_gap(x, torch.tensor([2.0]), torch.tensor([10.0]))
    assert gap.item() == pytest.approx(0.5 * (math.log(5 / 10) + (10 + 4) / 5 - 1), rel=1e-6)


def test_the_gap_is_zero_and_has_no_gradient_where_the_batch_has_the_statistics() -> None:
    x = tiny.normal(0, 6, 3, 4, 4).requires_grad_()
    variance, mean = torch.var_mean(x.detach(), dim=(0, 2, 3), correction=0)
    gap = normal_gap(x, mean, variance)
    assert gap.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.autograd.grad(gap, x)[0].abs().max() < 1e-6
    assert normal_gap(x, mean + 1, variance) > 0.1
    assert normal_gap(x, mean, 2 * variance) > 0.05


def test_the_gap_of_a_network_is_the_mean_over_its_norms_and_leaves_no_hook() -> None:
    first, last = nn.BatchNorm2d(3), nn.BatchNorm2d(2)
    backbone = nn.Sequential(first, nn.Conv2d(3, 2, 1), last, nn.Flatten())
    net = Network(backbone, LinearHead(8, 5)).eval()
    net.head.open(0, 5, torch.Generator())  # type: ignore[operator]
    x = tiny.normal(1, 4, 3, 2, 2)
    out, gap = statistics_gap(net, x)
    inner = backbone[1](first(x))
    each = [normal_gap(a, n.running_mean, n.running_var) for a, n in ((x, first), (inner, last))]  # type: ignore[arg-type]
    assert gap.item() == pytest.approx(sum(e.item() for e in each) / 2, rel=1e-6)
    assert out.logits.shape == (4, 5)
    pickle.dumps(net)  # a hook that is left behind could not be pickled


def test_content_is_the_cross_entropy_with_the_top_class_at_a_temperature() -> None:
    z = torch.tensor([[4.0, 0.0], [0.0, 2.0]])
    expected = sum(math.log(1 + math.exp(-gap / 2)) for gap in (4, 2)) / 2
    assert content(z, 2.0).item() == pytest.approx(expected, rel=1e-6)
    assert content(z, 1000.0).item() == pytest.approx(math.log(2), abs=2e-3)


def test_balance_is_zero_for_equal_classes_and_one_for_a_single_one() -> None:
    assert imbalance(torch.tensor([[20.0, -20.0], [-20.0, 20.0]])).item() == pytest.approx(0.0, abs=1e-6)
    assert imbalance(torch.tensor([[20.0, -20.0]] * 2)).item() == pytest.approx(1.0, abs=1e-6)
    assert imbalance(torch.tensor([[3.0], [1.0]])).item() == 0.0  # one old class is always in balance
    p = torch.tensor([0.75, 0.25])
    assert imbalance(p.log()[None]).item() == pytest.approx(1 + (p * p.log()).sum().item() / math.log(2))


def test_defect_official_codes_balance_is_nan_where_the_share_of_a_class_underflows() -> None:
    z = torch.tensor([[500.0, 0.0, -500.0]], requires_grad=True)
    value = imbalance(z)
    assert value.item() == pytest.approx(1.0)
    assert torch.autograd.grad(value, z)[0].isfinite().all()


@given(n=st.integers(1, 9))
def test_blurring_keeps_constant_lines(n: int) -> None:
    assert torch.allclose(blur(n).sum(dim=1), torch.ones(n), atol=1e-6)


def test_roughness_is_the_distance_to_the_mirrored_gaussian_blur() -> None:
    assert roughness(torch.full((1, 3, 5, 4), 2.0)).item() == pytest.approx(0.0, abs=1e-12)
    x = tiny.normal(3, 2, 3, 6, 5)
    line = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / 4)
    kernel = (line[:, None] * line).repeat(3, 1, 1, 1) / line.sum() ** 2
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    blurred = nn.functional.conv2d(padded, kernel, groups=3)
    assert roughness(x).item() == pytest.approx((x - blurred).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "first"),
    [((3, 32, 32), (8, 8)), ((1, 8, 8), (2, 2)), ((3, 14, 10), (4, 3)), ((3, 64, 64), (8, 8))],
)
def test_a_generator_makes_normalised_images_of_the_data_s_shape(
    shape: tuple[int, int, int], first: tuple[int, int]
) -> None:
    made = build_generator(shape, 8, torch.Generator().manual_seed(0))
    images = made(torch.randn(32, LATENT, generator=torch.Generator().manual_seed(1)))
    assert images.shape == (32, *shape)
    assert made.sides[0] == first
    variance, mean = torch.var_mean(images, dim=(0, 2, 3), correction=0)
    assert torch.allclose(mean, torch.zeros(shape[0]), atol=1e-4)
    assert torch.allclose(variance, torch.ones(shape[0]), atol=0.05)


def test_the_generator_of_the_codes_has_the_parameters_of_the_codes() -> None:
    made = build_generator((3, 32, 32), 128, torch.Generator())
    assert sum(p.numel() for p in made.parameters()) == 8_423_939  # counted in ABD's official code


@pytest.mark.parametrize("method", [m for m in METHODS.names() if issubclass(METHODS[m].HP, Inversion)])
def test_the_generator_trains_alone_and_is_then_frozen_bit_for_bit(method: str) -> None:
    before: dict[str, torch.Tensor] = {}
    moved: list[tuple[str, bool]] = []

    def watch(event: Event) -> None:
        if not event.task.index or event.kind == "epoch ends":
            return
        s = event.state
        now = {f"g.{n}": t.clone() for n, t in s.modules["generator"].state_dict().items()}
        now |= {f"net.{n}": t.clone() for n, t in s.net.state_dict().items()}
        if event.kind == "phase begins":
            before.clear()
            before.update(now)
            return
        for part in ("g.", "net."):
            same = all(torch.equal(now[n], before[n]) for n in now if n.startswith(part))
            moved.append((f"{event.phase.name} {part}", not same))

    finished = tiny.train(tiny.configuration(method), watch=watch)
    assert {name for name, both in moved if both} >= {"invert g.", "train net."}
    for name, both in moved:
        assert both == (name == "invert g." or (name.endswith("net.") and not name.startswith("invert")))
    assert all(result.kept_bytes == 0 for result in finished.results)


def test_the_generator_comes_nearer_to_the_teacher_s_statistics() -> None:
    for result in tiny.run("abd", {"inversion": 4.0}).results[1:]:
        values = [p.value for p in result.phases if (p.phase, p.term) == ("invert", "statistics")]
        assert len(values) == 8
        assert values[-1] < values[0]

"""EEIL's gradient noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cl_core.rng import stream
from tests import tiny
from tests.cl_core.methods.eeil_inputs import EEIL, default_run, recorded_phases


def _noise(kind: str, epoch: int, before: int = 0, batch: int = 128, **hp: float) -> list[Tensor]:
    """Return the noise on the gradients of a net of 5 open classes of 7: head rows, then other weights."""
    state = tiny.fixed_state(tiny.logits(0, 7), memories=EEIL.memories)
    params = [*state.head.rows(), nn.Parameter(torch.zeros(200, 200))]
    for p in params:
        p.grad = torch.ones_like(p)
    task = tiny.task(3, 2)
    on_grad = EEIL({"grad_noise": kind, **hp}).noise(state, task, before)
    on_grad(params, epoch, batch, stream(0, "a step"))
    return [p.grad - torch.ones_like(p) for p in params if p.grad is not None]


@pytest.mark.parametrize(
    ("epoch", "before", "expected"),
    [(0, 0, 0.3 / 2**0.55), (1, 0, 0.3 / 3**0.55), (8, 0, 0.3 / 10**0.55), (2, 40, 0.3 / 44**0.55)],
)
def test_the_deviation_of_the_noise_decays_and_counts_on_in_stage_2(
    epoch: int, before: int, expected: float
) -> None:
    noise = _noise("mean_grad", epoch, before)[-1]
    assert noise.std().item() == pytest.approx(expected, rel=0.02)
    assert abs(noise.mean().item()) < 0.02 * expected
    wide = _noise("mean_grad", epoch, before, grad_noise_eta=0.6, grad_noise_gamma=1.0)[-1]
    assert wide.std().item() == pytest.approx(0.6 / (2 + before + epoch), rel=0.02)


def test_facil_eeil_noise_on_the_mean_gradient_is_a_choice_and_not_ours() -> None:
    summed, mean = _noise("sum_grad", 0)[-1], _noise("mean_grad", 0)[-1]
    assert summed.std().item() == pytest.approx(0.0016, rel=0.02)  # the official effective deviation
    assert torch.allclose(128 * summed, mean, atol=1e-4)
    short = _noise("sum_grad", 0, batch=32)[-1]  # a smaller last batch
    assert torch.allclose(32 * short, mean, atol=1e-4)


def test_the_noise_leaves_rows_of_classes_to_come_alone() -> None:
    weight, bias, other = _noise("mean_grad", 0)
    for rows in (weight, bias):
        assert rows[:5].all()
        assert not rows[5:].any()
    assert (other != 0).float().mean() > 0.99
    for kind in ("sum_grad", "mean_grad"):
        for t, state in enumerate(tiny.run("eeil", {"grad_noise": kind}).states):
            seen = sum(tiny.SIZES[: t + 1])
            assert not state["net.head.weight"][seen:].any()
            assert not state["net.head.bias"][seen:].any()


def test_the_noise_spares_the_first_task_and_reaches_both_stages() -> None:
    phases, _ = recorded_phases({"grad_noise": "mean_grad"})
    assert [p.phase.on_grad is not None for p in phases] == [False, True, True, True, True]
    for seen, before in zip(phases[1:], (0, 2, 0, 2), strict=True):  # two epochs of stage 1 count
        weight = nn.Parameter(torch.zeros(200, 200))
        weight.grad = torch.zeros_like(weight)
        seen.phase.on_grad([weight], 0, 16, stream(0, "a step"))  # type: ignore[misc]
        assert weight.grad.std().item() == pytest.approx(0.3 / (2 + before) ** 0.55, rel=0.02)
    plain, _ = default_run()
    assert all(p.phase.on_grad is None for p in plain)
    assert phases[0].after == plain[0].after
    assert phases[1].after != plain[1].after


def test_equal_seeds_give_equal_noise() -> None:
    a, b = (recorded_phases({"grad_noise": "mean_grad"})[0] for _ in range(2))
    assert [p.after for p in a] == [p.after for p in b]
    other, _ = recorded_phases({"grad_noise": "mean_grad"}, seed=1)
    assert other[1].after != a[1].after

"""PRAKA: aggregation between its heads, reminiscence of prototypes, what answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.method import METHODS
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task
from tests import tiny

PRAKA = METHODS["praka"]


def _kl(target: Tensor, z: Tensor) -> float:
    p = target.softmax(1)
    return (p * (p.log() - z.log_softmax(1))).sum(1).mean().item()


def _state(task: Task) -> State:
    return tiny.linear_state(task, {"rotated": 4})


def _batch(state: State, task: Task, labels: list[int], step: int = 0) -> Batch:
    return tiny.drawn_batch(PRAKA({}), state, task, labels, step)


def _mixing(n: int, hp: dict[str, Any] | None = None) -> Tensor:
    """The signed mixing weights of n prototypes."""
    task = tiny.task(3, 2)
    batch = Batch(torch.zeros(n, 1, 1, 1), torch.zeros(n, dtype=torch.int64))
    return PRAKA(hp or {}).augment(_state(task), batch, task, Streams(0, 1)).drawn["mix"]


# The loss


def test_the_first_task_trains_both_heads_and_aggregates_the_joint_one_into_the_other() -> None:
    task = tiny.task(3)
    state = _state(task)
    batch = _batch(state, task, [2, 0, 1])
    hp = {"single_weight": 2.0, "aka_weight": 3.0}
    terms = PRAKA(hp).loss(state, batch, task)
    assert list(terms) == ["joint", "ce", "aka"]
    g = state.net.side["rotated"](state.net(tiny.turned(batch.x)).features)  # [12, 12]
    h = state.net(batch.x).logits
    labels = torch.tensor([8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7])
    assert terms["joint"].value.item() == pytest.approx(F.cross_entropy(10 * g, labels).item(), rel=1e-5)
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(10 * h, batch.y).item(), rel=1e-5)
    a = torch.stack([sum(g[4 * i + r, r::4] for r in range(4)) / 4 for i in range(3)])
    assert a.shape == h.shape == (3, 3)
    # Temperature 1, no tau.
    assert terms["aka"].value.item() == pytest.approx(_kl(a, h), rel=1e-4)
    assert [term.weight for term in terms.values()] == [1.0, 2.0, 3.0]


def test_later_tasks_add_reminiscence_and_the_feature_distance() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    batch = _batch(state, task, [3, 4, 4])
    terms = PRAKA({"kd_weight": 2.0, "proto_weight": 5.0, "logit_temperature": 0.5}).loss(state, batch, task)
    assert list(terms) == ["joint", "ce", "aka", "prototype", "feature_kd"]
    x, c = tiny.turned(batch.x), batch.drawn["class"]
    phi = tiny.second_input_of_the_head(PRAKA({}), state, batch, task)
    g, h = state.net.side["rotated"](phi), state.net.head(phi)
    assert (g.shape, h.shape) == ((3, 20), (3, 5))
    expected = F.cross_entropy(2 * h, c) + F.cross_entropy(2 * g, 4 * c)
    assert terms["prototype"].value.item() == pytest.approx(expected.item() + _kl(g[:, ::4], h), rel=1e-4)
    assert state.teacher is not None
    gap = state.net(x).features - state.teacher(x).features
    assert gap.shape == (12, tiny.DIM)
    assert terms["feature_kd"].value.item() == pytest.approx(math.sqrt(gap.square().sum().item()), rel=1e-5)
    assert (terms["prototype"].weight, terms["feature_kd"].weight) == (5.0, 2.0)


def test_the_published_values_are_the_defaults() -> None:
    hp = PRAKA({}).hp
    assert (hp.kd_weight, hp.proto_weight, hp.logit_temperature, hp.beta_a) == (15, 15, 0.1, 0.5)
    assert (hp.mix_threshold, hp.mix_shrink, hp.p_extrapolate) == (0.6, 0.6, 0.5)
    assert (hp.single_weight, hp.aka_weight, hp.distill) == (1, 1, True)


def test_the_single_head_sees_unrotated_images_alone() -> None:
    task = tiny.task(3)
    state = _state(task)
    batch = _batch(state, task, [2, 0])
    asked: list[Tensor] = []
    state.net.backbone.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].requires_grad_()))
    (gradient,) = torch.autograd.grad(PRAKA({}).loss(state, batch, task)["ce"].value, asked)
    assert gradient[::4].any()
    for r in (1, 2, 3):
        assert not gradient[r::4].any()


def test_the_joint_head_is_never_pulled_towards_the_single_one() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    batch = _batch(state, task, [3, 4, 4])
    terms = PRAKA({}).loss(state, batch, task)
    joint = list(state.net.side["rotated"].parameters())
    none = torch.autograd.grad(terms["aka"].value, joint, allow_unused=True, retain_graph=True)
    assert none == (None, None)
    assert torch.autograd.grad(terms["aka"].value, state.head.weight, retain_graph=True)[0].any()
    phi = tiny.second_input_of_the_head(PRAKA({}), state, batch, task)
    g = state.net.side["rotated"](phi)
    own = torch.autograd.grad(F.cross_entropy(10 * g, 4 * batch.drawn["class"]), joint)
    for got, expected in zip(torch.autograd.grad(terms["prototype"].value, joint), own, strict=True):
        assert torch.allclose(got, expected, atol=1e-6)


# Reminiscence


def test_the_mixture_by_hand() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    batch = _batch(state, task, [3, 4, 4])
    view, weight = torch.tensor([0, 5, 11]), torch.tensor([0.25, -0.5, 0.0])
    batch = batch._replace(drawn={**batch.drawn, "view": view, "mix": weight})
    mu = state.kept["prototypes"][batch.drawn["class"]]
    f = state.net(tiny.turned(batch.x)).features[view]
    phi = tiny.second_input_of_the_head(PRAKA({}), state, batch, task)
    assert torch.allclose(phi[0], 0.75 * mu[0] + 0.25 * f[0], atol=1e-6)  # towards the feature
    assert torch.allclose(phi[1], 1.5 * mu[1] - 0.5 * f[1], atol=1e-6)  # away from it
    assert torch.equal(phi[2], mu[2])
    assert not phi.requires_grad


def test_mixing_weights_never_exceed_the_threshold_and_go_either_way_as_often() -> None:
    mix = _mixing(20_000)
    size = mix.abs()
    assert size.max() <= 0.6
    assert (mix > 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    # Beta(1/2, 1/2) is the arcsine law, P(l < x) = 2/pi asin(sqrt x). What is shrunk comes to lie above 0.36,
    # and so do draws between 0.36 and 0.6.
    above = 1 - 2 / math.pi * math.asin(math.sqrt(0.36))
    assert (size > 0.36).float().mean().item() == pytest.approx(above, abs=0.02)
    # E[l; l < x] of that law is (asin(sqrt x) - sqrt(x (1 - x))) / pi.
    low = (math.asin(math.sqrt(0.6)) - math.sqrt(0.24)) / math.pi
    assert size.mean().item() == pytest.approx(low + 0.6 * (0.5 - low), abs=0.01)


def test_threshold_factor_and_direction_are_choices() -> None:
    assert _mixing(2000, {"mix_threshold": 1.0}).abs().max() > 0.95
    assert _mixing(2000, {"mix_shrink": 0.3}).abs().max() <= 0.6
    assert _mixing(2000, {"mix_threshold": 0.3, "mix_shrink": 0.3}).abs().max() <= 0.3
    assert (_mixing(200, {"p_extrapolate": 0.0}) >= 0).all()
    assert (_mixing(200, {"p_extrapolate": 1.0}) <= 0).all()
    spread = [_mixing(5000, {"beta_a": a, "mix_threshold": 1.0}).abs().std().item() for a in (0.1, 0.5, 5.0)]
    exact = [math.sqrt(1 / (4 * (2 * a + 1))) for a in (0.1, 0.5, 5.0)]
    assert spread == pytest.approx(exact, abs=0.02)


def test_as_many_prototypes_as_images_are_drawn_each_with_any_of_the_rotated_views() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    for n in (1, 3):
        drawn = _batch(state, task, [3] * n).drawn
        assert {name: t.shape for name, t in drawn.items()} == dict.fromkeys(("class", "view", "mix"), (n,))
    drawn = _batch(state, task, [3, 4] * 200).drawn
    assert drawn["view"].max() >= 4 * 400 * 0.9
    assert set((drawn["view"] % 4).tolist()) == {0, 1, 2, 3}
    assert set(drawn["class"].tolist()) == {0, 1, 2}
    assert not _batch(state, tiny.task(3), [0, 1]).drawn
    other = _batch(state, task, [3, 4] * 200, step=1).drawn
    assert all(not torch.equal(drawn[name], other[name]) for name in drawn)


def test_fewer_old_classes_than_new_and_single_classes_stay_finite() -> None:
    for scenario in ({"base": 1, "increments": [4, 2]}, {"base": 5, "increments": [1, 1]}):
        finished = tiny.train(tiny.configuration("praka", scenario=scenario))
        assert np.isfinite([p.value for r in finished.results for p in r.phases]).all()
        assert {p.term for p in finished.results[2].phases} >= {"prototype", "feature_kd"}


# The first task, the recipe, and what answers


def test_the_family_is_decided_by_what_acts_on_the_first_task() -> None:
    base = PRAKA({}).base()
    assert base.parameters == {"logit_temperature": 0.1, "single_weight": 1.0, "aka_weight": 1.0}
    assert dict(base.side_heads) == {"rotated": 4}
    assert base.key() != METHODS["pass"]({}).base().key()
    assert PRAKA({"proto_weight": 50, "kd_weight": 1}).base() == base


def test_defect_official_praka_cosine_cycles_with_t_max_32_of_100_epochs() -> None:
    settings = tiny.configuration("praka")
    bare = type(settings)(method="praka", data=tiny.SPEC, scenario=settings.scenario)
    for recipe in bare.recipes(tiny.data(), PRAKA({})):
        assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.batch) == ("adam", 1e-3, 2e-4, 128)
        once = [recipe.replace(epochs=100).learning_rate(e) for e in range(100)]
        assert once == sorted(once, reverse=True)
        assert (once[0], once[50]) == (1e-3, pytest.approx(5e-4))
        assert 0 < once[-1] < 1e-6
        cycle = [recipe.replace(epochs=100, period=0.32).learning_rate(e) for e in (0, 16, 32, 64, 96, 99)]
        assert cycle == pytest.approx([1e-3, 5e-4, 0.0, 1e-3, 0.0, 2.15e-5], abs=1e-7)

"""GFR: the weights of its terms, the generator and critic, and what is frozen."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cl_core.blocks.wgan import between, fixed, gradient_penalty
from cl_core.methods.gfr import GFR
from cl_core.nets.feature_gan import FEATURE_NOISE, FeatureCritic, FeatureGenerator, build_feature_gan
from cl_core.state import State
from cl_core.task import Task
from tests import tiny


def _pair(seed: int) -> tuple[FeatureGenerator, FeatureCritic]:
    generator, critic = build_feature_gan(tiny.DIM, 8, 16, torch.Generator().manual_seed(seed))
    with torch.no_grad():  # larger weights than a fresh one has, so that features and slopes differ
        for i, p in enumerate((*generator.parameters(), *critic.parameters())):
            p.copy_(tiny.normal(10 * seed + i, *p.shape) / 3)
    return generator, critic


def _state(task: Task, *names: str, old: int = 1) -> State:
    state = tiny.linear_state(task, {})
    state.modules |= {"generator": _pair(1)[0]}
    if "critic" in names:
        state.modules["critic"] = _pair(1)[1]
        if task.index:
            state.modules["old generator"] = _pair(old)[0].requires_grad_(False)
    return state


# Training of the network


def test_the_terms_of_a_later_task_by_hand() -> None:
    task = tiny.task(4, 2)
    state = _state(task)
    b = tiny.drawn_batch(GFR({}), state, task, [4, 5, 5])
    assert (b.drawn["noise"].shape, b.drawn["old"].shape) == ((3, FEATURE_NOISE), (3,))
    assert b.drawn["old"].max() < 4
    terms = GFR({"kd_weight": 0.5}).loss(state, b, task)
    out = state.net(b.x)
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(out.logits, b.y).item(), rel=1e-6)
    made = state.modules["generator"](b.drawn["noise"], b.drawn["old"])
    replayed = F.cross_entropy(state.net.head(made), b.drawn["old"])
    assert terms["replay"].value.item() == pytest.approx(replayed.item(), rel=1e-6)
    assert state.teacher is not None
    gap = (out.features - state.teacher(b.x).features).square().sum().sqrt()
    assert terms["feature_kd"].value.item() == pytest.approx(gap.item(), rel=1e-5)
    # k = 4/2
    assert [term.weight for term in terms.values()] == pytest.approx([1 / 3, 2 / 3, 0.5 * 2])


def test_the_weights_of_both_cross_entropies_sum_to_one_and_the_old_has_k_times_the_new_one_s() -> None:
    for sizes in ((4, 2), (4, 1), (2, 4)):
        task = tiny.task(*sizes)
        state = _state(task)
        terms = GFR({}).loss(state, tiny.drawn_batch(GFR({}), state, task, [sizes[0]]), task)
        ce, replay = terms["ce"].weight, terms["replay"].weight
        assert ce + replay == pytest.approx(1.0)
        assert replay / ce == pytest.approx(sizes[0] / sizes[1])


def test_made_features_train_the_head_alone_and_the_generator_is_frozen() -> None:
    task = tiny.task(4, 2)
    state = _state(task)
    b = tiny.drawn_batch(GFR({}), state, task, [4, 5])
    GFR({}).loss(state, b, task)["replay"].value.backward()
    assert all(p.grad is None for p in state.net.backbone.parameters())
    assert all(p.grad is None for p in state.modules["generator"].parameters())
    assert tiny.gradient(state.net.head)[:6].any()


def test_the_distance_of_the_features_is_zero_without_gradient_at_equality_and_no_mean() -> None:
    task = tiny.task(4, 2)
    state = _state(task)
    b = tiny.drawn_batch(GFR({}), state, task, [4, 5])
    assert state.teacher is not None
    state.net.backbone.load_state_dict(state.teacher.net.backbone.state_dict())
    value = GFR({}).loss(state, b, task)["feature_kd"].value
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, list(state.net.backbone.parameters()))[0].any()
    assert "feature_kd" not in GFR({"distill": False}).loss(state, b, task)


def test_no_statistic_of_batch_norm_moves_after_the_first_task() -> None:
    for passed in tiny.phases("gfr", recipe={"epochs": 1}):
        moved = [n for n, t in passed.before.items() if "norms" in n and not torch.equal(t, passed.after[n])]
        statistics = [n for n in moved if "running" in n]
        assert bool(statistics) == (passed.phase.name == "train" and not passed.task.index)
        assert bool(moved) == (passed.phase.name == "train")


def test_defect_official_gfr_cross_entropy_runs_over_unseen_classes() -> None:
    task = tiny.task(4, 2)
    state = _state(task)
    b = tiny.drawn_batch(GFR({}), state, task, [4, 5])
    before = GFR({}).loss(state, b, task)
    tiny.set_rows(state, task.seen, 50.0)
    after = GFR({}).loss(state, b, task)
    assert all(torch.equal(before[name].value, after[name].value) for name in before)


# Generator and critic


def test_the_generator_makes_features_of_the_network_s_dimension_that_depend_on_the_class() -> None:
    generator, critic = _pair(1)
    noise, y = tiny.normal(0, 5, FEATURE_NOISE), torch.tensor([0, 1, 2, 3, 4])
    made = generator(noise, y)
    assert made.shape == (5, tiny.DIM)
    assert (made >= 0).all()  # as features after a ReLU
    assert not torch.equal(made, generator(noise, y.flip(0)))
    assert critic(made, y).shape == (5,)


def test_the_penalty_is_that_of_slopes_other_than_one() -> None:
    linear = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[3.0, 0.0, 4.0, 0.0]]))  # a slope of 5 everywhere
    x = tiny.normal(0, 3, 4)
    penalty = gradient_penalty(lambda x: linear(x)[:, 0], x)
    assert penalty.item() == pytest.approx(16.0)
    penalty.backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.tolist()[0] == pytest.approx([2 * 4 * 3 / 5, 0, 2 * 4 * 4 / 5, 0])
    assert between(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0.25, 1.0])).tolist() == [
        [0.25] * 3,
        [1.0] * 3,
    ]


def test_the_terms_of_generator_and_critic_by_hand() -> None:
    task = tiny.task(4, 2)
    state = _state(task, "critic", old=2)
    hp = {"align_weight": 0.01, "penalty_weight": 3.0}
    b = tiny.drawn_batch(GFR(hp), state, task, [4, 5, 5])
    terms = GFR(hp).gan_loss(state, b, task)  # type: ignore[attr-defined]
    generator, critic = state.modules["generator"], state.modules["critic"]
    noise, old = b.drawn["noise"], b.drawn["old"]
    real, fake = state.net(b.x).features.detach(), generator(noise, b.y)
    gap = critic(fake, b.y).mean() - critic(real, b.y).mean()
    assert terms["critic"].value.item() == pytest.approx(gap.item(), rel=1e-5)
    assert terms["generator"].value.item() == pytest.approx(-critic(fake, b.y).mean().item(), rel=1e-5)
    moved = (generator(noise, old) - state.modules["old generator"](noise, old)).square().sum()
    assert terms["alignment"].value.item() == pytest.approx(moved.item(), rel=1e-5)
    weights = {name: term.weight for name, term in terms.items()}
    assert weights == {"critic": 1.0, "penalty": 3.0, "generator": 1.0, "alignment": 0.01 * 2}


def test_the_alignment_is_zero_where_the_generator_is_the_old_one() -> None:
    task = tiny.task(4, 2)
    state = _state(task, "critic")
    b = tiny.drawn_batch(GFR({}), state, task, [4, 5])
    assert GFR({}).gan_loss(state, b, task)["alignment"].value.item() == 0.0  # type: ignore[attr-defined]


def test_each_term_trains_its_own_part_and_the_generator_moves_in_one_step_of_n() -> None:
    task = tiny.task(4, 2)
    state = _state(task, "critic", old=2)
    method = GFR({"n_critic": 3})
    parts = {
        "generator": list(state.modules["generator"].parameters()),
        "critic": list(state.modules["critic"].parameters()),
        "network": list(state.net.parameters()),
        "old": list(state.modules["old generator"].parameters()),
    }
    for step in range(5):
        b = tiny.drawn_batch(method, state, task, [4, 5], step=step)
        terms = method.gan_loss(state, b, task)  # type: ignore[attr-defined]
        for p in itertools.chain(*parts.values()):
            p.grad = None
        sum(term.value for term in terms.values()).backward()  # type: ignore[union-attr]
        reached = {name: any(p.grad is not None for p in of) for name, of in parts.items()}
        moves = step % 3 == 0
        assert reached == {"generator": moves, "critic": True, "network": False, "old": False}
    b = tiny.drawn_batch(method, state, task, [4, 5])
    value = method.gan_loss(state, b, task)["generator"].value  # type: ignore[attr-defined]
    found = torch.autograd.grad(value, [*parts["critic"], *parts["generator"]], allow_unused=True)
    assert [g is not None for g in found] == [False] * len(parts["critic"]) + [True] * len(parts["generator"])
    assert fixed(state.modules["critic"])(torch.zeros(1, tiny.DIM), torch.tensor([0])).requires_grad is False


def test_generator_and_critic_are_kept_and_counted_and_go_on_from_there() -> None:
    finished = tiny.run("gfr")
    dim = finished.states[0]["net.head.weight"].shape[1]
    generator, critic = build_feature_gan(dim, tiny.CLASSES, 8, torch.Generator())
    numbers = sum(p.numel() for p in (*generator.parameters(), *critic.parameters()))
    kept = [name for name in finished.states[0] if name.startswith("kept.")]
    assert {name.split(".")[1] for name in kept} == {"generator", "critic"}
    assert [result.kept_bytes for result in finished.results] == [4 * numbers] * 3
    first, second = finished.states[0], finished.states[1]
    assert any(not torch.equal(first[name], second[name]) for name in kept)

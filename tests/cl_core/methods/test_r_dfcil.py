"""R-DFCIL: the scales of its weights, which images each term reads, and the training of the head alone."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cl_core.blocks.inversion import made_labels
from cl_core.blocks.losses import relation_angle_l1
from cl_core.method import METHODS
from cl_core.methods.r_dfcil import class_weights, scales
from cl_core.nets.generator import build_generator
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task
from tests import tiny

RDFCIL = METHODS["r_dfcil"]


def _state(task: Task) -> State:
    state = tiny.linear_state(task, {})
    if task.index:
        state.modules["generator"] = build_generator((3, 3, 3), 8, torch.Generator().manual_seed(1)).eval()
        for seed, name in enumerate(("projection", "old projection")):
            linear = nn.Linear(tiny.DIM, 2 * tiny.DIM)
            with torch.no_grad():
                linear.weight.copy_(tiny.normal(20 + seed, 2 * tiny.DIM, tiny.DIM))
                linear.bias.zero_()
            state.modules[name] = linear
    return state


def _batch(state: State, task: Task, labels: list[int]) -> Batch:
    return tiny.drawn_batch(RDFCIL({}), state, task, labels)


@cache
def _phases(distill: bool = True) -> list[tiny.Passed]:
    return tiny.phases("r_dfcil", {"distill": distill}, recipe={"epochs": 1})


def test_the_scales_grow_with_the_new_classes_and_with_the_share_of_old_ones() -> None:
    assert scales(tiny.task(10, 10)) == (pytest.approx(2.585, abs=5e-4), 1.0)
    assert scales(tiny.task(50, 10)) == (pytest.approx(2.585, abs=5e-4), pytest.approx(2.236, abs=5e-4))
    assert scales(tiny.task(3, 1)) == (pytest.approx(math.log2(1.5)), pytest.approx(math.sqrt(3)))


def test_the_terms_of_the_features_by_hand() -> None:
    task = tiny.task(4, 2)
    state = _state(task)
    b = _batch(state, task, [4, 5, 5])
    hp = {"ce_weight": 2.0, "kd_weight": 0.5, "relation_weight": 3.0}
    terms = RDFCIL(hp).loss(state, b, task)
    assert state.teacher is not None
    out, old = state.net(b.x), state.teacher(b.x)
    local = F.cross_entropy(out.logits[:3, 4:], torch.tensor([0, 1, 1])).item()
    assert terms["ce"].value.item() == pytest.approx(local, rel=1e-5)
    gap = (out.logits[3:, :4] - old.logits[3:]).abs().mean().item()
    assert terms["kd"].value.item() == pytest.approx(gap, rel=1e-5)
    p, p_old = (
        state.modules["projection"](out.features[:3]),
        state.modules["old projection"](old.features[:3]),
    )

    def cosine(x: torch.Tensor, i: int, j: int, k: int) -> float:
        return F.cosine_similarity(x[i] - x[k], x[j] - x[k], dim=0).item() if k not in (i, j) else 0.0

    triplets = itertools.product(range(3), repeat=3)
    expected = sum(abs(cosine(p, *at) - cosine(p_old, *at)) for at in triplets) / 27
    assert terms["relation"].value.item() == pytest.approx(expected, rel=1e-4)
    # alpha = log2(2/2 + 1) = 1, beta = sqrt(4/2)
    beta = math.sqrt(2)
    weights = [term.weight for term in terms.values()]
    assert weights == pytest.approx([2.0 * 2 / beta, 0.5 * beta, 3.0 * beta])


def test_angles_are_zero_at_equal_features_and_blind_to_translation_rotation_and_scale() -> None:
    f = tiny.normal(1, 6, 4)
    assert relation_angle_l1(f, f).item() == 0.0
    turn = torch.linalg.qr(tiny.normal(2, 4, 4))[0]
    assert relation_angle_l1(3 * f @ turn + 5, f).item() == pytest.approx(0.0, abs=1e-5)
    assert relation_angle_l1(tiny.normal(3, 6, 8), f).item() > 0.1  # of any dimensions
    one = tiny.normal(4, 1, 4).requires_grad_()
    assert torch.autograd.grad(relation_angle_l1(one, one.detach()), one)[0].isfinite().all()


def test_made_images_reach_the_logits_term_alone_and_new_ones_the_other_two() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = _batch(state, task, [3, 4, 4, 3])
    b = b._replace(x=b.x.requires_grad_())
    for name, term in RDFCIL({}).loss(state, b, task).items():
        (gradient,) = torch.autograd.grad(term.value, b.x, retain_graph=True)
        assert bool(gradient[:4].any()) == (name != "kd")
        assert bool(gradient[4:].any()) == (name == "kd")


def test_both_projections_train_with_the_features_and_go_with_the_task() -> None:
    phases = [passed for passed in _phases() if passed.task.index]
    assert [passed.phase.name for passed in phases] == ["invert", "train", "head"] * 2
    net = 2 * 3 + 3 + 2  # weights and biases of three norms, three convolutions, the head
    trained = [passed.phase for passed in phases if passed.phase.name == "train"]
    assert [len(phase.params or ()) for phase in trained] == [net + 4] * 2
    plain = [passed for passed in _phases(distill=False) if passed.phase.name == "train"]
    assert [len(passed.phase.params or ()) for passed in plain] == [net] * 3


def test_the_head_alone_trains_last_and_the_backbone_and_its_statistics_stay_bit_for_bit() -> None:
    last = [passed for passed in _phases() if passed.phase.name == "head"]
    assert len(last) == 2
    for passed in last:
        for name, before in passed.before.items():
            same = torch.equal(before, passed.after[name])
            assert same == (not name.startswith("net.head.")), name
        assert not passed.phase.train_mode


def test_the_head_learns_all_seen_classes_by_the_inverse_of_their_images() -> None:
    weights = class_weights(torch.tensor([3, 3, 3, 3, 4, 4]), torch.tensor([0, 0, 1]), 5)
    assert weights.tolist() == [2.0, 4.0, 4.0, 1.0, 2.0]
    task = tiny.task(3, 2)
    state = _state(task)
    state.local["class_weights"] = nn.Parameter(weights, requires_grad=False)
    b = _batch(state, task, [3, 4])
    terms = RDFCIL({"ce_weight": 0.7}).head_loss(state, b, task)  # type: ignore[attr-defined]
    z = state.net(b.x).logits
    w = weights[b.y]
    each = F.cross_entropy(z, b.y, reduction="none")
    assert terms["ce"].value.item() == pytest.approx(((w * each).sum() / w.sum()).item(), rel=1e-5)
    assert terms["ce"].weight == 0.7
    assert state.teacher is not None
    gap = (z[2:, :3] - state.teacher(b.x[2:]).logits).abs().mean().item()
    assert terms["kd"].value.item() == pytest.approx(gap, rel=1e-5)


def test_made_images_are_counted_in_draws_of_their_own() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    labels = made_labels(state, 300, Streams(0, 1))
    assert labels.shape == (300,)
    assert labels.max() < task.old
    assert torch.equal(labels, made_labels(state, 300, Streams(0, 1)))


def test_defect_official_r_dfcil_shortens_the_first_task_by_a_loss_of_zero() -> None:
    for hp in ({}, {"head_epochs": 2.0}):
        finished = tiny.run("r_dfcil", hp)
        first = finished.results[0].phases
        assert [(p.phase, p.epoch, p.term) for p in first] == [("train", 0, "ce"), ("train", 1, "ce")]
        assert first == tiny.run("finetune").results[0].phases
        assert finished.results[0].network == tiny.run("finetune").results[0].network


def test_without_distillation_the_teacher_labels_made_images_and_nothing_else_is_asked_of_it() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    state.local["class_weights"] = nn.Parameter(torch.ones(5), requires_grad=False)
    b = _batch(state, task, [3, 4])
    full = RDFCIL({}).loss(state, b, task)
    assert state.teacher is not None
    state.teacher.register_forward_pre_hook(lambda *_: pytest.fail("the teacher was asked"))
    without = RDFCIL({"distill": False})
    terms = without.loss(state, b, task)
    assert list(terms) == ["ce"]
    assert torch.equal(terms["ce"].value, full["ce"].value)
    assert list(without.head_loss(state, b, task)) == ["ce"]  # type: ignore[attr-defined]


def test_the_published_values_are_the_defaults() -> None:
    method = RDFCIL({})
    hp = method.hp
    assert (hp.ce_weight, hp.kd_weight, hp.relation_weight) == (0.5, 0.15, 0.5)
    assert (hp.statistics_weight, hp.smoothness_weight, hp.content_temperature) == (50, 1e-3, 1000)
    settings = tiny.configuration("r_dfcil")
    bare = type(settings)(method="r_dfcil", data=tiny.SPEC, scenario=settings.scenario)
    recipe = bare.recipes(tiny.data(), method)[1].replace(epochs=160, batch=128, lr=0.1)
    assert (recipe.optimizer, recipe.weight_decay) == ("sgd", 5e-4)
    assert [recipe.learning_rate(e) for e in (79, 80, 120)] == pytest.approx([0.1, 0.01, 1e-3])
    last = recipe.stage(hp.head_epochs, lr=hp.head_lr * recipe.lr, schedule="constant")
    assert (last.epochs, last.learning_rate(39)) == (40, pytest.approx(0.005))


def test_one_new_class_is_learnt_among_all_seen_ones() -> None:
    task = tiny.task(3, 1)
    state = _state(task)
    b = _batch(state, task, [3, 3])
    ce = RDFCIL({}).loss(state, b, task)["ce"].value
    assert ce.item() == pytest.approx(F.cross_entropy(state.net(b.x).logits[:2], b.y[:2]).item(), rel=1e-5)
    assert "one new class" in str(RDFCIL({}).note(task))

"""ABD: which term trains what, the class weights, the dreamt images, and the official code's defect."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cl_core.method import METHODS
from cl_core.nets.generator import build_generator
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task
from tests import tiny

ABD = METHODS["abd"]


def _state(task: Task) -> State:
    state = tiny.linear_state(task, {})
    if task.index:
        state.modules["generator"] = build_generator((3, 3, 3), 8, torch.Generator().manual_seed(1)).eval()
    return state


def _batch(state: State, task: Task, labels: list[int]) -> Batch:
    return tiny.drawn_batch(ABD({}), state, task, labels)


def test_the_terms_of_a_later_task_by_hand() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = _batch(state, task, [3, 4, 4])
    terms = ABD({"kd_weight": 0.5}).loss(state, b, task)
    out = state.net(b.x)
    assert (b.x.shape, b.y.tolist()[:3]) == ((6, 3, 3, 3), [3, 4, 4])
    local = F.cross_entropy(out.logits[:3, 3:], torch.tensor([0, 1, 1])).item()
    assert terms["ce"].value.item() == pytest.approx(2 / 5 * local, rel=1e-5)
    each = F.cross_entropy(out.logits, b.y, reduction="none")
    weighted = (2 / 5 * each[:3].sum() + 3 / 5 * each[3:].sum()) / 6
    assert terms["head"].value.item() == pytest.approx(weighted.item(), rel=1e-5)
    assert state.teacher is not None
    w = state.teacher.net.head.weight[:3]  # type: ignore[index]
    drift = (out.features - state.teacher(b.x).features) @ w.T
    assert terms["kd"].value.item() == pytest.approx(drift.square().sum(1).mean().item() / 3, rel=1e-5)
    assert [term.weight for term in terms.values()] == [1.0, 1.0, 0.5]


def test_without_class_weights_every_image_counts_the_same() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = _batch(state, task, [3, 4])
    terms = ABD({"class_weights": False}).loss(state, b, task)
    z = state.net(b.x).logits
    assert terms["head"].value.item() == pytest.approx(F.cross_entropy(z, b.y).item(), rel=1e-5)


def test_the_term_of_the_head_has_no_gradient_in_the_backbone() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    ABD({}).loss(state, _batch(state, task, [3, 4]), task)["head"].value.backward()
    assert all(p.grad is None for p in state.net.backbone.parameters())
    assert tiny.gradient(state.net.head)[:5].any()


def test_dreamt_images_reach_the_features_through_the_distillation_alone() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = _batch(state, task, [3, 4])
    b = b._replace(x=b.x.requires_grad_())
    terms = ABD({}).loss(state, b, task)
    (gradient,) = torch.autograd.grad(terms["ce"].value, b.x, retain_graph=True)
    assert gradient[:2].any()
    assert not gradient[2:].any()
    (gradient,) = torch.autograd.grad(terms["kd"].value, b.x)
    assert gradient[2:].any()


def test_the_distillation_is_zero_without_gradient_where_the_student_is_the_teacher() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    assert state.teacher is not None
    b = _batch(state, task, [3, 4])
    state.net.backbone.load_state_dict(state.teacher.net.backbone.state_dict())
    value = ABD({}).loss(state, b, task)["kd"].value
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, list(state.net.backbone.parameters()))[0].any()


def test_the_distillation_weighs_features_by_the_old_head_and_trains_no_head() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    value = ABD({}).loss(state, _batch(state, task, [3, 4]), task)["kd"].value
    assert torch.autograd.grad(value, list(state.net.head.parameters()), allow_unused=True) == (None, None)


def test_dreamt_images_are_as_many_as_new_ones_and_bear_the_teacher_s_old_class() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    for n in (1, 4):
        b = _batch(state, task, [3] * n)
        assert len(b.x) == len(b.y) == len(b.rows) == 2 * n
        assert (b.rows[n:] == -1).all()
        assert (b.y[n:] < task.old).all()
        assert state.teacher is not None
        assert torch.equal(b.y[n:], state.teacher(b.x[n:]).logits.argmax(dim=1))
    other = tiny.drawn_batch(ABD({}), state, task, [3] * 4, step=1)
    assert not torch.equal(other.x[4:], b.x[4:])
    assert torch.equal(other.x[:4], b.x[:4])
    first = tiny.task(3)
    assert len(_batch(_state(first), first, [0, 1]).y) == 2


def test_defect_official_abd_cross_entropy_of_the_head_runs_over_unseen_classes() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = _batch(state, task, [3, 4])
    before = ABD({}).loss(state, b, task)
    tiny.set_rows(state, task.seen, 50.0)  # the official head has all rows from the start
    after = ABD({}).loss(state, b, task)
    assert all(torch.equal(before[name].value, after[name].value) for name in before)
    after["head"].value.backward()
    assert not tiny.gradient(state.net.head)[task.seen :].any()


def test_the_first_task_is_plain_and_one_new_class_takes_all_seen_ones() -> None:
    first = tiny.task(3)
    state = _state(first)
    b = _batch(state, first, [0, 1])
    assert list(ABD({}).loss(state, b, first)) == ["ce"]
    task = tiny.task(3, 1)
    state = _state(task)
    b = _batch(state, task, [3, 3])
    ce = ABD({"class_weights": False}).loss(state, b, task)["ce"].value
    assert ce.item() == pytest.approx(F.cross_entropy(state.net(b.x).logits[:2], b.y[:2]).item(), rel=1e-5)
    assert "one new class" in str(ABD({}).note(task))
    assert ABD({}).note(tiny.task(3, 2)) is None


def test_without_distillation_the_teacher_labels_the_dreams_and_nothing_else_is_asked_of_it() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = _batch(state, task, [3, 4])
    full = ABD({}).loss(state, b, task)
    assert state.teacher is not None
    state.teacher.register_forward_pre_hook(lambda *_: pytest.fail("the teacher was asked"))
    without = ABD({"distill": False}).loss(state, b, task)
    assert list(without) == ["ce", "head"]
    assert all(torch.equal(without[name].value, full[name].value) for name in without)


def test_the_published_values_are_the_defaults() -> None:
    method = ABD({})
    hp = method.hp
    assert (hp.kd_weight, hp.statistics_weight, hp.smoothness_weight) == (0.1, 50, 1e-3)
    assert (hp.inversion_lr, hp.content_temperature, hp.generator_width) == (1e-3, 1000, 128)
    settings = tiny.configuration("abd")
    bare = type(settings)(method="abd", data=tiny.SPEC, scenario=settings.scenario)
    _, recipe = bare.recipes(tiny.data(), method)
    recipe = recipe.replace(epochs=250, batch=128, lr=0.1)
    assert (recipe.optimizer, recipe.weight_decay) == ("sgd", 2e-4)
    rates = [recipe.learning_rate(epoch) for epoch in (99, 100, 150, 200)]
    assert rates == pytest.approx([0.1, 0.01, 1e-3, 1e-4])
    inversion = hp.generator_recipe(recipe)
    assert (inversion.optimizer, inversion.learning_rate(249), inversion.weight_decay) == ("adam", 1e-3, 0.0)
    steps = inversion.epochs * hp.steps(Task(1, (10, 10), torch.arange(5000), recipe))
    assert steps == 250 * 40  # 10,000, as published


def test_noise_is_drawn_anew_in_every_step_of_the_inversion() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    empty = Batch(torch.zeros(0, 3, 3, 3), torch.zeros(0, dtype=torch.int64))
    drawn = [ABD({}).augment(state, empty, task, Streams(0, 1, ("invert", 0, i))).drawn for i in (0, 1)]
    assert drawn[0]["noise"].shape == (task.recipe.batch, 1000)
    assert not torch.equal(drawn[0]["noise"], drawn[1]["noise"])

"""Looking Back: the targets of recovery, what it changes, and what each term of a later task reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cl_core.blocks.losses import kd
from cl_core.blocks.recovery import recovery, similarity, soft_targets
from cl_core.method import METHODS
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.events import Event
from tests import tiny

LookingBack = METHODS["looking_back"]


def _state(task: Task, n: int = 6) -> State:
    state = tiny.linear_state(task, {})
    if task.index:
        assert state.teacher is not None
        images = tiny.normal(4, n, 3, 3, 3)
        labels = state.teacher(images).logits.argmax(dim=1)
        for name, value in (("recovered", images), ("labels", labels)):
            state.local[name] = nn.Parameter(value, requires_grad=False)
    return state


# Recovery


def test_similar_rows_are_near_one_and_the_least_similar_has_zero() -> None:
    rows = torch.tensor([[1.0, 0.0], [2.0, 2.0], [-3.0, 0.0]])
    found = similarity(rows)
    # Cosines of the first row: 1, 0.7071, -1.
    assert found[0].tolist() == pytest.approx([1.0, (2**-0.5 + 1) / 2, 0.0], abs=1e-6)
    assert found.diagonal().tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_defect_official_looking_back_scales_similarities_by_the_least_of_the_other_class() -> None:
    rows = tiny.normal(0, 5, 4)
    unit = F.normalize(rows.double(), dim=1)
    s = unit @ unit.T
    official = (s - s.min(dim=1).values) / (s.max(dim=1).values - s.min(dim=1).values)
    found = similarity(rows)
    assert torch.allclose(found, official.T)
    assert not torch.allclose(found, official, atol=0.05)
    assert found.amin(dim=1).tolist() == [0.0] * 5  # of every class the least similar one is at zero


def test_soft_targets_sum_to_one_and_peak_mostly_at_their_class() -> None:
    rows = tiny.normal(0, 5, 16)
    q = soft_targets(rows, 200, torch.Generator().manual_seed(0))
    assert q.shape == (1000, 5)
    assert torch.allclose(q.sum(dim=1), torch.ones(1000), atol=1e-5)
    assert (q >= 0).all()
    peaks = q.argmax(dim=1).view(5, 200)
    for c in range(5):
        assert torch.bincount(peaks[c], minlength=5).argmax() == c
    even, odd = q.view(5, 100, 2, 5).amax(dim=3).mean(dim=(0, 1))
    assert odd > even + 0.1  # a small concentration gives sharper targets
    assert torch.equal(q, soft_targets(rows, 200, torch.Generator().manual_seed(0)))
    assert soft_targets(rows[:1], 3, torch.Generator()).tolist() == [[1.0]] * 3


def test_recovery_is_the_cross_entropy_with_the_target_at_a_temperature() -> None:
    z, q = tiny.logits(1, 3, rows=2), torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    expected = -(q * (z / 20).log_softmax(dim=1)).sum(dim=1).mean()
    assert recovery(z, q, 20.0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_images_change_batch_by_batch_and_the_network_and_the_teacher_do_not() -> None:
    found: list[tuple[str, torch.Tensor, dict[str, torch.Tensor]]] = []

    def watch(event: Event) -> None:
        if event.phase.name.startswith("recover") and event.kind != "epoch ends":
            nets = (event.state.net, event.state.teacher)
            kept = {f"{i} {n}": t.clone() for i, net in enumerate(nets) for n, t in net.state_dict().items()}  # type: ignore[union-attr]
            images = event.state.modules["recovered"].images.detach().clone()  # type: ignore[operator]
            found.append((event.phase.name, images, kept))

    finished = tiny.train(tiny.configuration("looking_back", {"recovery_lr": 0.1}), watch=watch)
    # 6 images of 3 classes, then of 5, in batches of 16.
    assert [(name, len(images)) for name, images, _ in found[::2]] == [
        ("recover 1", 16),
        ("recover 2", 2),
        ("recover 1", 16),
        ("recover 2", 14),
    ]
    for (_, before, nets), (_, after, nets_after) in zip(found[::2], found[1::2], strict=True):
        assert (before != after).flatten(1).any(dim=1).all()
        assert all(torch.equal(nets[name], nets_after[name]) for name in nets)
    for result in finished.results[1:]:
        values = [p.value for p in result.phases if p.phase == "recover 1"]
        assert values[-1] < values[0]
        assert result.kept_bytes == 0


def test_the_teacher_sees_in_most_recovered_images_the_class_that_was_asked_for() -> None:
    asked: list[float] = []

    def watch(event: Event) -> None:
        if event.kind == "phase begins" and event.phase.name == "train" and event.task.index:
            labels, classes = event.state.local["labels"], torch.arange(event.task.old)
            asked.append((labels == classes.repeat_interleave(6)).float().mean().item())

    hp = {"recovery_lr": 0.1, "recovery_steps": 10.0, "recovered_per_class": 6}
    tiny.train(tiny.configuration("looking_back", hp, recipe={"epochs": 5}), watch=watch)
    assert min(asked) > 0.5  # of 3 classes, then of 5; a target may lean towards another class


def test_images_begin_as_noise_without_a_pixel_of_the_data() -> None:
    task = tiny.task(3, 2, rows=torch.arange(28))
    drawn = []
    for value in (0.0, 1.0):
        training = tiny.run("looking_back").training
        state = tiny.linear_state(task, {})
        source = tiny.copied(tiny.data())
        source.train.x[:] = int(255 * value)
        view = type(training.view)(source, training.order, 0.1, training.device)
        phase = next(LookingBack({}).phases(state, task, view, Streams(0, 1)))
        assert (phase.name, phase.rows) == ("recover 1", ())
        drawn.append(torch.cat(list(phase.params or ())))
    assert torch.equal(drawn[0], drawn[1])


# Training


def test_the_terms_of_a_later_task_by_hand() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(LookingBack({}), state, task, [3, 4, 4])
    terms = LookingBack({"kd_weight": 0.5}).loss(state, b, task)
    z = state.net(b.x).logits
    local = F.cross_entropy(z[:3, 3:], torch.tensor([0, 1, 1]))
    assert terms["ce"].value.item() == pytest.approx(local.item(), rel=1e-6)
    assert state.teacher is not None
    expected = kd(z[:, :3], state.teacher(b.x).logits, 2.0)
    assert terms["kd"].value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert [term.weight for term in terms.values()] == [1.0, 0.5]


def test_the_official_form_has_all_seen_classes_and_logits_of_recovered_images_alone() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(LookingBack({}), state, task, [3, 4, 4])
    terms = LookingBack({"loss": "official", "kd_weight": 0.3}).loss(state, b, task)
    z = state.net(b.x).logits
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(z[:3], b.y[:3]).item(), rel=1e-6)
    assert state.teacher is not None
    gap = (z[3:, :3] - state.teacher(b.x[3:]).logits).square().mean()
    assert terms["kd"].value.item() == pytest.approx(gap.item(), rel=1e-5)
    assert terms["kd"].weight == 0.3


def test_without_distillation_recovered_images_are_learnt_by_their_class_and_no_teacher_is_asked() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(LookingBack({}), state, task, [3, 4])
    assert state.teacher is not None
    state.teacher.register_forward_pre_hook(lambda *_: pytest.fail("the teacher was asked"))
    terms = LookingBack({"distill": False}).loss(state, b, task)
    assert list(terms) == ["ce"]
    expected = F.cross_entropy(state.net(b.x).logits, b.y)
    assert terms["ce"].value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_distillation_is_zero_where_the_student_is_the_teacher_and_reads_every_image() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(LookingBack({}), state, task, [3, 4])
    b = b._replace(x=b.x.requires_grad_())
    value = LookingBack({}).loss(state, b, task)["kd"].value
    assert torch.autograd.grad(value, b.x)[0].flatten(1).any(dim=1).all()
    assert state.teacher is not None
    state.net.backbone.load_state_dict(state.teacher.net.backbone.state_dict())
    with torch.no_grad():
        for mine, old in zip(state.head.rows(), state.teacher.net.head.parameters(), strict=True):
            mine[:3] = old[:3]
    assert LookingBack({}).loss(state, b, task)["kd"].value.item() == pytest.approx(0.0, abs=1e-6)


def test_each_step_has_as_many_recovered_images_as_new_ones_with_the_teacher_s_class() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(LookingBack({}), state, task, [3, 4])
    assert (len(b.x), b.rows.tolist()) == (4, [0, 1, -1, -1])
    images = state.local["recovered"]
    assert all(any(torch.equal(x, image) for image in images) for x in b.x[2:])
    assert state.teacher is not None
    assert torch.equal(b.y[2:], state.teacher(b.x[2:]).logits.argmax(dim=1))
    assert not b.x.requires_grad
    other = tiny.drawn_batch(LookingBack({}), state, task, [3, 4], step=1)
    assert not torch.equal(other.x[2:], b.x[2:])


def test_one_new_class_takes_all_seen_ones() -> None:
    task = tiny.task(3, 1)
    state = _state(task)
    b = tiny.drawn_batch(LookingBack({}), state, task, [3, 3])
    ce = LookingBack({}).loss(state, b, task)["ce"].value
    assert ce.item() == pytest.approx(F.cross_entropy(state.net(b.x).logits[:2], b.y[:2]).item(), rel=1e-5)
    assert "one new class" in str(LookingBack({}).note(task))
    assert LookingBack({"distill": False}).note(task) is None


def test_the_published_values_are_the_defaults() -> None:
    hp = LookingBack({}).hp
    assert (hp.recovery_lr, hp.recovery_temperature) == (0.01, 20)

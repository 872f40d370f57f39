"""Mnemonics: exemplars that are learned, what is kept of them, and the methods that are wrapped."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.learned_exemplars import Stored, means_of, nearest_mean_logits
from cl_core.images.view import View
from cl_core.method import METHODS
from cl_core.methods.mnemonics import Mnemonics
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.events import Event
from tests import tiny


def _state(task: Task) -> State:
    state = tiny.linear_state(task, {})
    images = tiny.normal(4, 4 * task.new, 3, 3, 3)
    labels = torch.arange(task.old, task.seen).repeat_interleave(4)
    old = F.normalize(tiny.normal(5, task.old, tiny.DIM), dim=1)
    state.local["pixels"] = nn.Parameter(images)
    for name, value in (("labels", labels), ("old means", old)):
        state.local[name] = nn.Parameter(value, requires_grad=False)
    return state


@cache
def _learned(lr: float, epochs: float) -> list[tuple[View, Task, nn.Module, Tensor, Tensor, Tensor]]:
    """View, task, network, exemplars before and after they are learned, and their classes, of every task."""
    found: list[tuple[View, Task, nn.Module, Tensor, Tensor, Tensor]] = []
    before: list[Tensor] = []

    def watch(event: Event) -> None:
        if event.phase.name != "end exemplars" or event.kind == "epoch ends":
            return
        pixels = event.state.local["pixels"].detach().clone()
        if event.kind == "phase begins":
            before.append(pixels)
        else:
            labels = event.state.local["labels"].detach()
            net = event.state.fresh()
            net.load_state_dict(event.state.net.state_dict())
            net.head.seen = event.task.seen  # type: ignore[union-attr]
            found.append((event.view, event.task, net.eval(), before[-1], pixels, labels))

    hp = {"exemplar_lr": lr, "exemplar_epochs": epochs}
    tiny.train(tiny.configuration("mnemonics", hp, recipe={"epochs": 4}), watch=watch)
    return found


def _loss(net: nn.Module, x: Tensor, y: Tensor, exemplars: Tensor, labels: Tensor, task: Task) -> float:
    with torch.no_grad():
        means = means_of(net(exemplars).features, labels, range(task.old, task.seen))
        return F.cross_entropy(nearest_mean_logits(net(x).features, means), y - task.old).item()


# Learning


def test_the_loss_of_exemplars_by_hand_and_its_gradient_in_their_pixels_alone() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(Mnemonics({}), state, task, [3, 4, 4])
    assert len(b.y) == 3  # no stored image joins the images that the exemplars learn from
    term = Mnemonics({}).exemplar_loss(state, b, task)["exemplars"].value
    f = state.net(state.local["pixels"]).features
    rows = [*state.local["old means"], f[:4].mean(dim=0), f[4:].mean(dim=0)]
    z = torch.stack([F.cosine_similarity(state.net(b.x).features, row[None]) for row in rows], dim=1)
    assert term.item() == pytest.approx(F.cross_entropy(z, b.y).item(), rel=1e-5)
    term.backward()
    gradient = state.local["pixels"].grad
    assert gradient is not None
    assert gradient.flatten(1).any(dim=1).all()


def test_the_gradient_does_not_pass_through_the_images_of_the_task() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(Mnemonics({}), state, task, [3, 4])
    b = b._replace(x=b.x.requires_grad_())
    Mnemonics({}).exemplar_loss(state, b, task)["exemplars"].value.backward()
    assert b.x.grad is None


def test_learning_keeps_number_shape_and_classes_and_lowers_the_loss_on_the_images_of_the_task() -> None:
    for view, task, net, before, after, labels in _learned(0.05, 1.0):
        assert before.shape == after.shape == (10 * task.new, 3, 8, 8)
        assert labels.tolist() == [c for c in range(task.old, task.seen) for _ in range(10)]
        assert (before != after).flatten(1).any(dim=1).all()
        x, y = view.images(task.rows), view.labels(task.rows)
        assert _loss(net, x, y, after, labels, task) < _loss(net, x, y, before, labels, task)


def test_defect_official_mnemonics_moves_pixels_by_less_than_half_a_grey_level() -> None:
    # SGD at 1e-5 with momentum .9, as many steps as ours has: no pixel rounds to another value.
    (view, task, net, before, after, labels), *_ = _learned(0.05, 1.0)
    pixels = nn.Parameter(before.clone())
    optimiser = torch.optim.SGD([pixels], lr=1e-5, momentum=0.9, weight_decay=5e-4)
    x, y = view.images(task.rows), view.labels(task.rows)
    for _ in range(12):
        optimiser.zero_grad()
        means = means_of(net(pixels).features, labels, range(task.seen))
        F.cross_entropy(nearest_mean_logits(net(x).features.detach(), means), y).backward()
        optimiser.step()
    assert torch.equal(view.pixels(pixels.detach()), view.pixels(before))
    assert not torch.equal(view.pixels(after), view.pixels(before))


def test_defect_official_mnemonics_darkens_images_where_it_cuts_them_to_integers() -> None:
    training = tiny.run("mnemonics", {"learn_exemplars": False}).training
    view, rows = training.view, training.task(0).rows
    real = torch.from_numpy(view.data.train.x)[rows]
    assert torch.equal(view.pixels(view.images(rows)), real)
    outside = torch.stack([view.images(rows[:1])[0] + 100, view.images(rows[:1])[0] - 100])
    assert set(view.pixels(outside).flatten().tolist()) == {0, 255}


# What is kept


def test_only_pixels_and_their_classes_are_kept_and_counted() -> None:
    finished = tiny.run("mnemonics")
    for result, state in zip(finished.results, finished.states, strict=True):
        n = 10 * sum(tiny.SIZES[: result.task + 1])
        assert state["kept.exemplars"].shape == (n, 8, 8, 3)
        assert state["kept.exemplars"].dtype == torch.uint8
        means = state["kept.class_means"].numel() * 4
        assert result.kept_bytes == n * (192 + 8) + means
        assert not any(name.startswith("memory.") for name in state)
    first, last = finished.states[0]["kept.exemplars"], finished.states[-1]["kept.exemplars"]
    assert torch.equal(last[: len(first)], first)  # old exemplars stay as they were learned


def test_without_learning_the_real_images_are_kept() -> None:
    finished = tiny.run("mnemonics", {"learn_exemplars": False})
    real = {x.tobytes() for x in finished.training.view.data.train.x}
    kept = finished.states[-1]["kept.exemplars"].numpy()
    assert all(x.tobytes() in real for x in kept)
    learned = tiny.run("mnemonics").states[-1]["kept.exemplars"].numpy()
    assert sum(x.tobytes() in real for x in learned) < len(learned) / 2


def test_a_step_appends_stored_images_by_their_share_with_their_class() -> None:
    training = tiny.run("mnemonics").training
    state, task = training.state, training.task(2)
    state.modules["stored"] = Stored(state.kept["exemplars"], state.kept["labels"], training.view)
    rows = task.rows[:14]
    images, labels = training.view.images(rows), training.view.labels(rows)
    b = tiny.batch(labels)._replace(x=images, rows=rows)
    out = Mnemonics({}).augment(state, b, task, Streams(0, 2, ("train", 0, 0)))
    n = round(14 * 70 / 28)
    assert (len(out.x), out.rows[14:].tolist()) == (14 + n, [-1] * n)
    assert torch.equal(out.x[:14], images)
    assert torch.bincount(out.y[14:], minlength=7).tolist() == [5] * 7 or n < 70
    other = Mnemonics({}).augment(state, b, task, Streams(0, 2, ("train", 0, 1)))
    assert not torch.equal(other.x[14:], out.x[14:])
    state.drop_local()


# The methods that are wrapped


@pytest.mark.parametrize(
    ("wraps", "method", "hp"),
    [
        ("lwf", "lwf", {"ce_scope": "all_seen", "kd_weight": 0.5}),
        ("icarl", "icarl", {"old_weight": 2.0}),
    ],
)
def test_the_loss_is_that_of_the_method_wrapped(wraps: str, method: str, hp: dict[str, object]) -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b = tiny.drawn_batch(Mnemonics({}), state, task, [3, 4, 1])
    found = Mnemonics({"wraps": wraps, "kd_weight": 2.0}).loss(state, b, task)
    expected = METHODS[method](hp).loss(state, b, task)
    assert found.keys() == expected.keys()
    for name, term in found.items():
        assert torch.equal(term.value, expected[name].value)
        assert term.weight == expected[name].weight
    without = Mnemonics({"wraps": wraps, "distill": False}).loss(state, b, task)
    assert without.keys() == METHODS[method]({**hp, "distill": False}).loss(state, b, task).keys()


def test_with_lucir_old_rows_of_the_head_are_frozen_and_new_ones_imprinted() -> None:
    for passed in tiny.phases("mnemonics", {"wraps": "lucir"}, recipe={"epochs": 1}):
        if passed.task.index and passed.phase.name == "train":
            old = passed.task.old
            rows = passed.before["net.head.weight"]
            assert torch.equal(passed.after["net.head.weight"][:old], rows[:old])
            lengths = torch.linalg.vector_norm(rows[old : passed.task.seen], dim=1)
            mean = torch.linalg.vector_norm(rows[:old], dim=1).mean()
            assert torch.allclose(lengths, mean.expand_as(lengths))

"""BiC: the weights of stage 1, the two scalars of stage 2, its validation images, the rule that answers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.classifiers import bias_corrected
from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.images.view import View
from cl_core.method import METHODS, Phase
from cl_core.nets.network import LinearHead, Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task
from cl_core.training.checkpoints import network_digest
from cl_core.training.checks import check
from cl_core.training.events import Event
from cl_core.training.trainer import Training
from tests import tiny

BiC = METHODS["bic"]


def _state(z: Tensor, z_old: Tensor | None = None, pair: tuple[float, float] = (1.0, 0.0)) -> State:
    state = tiny.fixed_state(z, z_old, BiC.memories)
    state.local["pair"] = torch.nn.Parameter(torch.tensor([pair]))
    return state


def _phases(method: str = "bic", **rest: Any) -> list[tuple[Task, Phase, dict[str, Any]]]:
    """Every phase of a tiny run, with the memories as they were when it began."""
    seen = []

    def watch(event: Event) -> None:
        if event.kind == "phase begins":
            memories = event.state.memories.items()
            copied = {name: {c: rows.clone() for c, rows in m.rows.items()} for name, m in memories}
            seen.append((event.task, event.phase, copied))

    tiny.train(tiny.configuration(method, **rest), watch=watch)
    return seen


# The correction


def test_the_correction_by_hand() -> None:
    z = torch.tensor([[1.0, 2.0, 3.0]])
    pairs = torch.tensor([[1.0, 0.0], [0.5, -2.0]])
    assert bias_corrected(z, pairs, ((0, 2), (2, 3))).tolist() == [[1.0, 2.0, -0.5]]


def test_alpha_one_and_beta_zero_change_no_bit() -> None:
    z = tiny.logits(0, 5)
    pairs = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert torch.equal(bias_corrected(z, pairs, ((0, 3), (3, 5))), z)


@pytest.mark.parametrize("pair", [(0.3, -4.0), (2.5, 7.0)])
def test_the_correction_keeps_the_order_within_old_and_within_new(pair: tuple[float, float]) -> None:
    z = tiny.logits(0, 6, 50)
    corrected = bias_corrected(z, torch.tensor([[1.0, 0.0], pair]), ((0, 4), (4, 6)))
    for group in (slice(0, 4), slice(4, 6)):
        assert torch.equal(z[:, group].argsort(1), corrected[:, group].argsort(1))


# Stage 1


@pytest.mark.parametrize(
    ("sizes", "weight"),
    [
        ((10, 10), 0.5),
        ((10, 10, 10), 2 / 3),
        ((10,) * 10, 0.9),
        ((50, 10), 5 / 6),
        ((50, 10, 10, 10, 10, 10), 0.9),
        ((3, 2, 2), 5 / 7),
    ],
)
def test_defect_mammoth_and_libcontinual_bic_weight_is_not_old_over_all(
    sizes: tuple[int, ...], weight: float
) -> None:
    # mammoth's is 1/(t+1); LibContinual's t/(t+1) holds for equal tasks alone.
    seen, old = sum(sizes), sum(sizes[:-1])
    state = _state(tiny.logits(0, seen), tiny.logits(1, old))
    if len(sizes) > 2:
        state.kept["bias"] = torch.tensor([[1.0, 0.0]]).repeat(len(sizes) - 1, 1)
    terms = BiC({}).loss(state, tiny.batch([0, 1, seen - 1, seen - 2]), tiny.task(*sizes))
    assert terms["kd"].weight == pytest.approx(weight)
    assert terms["ce"].weight == pytest.approx(1 - weight)


def test_a_fixed_weight_is_taken_as_it_is() -> None:
    state = _state(tiny.logits(0, 5), tiny.logits(1, 3))
    terms = BiC({"kd_schedule": "fixed", "kd_lambda": 0.7}).loss(
        state, tiny.batch([0, 1, 3, 4]), tiny.task(3, 2)
    )
    assert (terms["ce"].weight, terms["kd"].weight) == (pytest.approx(0.3), 0.7)


def test_defect_mammoth_bic_distillation_carries_t_squared() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    terms = BiC({"temperature": 3.0}).loss(_state(z, z_old), tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))
    expected = F.cross_entropy(z[:, :3] / 3, (z_old / 3).softmax(1))
    assert terms["kd"].value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, torch.tensor([0, 1, 3, 4])))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_defect_avalanche_bic_softmax_over_the_batch_and_fixed_temperature(temperature: float) -> None:
    z = tiny.logits(0, 5).requires_grad_()
    state = _state(z, z[:, :3].detach())
    kd = BiC({"temperature": temperature}).loss(state, tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))["kd"].value
    # Targets that sum to one a sample: no gradient where the student is the teacher, at any temperature.
    assert torch.allclose(torch.autograd.grad(kd, z)[0], torch.zeros(4, 5), atol=1e-6)


def test_the_teacher_answers_with_the_correction_of_its_newest_classes_alone() -> None:
    z, z_old, b = tiny.logits(0, 7), tiny.logits(1, 5), tiny.batch([0, 3, 5, 6])
    state = _state(z, z_old)
    state.kept["bias"] = torch.tensor([[1.0, 0.0], [0.5, -1.0]])
    terms = BiC({}).loss(state, b, tiny.task(3, 2, 2))
    corrected = torch.cat([z_old[:, :3], 0.5 * z_old[:, 3:] - 1.0], dim=1)
    expected = F.cross_entropy(z[:, :5] / 2, (corrected / 2).softmax(1))
    assert terms["kd"].value.item() == pytest.approx(expected.item(), rel=1e-6)
    # The student is raw.
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))


def test_per_task_layers_apply_to_the_student_of_stage_1_too() -> None:
    z, z_old, b = tiny.logits(0, 7), tiny.logits(1, 5), tiny.batch([0, 3, 5, 6])
    state = _state(z, z_old)
    state.kept["bias"] = torch.tensor([[1.0, 0.0], [0.5, -1.0]])
    terms = BiC({"bias_layers": "per_task"}).loss(state, b, tiny.task(3, 2, 2))
    student = torch.cat([z[:, :3], 0.5 * z[:, 3:5] - 1.0, z[:, 5:]], dim=1)
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(student, b.y).item(), rel=1e-6)


def test_one_pair_is_live_or_one_a_task() -> None:
    for layers, live in (("single_last", [False, True]), ("per_task", [True, True])):
        bias = tiny.run("bic", {"bias_layers": layers}).states[2]["kept.bias"]
        assert bias.shape == (3, 2)
        raw = torch.tensor([1.0, 0.0])
        assert torch.equal(bias[0], raw)
        assert [not torch.equal(pair, raw) for pair in bias[1:]] == live


# Stage 2


def test_stage_2_begins_with_plain_cross_entropy() -> None:
    z, labels = tiny.logits(0, 5), [0, 1, 3, 4]
    terms = BiC({}).bias_loss(_state(z), tiny.batch(labels), tiny.task(3, 2))  # type: ignore[attr-defined]
    assert torch.equal(terms["bias_ce"].value, F.cross_entropy(z, torch.tensor(labels)))
    assert terms["beta_l2"].value.item() == 0


def test_the_decay_is_beta_squared_over_two_and_spares_alpha() -> None:
    state = _state(tiny.logits(0, 5), pair=(3.0, 2.0))
    terms = BiC({}).bias_loss(state, tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))  # type: ignore[attr-defined]
    assert terms["beta_l2"].value.item() == 2.0
    assert terms["beta_l2"].weight == 0.1
    assert torch.autograd.grad(terms["beta_l2"].value, state.local["pair"])[0].tolist() == [[0.0, 2.0]]


def test_defect_pycil_bic_stage2_gets_probabilities_not_logits() -> None:
    # One old and one new class, the new logit 3 too high for both images: p_new = sigmoid(3).
    z, labels = torch.tensor([[0.0, 3.0], [0.0, 3.0]]), [0, 1]
    state = _state(z)
    ce = BiC({}).bias_loss(state, tiny.batch(labels), tiny.task(1, 1))["bias_ce"].value  # type: ignore[attr-defined]
    ((alpha, beta),) = torch.autograd.grad(ce, state.local["pair"])[0].tolist()
    p = 1 / (1 + math.exp(-3))
    assert beta == pytest.approx(p - 0.5, abs=1e-6)
    assert alpha == pytest.approx(3 * (p - 0.5), abs=1e-6)


def test_stage_2_undoes_a_bias_towards_new_classes() -> None:
    # Logits that would be right, but for 4 more on the new classes: trained as the phase says.
    torch_labels = torch.arange(4).repeat(10)
    z = 3.0 * F.one_hot(torch_labels, 4).float() + torch.randn(
        40, 4, generator=torch.Generator().manual_seed(0)
    )
    z[:, 2:] += 4.0
    method, task = BiC({"beta_l2": 0.0}), tiny.task(2, 2)
    state = _state(z)
    pair, recipe = state.local["pair"], method.stage2_recipe(task.recipe.replace(epochs=20))  # type: ignore[attr-defined]
    optimizer = torch.optim.SGD([pair], lr=recipe.lr, momentum=recipe.momentum)
    for _ in range(recipe.epochs):
        optimizer.zero_grad()
        method.bias_loss(state, Batch(z, torch_labels), task)["bias_ce"].value.backward()  # type: ignore[attr-defined]
        optimizer.step()
    corrected = bias_corrected(z, torch.cat([torch.tensor([[1.0, 0.0]]), pair.detach()]), task.groups)
    assert pair[0, 1].item() < -2
    assert (z.argmax(1) < 2).float().mean() < 0.2
    assert (corrected.argmax(1) == torch_labels).float().mean() > 0.8


def test_stage_2_has_the_official_schedule_scaled() -> None:
    stage1 = tiny.task(2, 2).recipe.replace(epochs=20, batch=64, weight_decay=5e-4)
    recipe = BiC({}).stage2_recipe(stage1)  # type: ignore[attr-defined]
    assert recipe.epochs == 200
    assert (recipe.batch, recipe.optimizer, recipe.momentum, recipe.weight_decay) == (64, "sgd", 0.9, 0.0)
    rates = [recipe.learning_rate(e) for e in (0, 59, 60, 119, 120, 159, 160, 179, 180, 199)]
    assert rates == pytest.approx([0.1, 0.1, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    short = BiC({"stage2_epochs": 0.1}).stage2_recipe(stage1.replace(epochs=1))  # type: ignore[attr-defined]
    assert short.epochs == 1


def test_stage_2_changes_two_scalars_and_no_bit_of_the_network() -> None:
    before: list[str] = []
    checked = []

    def watch(event: Event) -> None:
        network = network_digest(event.state.net.state_dict())
        if event.kind == "phase begins":
            before.append(network)
        if event.kind == "phase ends" and event.phase.name == "bias":
            assert network == before[-1]
            pair = event.state.local["pair"]
            assert event.phase.params == (pair,)
            assert pair.shape == (1, 2)
            assert (pair != torch.tensor([[1.0, 0.0]])).all()
            checked.append(event.phase)

    tiny.train(tiny.configuration("bic"), watch=watch)
    assert len(checked) == 2


def test_defect_pycil_bic_stage2_moves_batch_norm() -> None:
    stage2 = [phase for _, phase, _ in _phases() if phase.name == "bias"]
    assert len(stage2) == 2
    assert not any(phase.train_mode for phase in stage2)
    assert not any(phase.augment for phase in stage2)  # validation images in the evaluation view


# Validation images


@pytest.mark.parametrize(
    "hp",
    [
        {},
        {"val_fraction": 0.3},
        {"budget": "total", "exemplars_total": 60},
        {"budget": "total", "exemplars_total": 19},
        {"budget": "total", "exemplars_total": 4000, "val_fraction": 0.3},
    ],
    ids=str,
)
def test_validation_images_are_equally_many_a_class_and_never_trained_on(hp: dict[str, Any]) -> None:
    phases = _phases(hp=hp)
    held_before: set[int] = set()
    for task, phase, memories in phases:
        val = memories["validation"]
        if phase.name == "train":
            trained = set(phase.rows[0].ids.tolist())
            held = {row for rows in val.values() for row in rows.tolist()}
            if task.index:
                assert sorted(val) == list(range(task.seen))
                assert not trained & held
                # One that was let go is trained on only as an exemplar.
                kept = {row for rows in memories["exemplars"].values() for row in rows.tolist()}
                assert trained & held_before <= kept
            held_before |= held
        else:
            assert {len(rows) for rows in val.values()} == {len(val[0])}
            assert len(val[0]) >= 1
            assert sorted(phase.rows[0].ids.tolist()) == sorted(torch.cat(list(val.values())).tolist())


def _sizes(
    classes: tuple[int, ...], images: list[int], hp: dict[str, Any]
) -> list[tuple[dict[int, int], int, dict[int, int], dict[int, int]]]:
    """For each task: validation images of a class in training, those of stage 2, and after the task exemplars
    and validation images of a class. Nothing trains: the counts do not depend on it."""
    y = np.repeat(np.arange(len(images)), images)
    data = Data.from_arrays(np.zeros((len(y), 1, 1, 1), np.uint8), y, name="blank")
    view = View(data, range(len(images)), 0.0, torch.device("cpu"))

    def net() -> Network:
        return Network(torch.nn.Flatten(), LinearHead(1, len(images)))

    method = BiC({"budget": "total", "selection": "random", **hp})
    state, out = method.build(net), []
    for index in range(len(classes)):
        sizes = classes[: index + 1]
        task = Task(index, sizes, view.rows(range(sum(sizes[:-1]), sum(sizes))), Recipe())
        g = Streams(0, index)
        method.begin(state, task, view, g)
        validation = state.memories["validation"]
        during = {c: len(rows) for c, rows in validation.rows.items()}
        stage2 = [len(p.rows[0].ids) for p in method.phases(state, task, view, g) if p.name == "bias"]
        method.end(state, task, view, g)
        state.drop_local()
        kept = {c: len(rows) for c, rows in state.memory.rows.items()}
        rows = torch.cat([state.memory.ids(), validation.ids()])
        assert len(rows.unique()) == len(rows)
        out.append((during, sum(stage2), kept, {c: len(held) for c, held in validation.rows.items()}))
    return out


def test_validation_images_are_sized_by_the_old_classes_before_a_task_is_trained() -> None:
    # 2000 in all, a tenth of them for validation: 20 a class of 10 old ones, then 10 of 20, then 6 of 30.
    first, second, third = _sizes((10, 10, 10), [250] * 30, {"exemplars_total": 2000})
    assert first == ({}, 0, dict.fromkeys(range(10), 180), dict.fromkeys(range(10), 20))
    assert second[:2] == (dict.fromkeys(range(20), 20), 400)
    assert second[2:] == (dict.fromkeys(range(20), 90), dict.fromkeys(range(20), 10))
    assert third[:2] == (dict.fromkeys(range(30), 10), 300)
    assert (sum(third[2].values()), set(third[3].values())) == (2000 - 180, {6})


@given(
    total=st.integers(16, 120),
    classes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.3),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_never_exceeded_and_no_part_of_it_is_idle(
    total: int, classes: list[int], fraction: float
) -> None:
    total = max(total, 2 * sum(classes))
    hp = {"exemplars_total": total, "val_fraction": fraction}
    before: dict[int, int] = {}
    for during, _, exemplars, validation in _sizes(tuple(classes), [130] * sum(classes), hp):
        if during:  # what is stored while a task is trained is of old classes
            assert sum(before.values()) + sum(during[c] for c in before) == total
        assert sum(exemplars.values()) + sum(validation.values()) == total
        assert len(set(validation.values())) == 1
        assert min(*exemplars.values(), *validation.values()) >= 1
        before = exemplars


@given(images=st.lists(st.integers(2, 9), min_size=6, max_size=6), total=st.integers(12, 60))
@settings(max_examples=60, deadline=None)
def test_classes_of_few_images_keep_one_to_train_on_and_one_for_validation(
    images: list[int], total: int
) -> None:
    hp = {"exemplars_total": total, "val_fraction": 0.3}
    for during, stage2, exemplars, validation in _sizes((2, 1, 3), images, hp):
        assert all(1 <= held < images[c] for c, held in during.items())
        assert stage2 == len(during) * min(during.values(), default=0)
        assert len(set(validation.values())) == 1
        assert min(*exemplars.values(), *validation.values()) >= 1
        assert sum(exemplars.values()) + sum(validation.values()) <= total


def test_a_class_of_one_training_image_is_refused_before_any_work() -> None:
    one = tiny.configuration("bic", spec=DataSpec("synthetic", classes=7, per_class=2))
    with pytest.raises(BadRequest, match=r"bic needs 2 training images of every class, .* has 1;") as caught:
        Training(one, tiny.data(7, 2))
    assert "\n" not in str(caught.value)
    Training(dataclasses.replace(one, method="icarl", hp={}), tiny.data(7, 2))


def test_every_new_class_keeps_images_to_train_on_however_large_the_memory() -> None:
    hp = {"exemplars_per_class": 5000, "val_fraction": 0.3}
    for task, phase, memories in _phases(hp=hp):
        if phase.name == "train" and task.index:
            for c in range(task.old, task.seen):
                assert len(memories["validation"][c]) == int(0.3 * tiny.TRAIN) == 4
            new = set(task.rows.tolist()) & set(phase.rows[0].ids.tolist())
            assert len(new) == 2 * (tiny.TRAIN - 4)


def test_the_number_of_validation_images_is_the_floor_of_the_share_and_at_least_one() -> None:
    for hp, held, kept in (
        ({}, 1, 9),  # 10 exemplars a class, 0.1 of them
        ({"val_fraction": 0.3}, 3, 7),
        ({"exemplars_per_class": 2}, 1, 1),
        ({"exemplars_per_class": 5}, 1, 4),
    ):
        state = tiny.run("bic", hp).states[-1]
        for c in range(tiny.CLASSES):
            assert len(state[f"memory.validation.{c}"]) == held
            assert len(state[f"memory.exemplars.{c}"]) == kept


def test_defect_facil_bic_takes_the_first_images_and_cuts_the_first_task() -> None:
    finished = tiny.run("bic", {"val_fraction": 0.3})
    view = finished.training.view
    taken = [finished.states[-1][f"memory.validation.{c}"].tolist() for c in range(tiny.CLASSES)]
    first = [view.rows([c])[:3].tolist() for c in range(tiny.CLASSES)]
    assert sum(sorted(a) == b for a, b in zip(taken, first, strict=True)) <= 1
    task, phase, _ = _phases()[0]
    assert task.index == 0
    assert sorted(phase.rows[0].ids.tolist()) == sorted(view.rows(range(3)).tolist())


def test_the_first_task_has_no_stage_2_and_is_the_plain_one() -> None:
    assert [(task.index, phase.name) for task, phase, _ in _phases()] == [
        (0, "train"),
        (1, "train"),
        (1, "bias"),
        (2, "train"),
        (2, "bias"),
    ]
    assert tiny.run("bic").results[0].network == tiny.run("finetune").results[0].network
    terms = [{p.term for p in r.phases} for r in tiny.run("bic").results]
    assert terms == [{"ce"}, *[{"ce", "kd", "bias_ce", "beta_l2"}] * 2]


def test_a_memory_of_one_image_a_class_has_no_room_for_validation() -> None:
    with pytest.raises(BadRequest, match="exemplars_per_class must leave every class 2"):
        check(tiny.configuration("bic", {"exemplars_per_class": 1}), tiny.data())


# What answers


def test_defect_inclearn_bic_correction_is_not_applied_at_test() -> None:
    finished = tiny.run("bic")
    training = finished.training
    assert training.method.primary() == "corrected"
    task = training.task(2)
    x = training.view.images(task.rows[:6])
    with torch.no_grad():
        scores = training.method.scores(training.state, x, task)
    alpha, beta = finished.states[-1]["kept.bias"][-1]
    assert torch.equal(scores["corrected"][:, :5], scores["head"][:, :5])
    assert torch.allclose(scores["corrected"][:, 5:], alpha * scores["head"][:, 5:] + beta)
    assert not torch.equal(scores["corrected"][:, 5:], scores["head"][:, 5:])


def test_unequal_tasks_run_to_the_end() -> None:
    for scenario in ({"base": 4, "increments": [1, 2]}, {"base": 1, "increments": [4, 2]}):
        finished = tiny.train(tiny.configuration("bic", scenario=scenario))
        assert finished.states[-1]["kept.bias"].shape == (3, 2)


# Without distillation


@pytest.mark.parametrize("hp", [{}, {"kd_schedule": "fixed", "kd_lambda": 0.7}], ids=str)
def test_without_distillation_cross_entropy_has_weight_1_and_the_teacher_is_not_asked(
    hp: dict[str, Any],
) -> None:
    z, b = tiny.logits(0, 5), tiny.batch([0, 1, 3, 4])
    state = _state(z, tiny.logits(1, 3))
    terms = BiC({"distill": False, **hp}).loss(state, b, tiny.task(3, 2))
    assert list(terms) == ["ce"]
    assert terms["ce"].weight == 1.0
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))
    assert state.teacher is not None
    assert not state.teacher.net.asked


def test_without_distillation_per_task_layers_still_correct_the_student_of_stage_1() -> None:
    z, b = tiny.logits(0, 7), tiny.batch([0, 3, 5, 6])
    state = _state(z, tiny.logits(1, 5))
    state.kept["bias"] = torch.tensor([[1.0, 0.0], [0.5, -1.0]])
    student = torch.cat([z[:, :3], 0.5 * z[:, 3:5] - 1.0, z[:, 5:]], dim=1)
    for layers, logits in (("per_task", student), ("single_last", z)):
        method = BiC({"distill": False, "bias_layers": layers})
        ce = method.loss(state, b, tiny.task(3, 2, 2))["ce"].value
        assert ce.item() == pytest.approx(F.cross_entropy(logits, b.y).item(), rel=1e-6)


def test_without_distillation_stage_2_stays() -> None:
    off = tiny.run("bic", {"distill": False})
    assert [{p.term for p in r.phases} for r in off.results] == [{"ce"}, *[{"ce", "bias_ce", "beta_l2"}] * 2]
    assert off.results[0].network == tiny.run("bic").results[0].network
    assert off.results[1].network != tiny.run("bic").results[1].network

"""BiC: the correction, both stages by hand, and what answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.classifiers import bias_corrected
from cl_core.task import Batch
from cl_core.training.checkpoints import network_digest
from cl_core.training.events import Event
from tests import tiny
from tests.cl_core.methods.bic_inputs import BiC, given_state, recorded_phases

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
    state = given_state(tiny.logits(0, seen), tiny.logits(1, old))
    if len(sizes) > 2:
        state.kept["bias"] = torch.tensor([[1.0, 0.0]]).repeat(len(sizes) - 1, 1)
    terms = BiC({}).loss(state, tiny.batch([0, 1, seen - 1, seen - 2]), tiny.task(*sizes))
    assert terms["kd"].weight == pytest.approx(weight)
    assert terms["ce"].weight == pytest.approx(1 - weight)


def test_a_fixed_weight_is_taken_as_it_is() -> None:
    state = given_state(tiny.logits(0, 5), tiny.logits(1, 3))
    terms = BiC({"kd_schedule": "fixed", "kd_lambda": 0.7}).loss(
        state, tiny.batch([0, 1, 3, 4]), tiny.task(3, 2)
    )
    assert (terms["ce"].weight, terms["kd"].weight) == (pytest.approx(0.3), 0.7)


def test_defect_mammoth_bic_distillation_carries_t_squared() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    terms = BiC({"temperature": 3.0}).loss(given_state(z, z_old), tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))
    expected = F.cross_entropy(z[:, :3] / 3, (z_old / 3).softmax(1))
    assert terms["kd"].value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, torch.tensor([0, 1, 3, 4])))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_defect_avalanche_bic_softmax_over_the_batch_and_fixed_temperature(temperature: float) -> None:
    z = tiny.logits(0, 5).requires_grad_()
    state = given_state(z, z[:, :3].detach())
    kd = BiC({"temperature": temperature}).loss(state, tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))["kd"].value
    # Targets that sum to one a sample: no gradient where the student is the teacher, at any temperature.
    assert torch.allclose(torch.autograd.grad(kd, z)[0], torch.zeros(4, 5), atol=1e-6)


def test_the_teacher_answers_with_the_correction_of_its_newest_classes_alone() -> None:
    z, z_old, b = tiny.logits(0, 7), tiny.logits(1, 5), tiny.batch([0, 3, 5, 6])
    state = given_state(z, z_old)
    state.kept["bias"] = torch.tensor([[1.0, 0.0], [0.5, -1.0]])
    terms = BiC({}).loss(state, b, tiny.task(3, 2, 2))
    corrected = torch.cat([z_old[:, :3], 0.5 * z_old[:, 3:] - 1.0], dim=1)
    expected = F.cross_entropy(z[:, :5] / 2, (corrected / 2).softmax(1))
    assert terms["kd"].value.item() == pytest.approx(expected.item(), rel=1e-6)
    # The student is raw.
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))


def test_per_task_layers_apply_to_the_student_of_stage_1_too() -> None:
    z, z_old, b = tiny.logits(0, 7), tiny.logits(1, 5), tiny.batch([0, 3, 5, 6])
    state = given_state(z, z_old)
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
    terms = BiC({}).bias_loss(given_state(z), tiny.batch(labels), tiny.task(3, 2))  # type: ignore[attr-defined]
    assert torch.equal(terms["bias_ce"].value, F.cross_entropy(z, torch.tensor(labels)))
    assert terms["beta_l2"].value.item() == 0


def test_the_decay_is_beta_squared_over_two_and_spares_alpha() -> None:
    state = given_state(tiny.logits(0, 5), pair=(3.0, 2.0))
    terms = BiC({}).bias_loss(state, tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))  # type: ignore[attr-defined]
    assert terms["beta_l2"].value.item() == 2.0
    assert terms["beta_l2"].weight == 0.1
    assert torch.autograd.grad(terms["beta_l2"].value, state.local["pair"])[0].tolist() == [[0.0, 2.0]]


def test_defect_pycil_bic_stage2_gets_probabilities_not_logits() -> None:
    # One old and one new class, the new logit 3 too high for both images: p_new = sigmoid(3).
    z, labels = torch.tensor([[0.0, 3.0], [0.0, 3.0]]), [0, 1]
    state = given_state(z)
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
    state = given_state(z)
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
    stage2 = [phase for _, phase, _ in recorded_phases() if phase.name == "bias"]
    assert len(stage2) == 2
    assert not any(phase.train_mode for phase in stage2)
    assert not any(phase.augment for phase in stage2)  # validation images in the evaluation view


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

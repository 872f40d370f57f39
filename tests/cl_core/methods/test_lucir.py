"""LUCIR: its cosines, the three terms on given features, its rows, scale, balanced checkpoint and rules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.cosine import imprint, margin_ranking
from cl_core.blocks.exemplars import class_means, features_of
from cl_core.method import METHODS
from cl_core.nets.network import CosineHead
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task, Term
from cl_core.training.trainer import Training
from tests import tiny

LUCIR = METHODS["lucir"]


def _state(f: Tensor, f_old: Tensor | None, weight: Tensor, eta: float = 1.0) -> State:
    """Networks that answer with features f and f_old, and a cosine head of all rows of `weight`."""
    classes = len(weight)
    state = tiny.fixed_state(torch.zeros(len(f), classes), f_old, LUCIR.memories)
    state.net.features = f
    head = CosineHead(weight.shape[1], classes, eta)
    head.weight.data.copy_(weight)
    head.seen = classes
    state.net.head = head
    return state


def _terms(s: State, labels: list[int], *sizes: int, **hp: Any) -> dict[str, Term]:
    return LUCIR(hp).loss(s, tiny.batch(labels), tiny.task(*sizes))


# The cosines


def test_cosines_lie_between_minus_one_and_one_and_ignore_lengths() -> None:
    f, w = tiny.normal(0, 6, 4), tiny.normal(1, 5, 4)
    head = _state(f, None, w).net.head
    cosines = head.similarity(f)  # type: ignore[operator]
    assert cosines.abs().max() <= 1 + 1e-6
    longer = _state(f, None, w * torch.tensor([0.01, 1, 3, 100, 1e4])[:, None]).net.head
    assert torch.allclose(longer.similarity(f * 7), cosines, atol=1e-6)  # type: ignore[operator]
    assert torch.allclose(cosines, F.cosine_similarity(f[:, None], w[None], dim=2), atol=1e-6)


@pytest.mark.parametrize("eta", [1.0, 4.0, 30.0])
def test_the_scale_changes_the_loss_and_no_answer(eta: float) -> None:
    f, w = tiny.normal(0, 6, 4), tiny.normal(1, 5, 4)
    labels = [0, 1, 2, 3, 4, 0]
    one, many = _state(f, None, w), _state(f, None, w, eta)
    assert torch.equal(one.net.head(f).argmax(1), many.net.head(f).argmax(1))
    ce = _terms(many, labels, 5)["ce"].value
    cosines = F.cosine_similarity(f[:, None], w[None], dim=2)
    assert ce.item() == pytest.approx(F.cross_entropy(eta * cosines, torch.tensor(labels)).item(), rel=1e-5)
    assert (eta == 1) == torch.equal(ce, _terms(one, labels, 5)["ce"].value)


def test_features_are_signed_as_there_is_no_last_relu() -> None:
    training = tiny.run("lucir").training
    features = features_of(training.state.net, training.view, training.view.rows(range(3)))
    assert (features < 0).float().mean() > 0.1


def test_the_scale_begins_as_told_carries_over_and_trains() -> None:
    training = Training(tiny.configuration("lucir", {"eta": 5.0}), tiny.data())
    for net in (training.state.net, training.state.fresh()):
        assert net.state_dict()["head.eta"].item() == 5.0
    phases = tiny.phases("lucir", hp={"eta": 5.0})
    etas = [(before["net.head.eta"].item(), after["net.head.eta"].item()) for _, _, before, after in phases]
    assert etas[0][0] == 5.0
    assert all(started != ended for started, ended in etas)
    assert [started for started, _ in etas[1:]] == [ended for _, ended in etas[:-1]]


def test_the_scale_decays() -> None:
    # Nothing else moves it here: with a single class the cross-entropy is constant.
    scenario = {"base": 1, "increments": [6]}
    recipe = {"weight_decay": 0.5, "lr": 0.1, "momentum": 0.0, "epochs": 1}
    _, _, _, after = tiny.phases("lucir", hp={"eta": 4.0}, scenario=scenario, recipe=recipe)[0]
    assert after["net.head.eta"].item() == pytest.approx(4.0 * (1 - 0.1 * 0.5))  # one step of 14 images


# The terms


def test_the_first_task_is_cross_entropy_alone_whatever_acts_later() -> None:
    f, w, labels = tiny.normal(0, 4, 3), tiny.normal(1, 3, 3), [0, 1, 2, 0]
    expected = F.cross_entropy(F.cosine_similarity(f[:, None], w[None], dim=2), torch.tensor(labels))
    for hp in ({}, {"kd_weight": 30.0, "margin": 1.0, "margin_weight": 10.0, "n_negatives": 5}):
        terms = _terms(_state(f, None, w), labels, 3, **hp)
        assert list(terms) == ["ce"]
        assert terms["ce"].value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_an_increment_s_terms_by_hand() -> None:
    w = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])  # classes 0 and 1 old, 2 new
    f = torch.tensor([[0.6, 0.8], [0.0, 5.0]])
    f_old = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    terms = _terms(_state(f, f_old, w), [0, 2], 2, 1, n_negatives=1)
    cosines = [[0.6, 0.8, -0.6], [0.0, 1.0, 0.0]]
    ce = [math.log(sum(math.exp(s) for s in row)) - row[y] for row, y in zip(cosines, [0, 2], strict=True)]
    assert terms["ce"].value.item() == pytest.approx(sum(ce) / 2, rel=1e-5)
    # Cosines with the teacher's features are 0.6 and 1.
    assert terms["feature_kd"].value.item() == pytest.approx(0.2, rel=1e-5)
    # The first sample alone is of an old class: max(0, 0.5 - 0.6 - 0.6) = 0.
    assert terms["margin"].value.item() == 0.0
    wide = _terms(_state(f, f_old, w), [1, 2], 2, 1, n_negatives=1, margin=1.0)
    assert wide["margin"].value.item() == 0.0  # 1 - 0.8 - 0.6
    other = _terms(_state(f, f_old, -w), [0, 2], 2, 1, n_negatives=1)
    assert other["margin"].value.item() == pytest.approx(0.5 + 0.6 + 0.6, rel=1e-5)
    weights = {name: term.weight for name, term in terms.items()}
    assert weights == {"ce": 1.0, "feature_kd": 5 * math.sqrt(2), "margin": 1.0}


def test_the_less_forget_term_ignores_lengths_and_rests_at_equality() -> None:
    f, f_old, w = tiny.normal(0, 4, 3), tiny.normal(1, 4, 3), tiny.normal(2, 4, 3)
    a = _terms(_state(f, f_old, w), [2, 3, 0, 1], 2, 2)["feature_kd"].value
    b = _terms(_state(8 * f, f_old / 4, w), [2, 3, 0, 1], 2, 2)["feature_kd"].value
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    assert a.item() > 0.1
    same = f.clone().requires_grad_()
    value = _terms(_state(same, f.clone(), w), [2, 3, 0, 1], 2, 2)["feature_kd"].value
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert torch.allclose(torch.autograd.grad(value, same)[0], torch.zeros_like(f), atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((10, 10), 5.0), ((90, 10), 15.0), ((50, 10), 11.180), ((50, 5), 15.811), ((10, 20, 30), 5.0)],
)
def test_the_weight_grows_with_the_root_of_old_over_new_classes(
    sizes: tuple[int, ...], expected: float
) -> None:
    classes = sum(sizes)
    s = _state(tiny.normal(0, 2, 3), tiny.normal(1, 2, 3), tiny.normal(2, classes, 3))
    assert _terms(s, [0, classes - 1], *sizes)["feature_kd"].weight == pytest.approx(expected, abs=1e-3)
    assert _terms(s, [0, classes - 1], *sizes, kd_schedule="const")["feature_kd"].weight == 5.0


def test_the_weight_doubles_when_old_over_new_quadruples() -> None:
    def weight(*sizes: int) -> float:
        s = _state(tiny.normal(0, 1, 3), tiny.normal(1, 1, 3), tiny.normal(2, sum(sizes), 3))
        return float(_terms(s, [0], *sizes)["feature_kd"].weight)

    assert weight(4, 1) == pytest.approx(2 * weight(1, 1))
    assert weight(8, 2) == pytest.approx(2 * weight(2, 2))


# The margin


def test_the_margin_by_hand() -> None:
    cosines = torch.tensor([[0.5, -0.5, 0.3, 0.9, 0.1], [0.9, 0.0, 0.2, 0.0, -1.0]])
    # Old are 0 and 1. First sample, label 0: 0.5 - 0.5 + (0.9, 0.3); second: 0.5 - 0.0 + (0.2, 0.0).
    value = margin_ranking(cosines, torch.tensor([0, 1]), 2, 2, 0.5)
    assert value.item() == pytest.approx((0.9 + 0.3 + 0.7 + 0.5) / 4)
    assert margin_ranking(cosines, torch.tensor([0, 1]), 2, 1, 0.5).item() == pytest.approx((0.9 + 0.7) / 2)
    # The sample of a new class is neither in the sum nor in the mean.
    assert margin_ranking(cosines, torch.tensor([0, 4]), 2, 2, 0.5).item() == pytest.approx((0.9 + 0.3) / 2)


def test_samples_of_new_classes_get_no_gradient_from_the_margin() -> None:
    cosines = tiny.normal(0, 4, 5).tanh().requires_grad_()
    value = margin_ranking(cosines, torch.tensor([0, 3, 1, 4]), 2, 2, 1.0)
    gradient = torch.autograd.grad(value, cosines)[0]
    assert not gradient[[1, 3]].any()
    assert gradient[[0, 2]].any(dim=1).all()


def test_a_margin_that_is_kept_costs_nothing() -> None:
    kept = torch.tensor([[0.75, 0.0, 0.25, 0.125]], requires_grad=True)
    value = margin_ranking(kept, torch.tensor([0]), 2, 2, 0.5)
    assert value.item() == 0
    assert not torch.autograd.grad(value, kept)[0].any()
    assert margin_ranking(kept, torch.tensor([0]), 2, 2, 0.6).item() > 0


def test_a_batch_without_old_samples_has_no_margin_and_a_finite_gradient() -> None:
    cosines = tiny.normal(0, 3, 5).tanh().requires_grad_()
    value = margin_ranking(cosines, torch.tensor([2, 3, 4]), 2, 2, 0.5)
    assert value.item() == 0
    assert not torch.autograd.grad(value, cosines)[0].any()


def test_the_margin_s_gradient_is_that_of_finite_differences() -> None:
    cosines = tiny.normal(0, 6, 7).double().tanh().requires_grad_()
    y = torch.tensor([0, 1, 5, 2, 6, 0])
    assert torch.autograd.gradcheck(lambda c: margin_ranking(c, y, 3, 2, 0.5), cosines)


@pytest.mark.parametrize("negatives", [2, 5])
def test_more_negatives_than_new_classes_are_all_of_them(negatives: int) -> None:
    cosines, y = tiny.normal(0, 4, 4).tanh(), torch.tensor([0, 1, 2, 3])
    one = margin_ranking(cosines, y, 3, 1, 0.5)
    assert torch.equal(margin_ranking(cosines, y, 3, negatives, 0.5), one)


# Rows of the head


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_old_rows_stay_bit_for_bit_and_the_rest_trains(optimizer: str) -> None:
    recipe = {"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.5}
    for t, phase, before, after in tiny.phases("lucir", recipe=recipe)[1:]:
        assert phase.head_rows == (t.old, t.seen)
        weight = before["net.head.weight"], after["net.head.weight"]
        assert torch.equal(weight[0][: t.old], weight[1][: t.old])
        assert (weight[0][t.old : t.seen] != weight[1][t.old : t.seen]).any(dim=1).all()
        assert not torch.equal(before["net.head.eta"], after["net.head.eta"])


def test_old_rows_train_where_asked_and_in_the_official_form_without_distillation() -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"train_old_head": True}, True),
        ({"distill": False}, False),
        ({"distill": False, "without": "official"}, True),
    ]
    for hp, trains in cases:
        states = tiny.run("lucir", hp).states
        for t in (1, 2):
            old = sum(tiny.SIZES[:t])
            same = torch.equal(states[t]["net.head.weight"][:old], states[t - 1]["net.head.weight"][:old])
            assert same != trains, hp


def _began(hp: dict[str, Any] | None = None) -> tuple[Training, Task, Tensor]:
    """A run whose second task has begun, and its head's rows before."""
    training = Training(tiny.configuration("lucir", hp), tiny.data())
    training.next_task()
    before = training.state.head.weight.detach().clone()
    task = training.task(1)
    training.method.begin(training.state, task, training.view, Streams(0, 1))
    return training, task, before


def test_new_rows_begin_as_the_mean_direction_of_their_class() -> None:
    training, task, before = _began()
    rows = training.state.head.weight.detach()
    assert torch.equal(rows[:3], before[:3])
    assert not rows[5:].any()
    assert training.state.teacher is not None
    teacher = training.state.teacher.net
    length = torch.linalg.vector_norm(before[:3], dim=1).mean()
    for c in range(task.old, task.seen):
        own = training.view.rows([c])
        assert len(own) == tiny.TRAIN  # all images of the class
        mean = F.normalize(features_of(teacher, training.view, own), dim=1).mean(dim=0)
        assert F.cosine_similarity(rows[c], mean, dim=0).item() == pytest.approx(1, abs=1e-5)
        assert torch.linalg.vector_norm(rows[c]).item() == pytest.approx(length.item(), rel=1e-5)


def test_without_imprinting_new_rows_are_random() -> None:
    training, task, _ = _began({"imprint": False})
    rows = training.state.head.weight.detach()[task.old : task.seen].clone()
    imprint(training.state.net, training.view, task)
    assert F.cosine_similarity(rows, training.state.head.weight.detach()[task.old : task.seen]).max() < 0.9
    assert torch.linalg.vector_norm(rows, dim=1).min() > 0


# Without distillation


def test_without_distillation_the_margin_stays_and_the_official_form_drops_it() -> None:
    f, f_old, w = tiny.normal(0, 4, 3), tiny.normal(1, 4, 3), tiny.normal(2, 4, 3)
    full = _terms(_state(f, f_old, w), [2, 3, 0, 1], 2, 2)
    assert list(full) == ["ce", "margin", "feature_kd"]
    for hp, names in (
        ({"distill": False}, ["ce", "margin"]),
        ({"distill": False, "without": "official"}, ["ce"]),
    ):
        s = _state(f, f_old, w)
        terms = _terms(s, [2, 3, 0, 1], 2, 2, **hp)
        assert list(terms) == names
        assert all(torch.equal(terms[name].value, full[name].value) for name in names)
        assert s.teacher is not None
        assert not s.teacher.net.asked


# The balanced checkpoint


def test_the_balanced_stage_trains_the_head_s_rows_alone_on_equally_many_images_a_class() -> None:
    phases = [
        p for p in tiny.phases("lucir", hp={"cbf": True, "exemplars_per_class": 4}) if p[1].name == "balanced"
    ]
    assert [task.index for task, *_ in phases] == [1, 2]
    for task, phase, before, after in phases:
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        assert changed == {"net.head.weight"}
        moved = (after["net.head.weight"] != before["net.head.weight"]).any(dim=1)
        assert moved[: task.seen].all()
        assert not moved[task.seen :].any()
        labels = tiny.run("lucir").training.view.labels(phase.rows[0].ids)
        assert labels.bincount().tolist() == [4] * task.seen
    finished = tiny.run("lucir", {"cbf": True})
    assert {p.term for p in finished.results[1].phases if p.phase == "balanced"} == {"ce", "margin"}


def test_the_balanced_stage_has_the_official_schedule_scaled() -> None:
    stage1 = tiny.task(2, 2).recipe.replace(epochs=90, batch=64, weight_decay=1e-4)
    recipe = LUCIR({"cbf": True}).balanced_recipe(stage1)  # type: ignore[attr-defined]
    assert (recipe.epochs, recipe.batch, recipe.momentum, recipe.weight_decay) == (20, 64, 0.9, 1e-4)
    rates = [recipe.learning_rate(e) for e in (0, 9, 10, 19)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert LUCIR({}).balanced_recipe(stage1.replace(epochs=1)).epochs == 1  # type: ignore[attr-defined]


def test_the_exemplars_of_the_balanced_stage_are_those_that_are_kept() -> None:
    task, phase, *_ = next(p for p in tiny.phases("lucir", hp={"cbf": True}) if p[1].name == "balanced")
    kept = [tiny.run("lucir", {"cbf": True}).states[1][f"memory.exemplars.{c}"] for c in range(task.seen)]
    assert torch.equal(phase.rows[0].ids, torch.cat(kept))


# What answers


def test_the_head_answers_and_the_nearest_mean_of_exemplars_beside_it() -> None:
    assert LUCIR({}).primary() == "head"
    assert LUCIR({"classifier": "nearest-mean"}).primary() == "nearest-mean"
    training = tiny.run("lucir").training
    means = training.state.kept["class_means"]
    assert torch.equal(means, class_means(training.state.net, training.view, training.state.memory, False))
    found = {e.classifier for e in tiny.run("lucir").results[2].evaluations}
    assert found == {"head", "nearest-mean"}


# Others' defects


def test_defect_mammoth_lucir_second_task_is_not_distilled() -> None:
    results = tiny.run("lucir").results
    weights = [{p.weight for p in r.phases if p.term == "feature_kd"} for r in results]
    # sqrt(t) with t = 0 would make the second task's zero, and every later one's is a task late.
    assert weights == [set(), {5 * math.sqrt(3 / 2)}, {5 * math.sqrt(5 / 2)}]
    assert all(p.value > 0 for r in results[1:] for p in r.phases if p.term == "feature_kd")


def test_defect_mammoth_lucir_future_classes_in_the_cross_entropy() -> None:
    f, w = tiny.normal(0, 4, 3), tiny.normal(1, 6, 3)
    s = _state(f, f.clone(), w)
    s.head.seen = 4
    labels = [0, 1, 2, 3]
    terms = _terms(s, labels, 2, 2)
    head = s.net.head.weight
    gradient = torch.autograd.grad(sum(t.value for t in terms.values()), head)[0]  # type: ignore[arg-type]
    assert not gradient[4:].any()
    assert gradient[:4].any(dim=1).all()
    cosines = F.cosine_similarity(f[:, None], w[None, :4], dim=2)
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(cosines, torch.tensor(labels)).item())


def test_defect_inclearn_ucir_margin_is_another_than_told() -> None:
    f, w = tiny.normal(0, 4, 3), tiny.normal(1, 5, 3)
    cosines = F.cosine_similarity(f[:, None], w[None], dim=2)
    y = torch.tensor([0, 1, 2, 0])
    for margin in (0.05, 0.2, 0.5, 1.0):
        own = cosines[torch.arange(4), y]
        nearest = cosines[:, 3:].sort(dim=1, descending=True).values
        expected = F.relu(margin - own[:, None] + nearest).mean()
        value = _terms(_state(f, f, w), y.tolist(), 3, 2, margin=margin)["margin"].value
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert LUCIR({}).hp.margin == 0.5


def test_defect_inclearn_ucir_weight_counts_new_classes_among_the_old() -> None:
    s = _state(tiny.normal(0, 1, 3), tiny.normal(1, 1, 3), tiny.normal(2, 5, 3))
    assert _terms(s, [0], 4, 1)["feature_kd"].weight == 10.0  # 5 sqrt(4/1), not 5 sqrt(5/1)


def test_defect_inclearn_ucir_all_new_classes_are_negatives() -> None:
    cosines = torch.tensor([[0.0, 0.9, 0.8, -0.4, -0.4, -0.4]])
    value = margin_ranking(cosines, torch.tensor([0]), 1, 2, 0.5)
    assert value.item() == pytest.approx((1.4 + 1.3) / 2)  # over all five it would be 0.6


def test_defect_facil_lucir_searched_weight_changes_nothing() -> None:
    a, b = tiny.run("lucir"), tiny.run("lucir", {"kd_weight": 30.0})
    assert a.results[0].network == b.results[0].network
    assert a.results[1].network != b.results[1].network
    weights = {p.weight for p in b.results[1].phases if p.term == "feature_kd"}
    assert weights == {30 * math.sqrt(3 / 2)}

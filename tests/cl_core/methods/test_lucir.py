"""LUCIR: cosines, terms, the loss without distillation, and defects of others."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.cosine import margin_ranking
from cl_core.blocks.exemplars import class_means, features_of
from cl_core.method import METHODS
from cl_core.nets.network import CosineHead
from cl_core.state import State
from cl_core.task import Term
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

"""IL2A's means, covariances and semantic term."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.exemplars import features_of
from cl_core.blocks.isda import covariance, semantic_logits
from cl_core.images.data_spec import DataSpec
from cl_core.training.trainer import Training
from tests import tiny
from tests.cl_core.methods.il2a_inputs import STREAMS, TRUE_FEATURES, given_state, given_terms

# Means and covariances


def test_the_covariance_is_numpy_s_and_zero_for_one_sample() -> None:
    f = tiny.normal(0, 9, 4)
    assert np.allclose(covariance(f).numpy(), np.cov(f.double().numpy().T), atol=1e-6)
    assert covariance(f).dtype == torch.float32
    one = covariance(f[:1])
    assert torch.equal(one, torch.zeros(4, 4))


def test_means_and_covariances_are_of_the_finished_network() -> None:
    finished = tiny.run("il2a", TRUE_FEATURES)
    training, state = finished.training, finished.states[-1]
    for c in (5, 6):
        f = features_of(training.state.net, training.view, training.view.rows([c])).double()
        assert torch.allclose(state["kept.prototypes"][c].double(), f.mean(dim=0), atol=1e-6)
        expected = torch.from_numpy(np.cov(f.numpy().T))
        assert torch.allclose(state["kept.covariances"][c].double(), expected, atol=1e-6)


def test_defect_official_il2a_covariance_stack_order() -> None:
    # From the third task on the official stack gives class 0 the covariance of another class.
    states = tiny.run("il2a").states
    for t, state in enumerate(states):
        seen = sum(tiny.SIZES[: t + 1])
        dim = state["net.head.weight"].shape[1]
        assert state["kept.prototypes"].shape == (seen, dim)
        assert state["kept.covariances"].shape == (seen, dim, dim)
        if t:
            old = seen - tiny.SIZES[t]
            for name in ("kept.prototypes", "kept.covariances"):
                assert torch.equal(state[name][:old], states[t - 1][name])
    # And the loss reads the row of the class it drew.
    s, labels, sizes = given_state(tiny.normal(0, 2, 2), tiny.normal(1, 2, 2), 5, 2), [5, 6], (3, 2, 2)
    before = given_terms(s, labels, [0, 0], *sizes)["semantic"].value
    for c in range(5):
        kept = {name: t.clone() for name, t in s.kept.items()}
        s.kept["covariances"][c] *= 3
        after = given_terms(s, labels, [0, 0], *sizes)["semantic"].value
        assert torch.equal(before, after) == (c != 0)
        s.kept = kept


def test_one_image_a_class_gives_finite_numbers() -> None:
    spec = DataSpec("synthetic", classes=7, per_class=3)
    settings = tiny.configuration("il2a", spec=spec, recipe={"epochs": 1, "batch": 4}, validation=0.5)
    finished = tiny.train(settings, tiny.data(7, 3))
    assert len(finished.training.view.rows([0])) == 1
    assert not finished.states[-1]["kept.covariances"].any()
    assert finished.states[-1]["kept.prototypes"].isfinite().all()
    assert all(math.isfinite(p.value) for r in finished.results for p in r.phases)


# The semantic term


def test_the_semantic_logits_by_hand() -> None:
    w, bias = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]), torch.tensor([0.5, 0.0, -1.0])
    mu, sigma = torch.tensor([[2.0, 1.0]]), torch.tensor([[[2.0, 0.5], [0.5, 1.0]]])
    # z = (2.5, 2, 6); differences to class 0: (-1, 2) gives 2 - 2 + 4 = 4, (2, 1) gives 8 + 2 + 1 = 11.
    v = semantic_logits(mu, sigma, torch.tensor([0]), w, bias, 3.0)
    assert v.tolist() == [[2.5, 2.0 + 1.5 * 4, 6.0 + 1.5 * 11]]


def test_the_variance_of_the_true_class_is_zero_and_none_is_negative() -> None:
    f = tiny.normal(0, 6, 12, 5)
    sigma, y = torch.stack([covariance(each) for each in f]), torch.tensor([0, 1, 2, 3, 4, 0])
    mu, w, bias = tiny.normal(1, 6, 5), tiny.normal(2, 7, 5), tiny.normal(3, 7)
    spread = 2 * (semantic_logits(mu, sigma, y, w, bias, 1.0) - F.linear(mu, w, bias))
    assert not spread[torch.arange(6), y].any()
    assert spread.min() >= 0
    assert (spread > 0.01).sum() == 6 * 6


def test_without_variance_the_semantic_term_is_cross_entropy_on_the_prototypes() -> None:
    s, classes = given_state(tiny.normal(0, 2, 2), tiny.normal(1, 2, 2), 3, 2), [0, 2, 1, 1]
    mu, c = s.kept["prototypes"][classes], torch.tensor(classes)
    z = F.linear(mu, s.head.weight, s.head.bias)
    plain = F.cross_entropy(z / 0.1, c)
    flat = semantic_logits(mu, s.kept["covariances"][classes], c, s.head.weight, s.head.bias, 0.0)
    assert torch.allclose(flat, z)
    s.kept["covariances"] = torch.zeros(3, 2, 2)
    assert given_terms(s, [3, 4], classes, 3, 2)["semantic"].value.item() == pytest.approx(
        plain.item(), rel=1e-5
    )


def test_the_semantic_term_divides_by_tau_after_adding_the_variance() -> None:
    s, classes = given_state(tiny.normal(0, 2, 2), tiny.normal(1, 2, 2), 3, 2), [0, 2, 1, 1]
    c = torch.tensor(classes)
    mu, sigma = s.kept["prototypes"][classes], s.kept["covariances"][classes]
    w, bias = s.head.weight, s.head.bias
    for tau, ratio in ((0.1, 2.5), (0.5, 1.0)):
        spread = torch.stack(
            [
                torch.stack([(w[j] - w[y]) @ sigma[i] @ (w[j] - w[y]) for j in range(5)])
                for i, y in enumerate(classes)
            ]
        )
        expected = F.cross_entropy((mu @ w.T + bias + ratio / 2 * spread) / tau, c)
        terms = given_terms(s, [3, 4], classes, 3, 2, logit_temperature=tau, isda_ratio=ratio)
        assert terms["semantic"].value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_semantic_gradient_is_that_of_finite_differences() -> None:
    f = tiny.normal(0, 3, 6, 4).double()
    sigma = torch.stack([covariance(each) for each in f]).double()
    mu, y = tiny.normal(1, 3, 4).double(), torch.tensor([0, 2, 1])
    w, bias = tiny.normal(2, 5, 4).double().requires_grad_(), tiny.normal(3, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w, bias: F.cross_entropy(semantic_logits(mu, sigma, y, w, bias, 2.5) / 0.5, y), (w, bias)
    )


def test_the_semantic_term_reaches_the_head_and_neither_backbone_nor_pairs() -> None:
    training = Training(tiny.configuration("il2a"), tiny.data())
    training.next_task()
    task, s = training.task(1), training.state
    training.method.begin(s, task, training.view, STREAMS)
    b = next(training.view.batches(task.rows))
    b = training.method.augment(s, b, task, STREAMS)
    params = {**dict(s.net.named_parameters()), **s.local}
    value = training.method.loss(s, b, task)["semantic"].value
    found = dict(zip(params, torch.autograd.grad(value, [*params.values()], allow_unused=True), strict=True))
    reached = {name for name, gradient in found.items() if gradient is not None and gradient.any()}
    assert reached == {"head.weight", "head.bias"}
    weight = found["head.weight"]
    assert weight is not None
    assert weight[: task.seen].any(dim=1).all()
    assert not weight[task.seen :].any()
    assert not s.kept["prototypes"].requires_grad

"""Prototypes: features of a class, their mean, their spread, and how many a step draws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

import cl_core.blocks.prototypes
from cl_core.blocks.exemplars import features_of
from cl_core.blocks.prototypes import (
    class_features,
    draw_old_classes,
    keep_prototypes,
    keep_radius,
    prototypes_a_step,
    variance,
)
from cl_core.images.dataset import Augment
from cl_core.rng import Streams
from cl_core.training.checkpoints import network_digest
from cl_core.training.trainer import Training
from tests import tiny

G = Streams(0, 0)


def _trained(source: object = None) -> Training:
    training = Training(tiny.configuration("finetune"), source or tiny.data())  # type: ignore[arg-type]
    training.next_task()
    return training


def _features(seed: int, n: int, dim: int = 5) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def _radius_state() -> object:
    return tiny.fixed_state(torch.zeros(1, 2))


# Features


def test_the_evaluation_transform_reads_images_as_they_are_and_training_augments_them() -> None:
    training = _trained()
    net, view = training.state.net, training.view
    rows = view.rows([1])
    plain = class_features(net, view, rows, "evaluation", G)
    assert torch.equal(plain, features_of(net, view, rows))
    augmented = class_features(net, view, rows, "training", G)
    assert augmented.shape == plain.shape == (tiny.TRAIN, plain.shape[1])
    assert not torch.allclose(augmented, plain)
    assert torch.equal(augmented, class_features(net, view, rows, "training", G))
    other = class_features(net, view, rows, "training", G.at("other"))
    assert not torch.allclose(augmented, other)


def test_without_augmentation_the_two_transforms_are_one() -> None:
    training = _trained(dataclasses.replace(tiny.data(), augment=Augment()))
    net, view, rows = training.state.net, training.view, training.view.rows([0])
    both = [class_features(net, view, rows, t, G) for t in ("training", "evaluation")]
    assert torch.equal(*both)


def test_defect_official_codes_drop_the_last_incomplete_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _trained()
    net, view, rows = training.state.net, training.view, training.view.rows([2])
    whole = class_features(net, view, rows, "training", G)
    monkeypatch.setattr(cl_core.blocks.prototypes, "EVALUATION_BATCH", 4)  # 14 rows: 4, 4, 4 and 2
    cut = class_features(net, view, rows, "training", G)
    # The same draws for the same rows, in the same order, and none is missing.
    assert cut.shape == whole.shape == (14, whole.shape[1])
    assert torch.allclose(cut, whole, atol=1e-5)


@pytest.mark.parametrize("transform", ["training", "evaluation"])
def test_features_leave_the_network_and_its_mode_as_they_were(transform: str) -> None:
    training = _trained()
    net, view = training.state.net, training.view
    before = network_digest(net.state_dict())
    for mode in (True, False):
        net.train(mode)
        features = class_features(net, view, view.rows([0]), transform, G)
        assert net.training == mode
        assert not features.requires_grad
    assert network_digest(net.state_dict()) == before


# Means


def test_a_prototype_is_the_mean_feature_of_its_class_under_the_network_of_its_task() -> None:
    training = _trained()
    s, view, task = training.state, training.view, training.task(0)
    features = keep_prototypes(s, view, task, "evaluation", G)
    assert [len(f) for f in features] == [tiny.TRAIN] * 3
    kept = s.kept["prototypes"].clone()
    for c in range(3):
        assert torch.allclose(kept[c], features_of(s.net, view, view.rows([c])).mean(dim=0), atol=1e-6)
    training.next_task()
    later = keep_prototypes(s, view, training.task(1), "evaluation", G)
    assert len(later) == 2
    assert s.kept["prototypes"].shape == (5, kept.shape[1])
    assert torch.equal(s.kept["prototypes"][:3], kept)
    assert not torch.allclose(features_of(s.net, view, view.rows([0])).mean(dim=0), kept[0])


# Spread


def test_the_variance_is_the_trace_of_the_sample_covariance_over_the_dimension() -> None:
    features = 3 * _features(0, 20)
    expected = np.trace(np.cov(features.double().numpy().T)) / 5
    assert variance(features).item() == pytest.approx(expected, rel=1e-12)
    assert variance(torch.tensor([[0.0, 0.0], [2.0, 4.0]])).item() == (2 + 8) / 2


def test_one_sample_has_no_spread_and_no_nan() -> None:
    assert variance(_features(0, 1)).item() == 0.0


def test_the_radius_is_the_root_of_the_mean_variance_of_the_first_task_s_classes() -> None:
    s = _radius_state()
    a, b = torch.tensor([[0.0, 0.0], [2.0, 4.0]]), torch.tensor([[1.0, 1.0], [1.0, 7.0]])  # 5 and 9
    keep_radius(s, [a, b], tiny.task(2), "first_task")  # type: ignore[arg-type]
    radius = s.kept["radius"]  # type: ignore[attr-defined]
    assert radius.shape == ()
    assert radius.item() == pytest.approx(7**0.5)
    keep_radius(s, [10 * a], tiny.task(2, 1), "first_task")  # type: ignore[arg-type]
    assert s.kept["radius"] is radius  # type: ignore[attr-defined]


def test_the_running_radius_is_that_of_all_classes_so_far() -> None:
    s = _radius_state()
    tasks = [
        [_features(0, 9), 2 * _features(1, 4)],
        [3 * _features(2, 6)],
        [_features(3, 1), _features(4, 8)],
    ]
    sizes: list[int] = []
    variances: list[float] = []
    for features in tasks:
        sizes.append(len(features))
        keep_radius(s, features, tiny.task(*sizes), "running_mean_all")  # type: ignore[arg-type]
        variances += [variance(f).item() for f in features]
        assert s.kept["radius"].item() == pytest.approx(np.mean(variances) ** 0.5, rel=1e-5)  # type: ignore[attr-defined]


# Draws


def test_old_classes_are_drawn_uniformly_and_with_replacement() -> None:
    counts = draw_old_classes(tiny.task(3, 2), 3000, G).bincount()
    assert len(counts) == 3
    assert all(abs(n - 1000) < 100 for n in counts.tolist())
    assert draw_old_classes(tiny.task(1, 4), 5, G).tolist() == [0] * 5


def test_the_draws_are_those_of_the_stream() -> None:
    task = tiny.task(3, 2)
    a, b, c = (draw_old_classes(task, 50, G.at("train", 0, step)) for step in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_step_draws_a_share_of_the_recipe_s_batch_and_at_least_one_prototype() -> None:
    task = tiny.task(3, 2)
    task = dataclasses.replace(task, recipe=task.recipe.replace(batch=64))
    assert [prototypes_a_step(task, ratio) for ratio in (1.0, 0.1, 2.5)] == [64, 6, 160]
    assert prototypes_a_step(dataclasses.replace(task, recipe=task.recipe.replace(batch=1)), 0.1) == 1


@pytest.mark.parametrize("method", ["pass", "praka", "il2a"])
def test_there_is_one_prototype_a_seen_class_and_no_later_task_moves_it(method: str) -> None:
    states = tiny.run(method).states
    for t, seen in enumerate((3, 5, 7)):
        assert len(states[t]["kept.prototypes"]) == seen
        for later in states[t:]:
            assert torch.equal(later["kept.prototypes"][:seen], states[t]["kept.prototypes"])
    assert not any(name.startswith("memory.") for name in states[-1])

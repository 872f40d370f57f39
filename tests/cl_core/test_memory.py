"""Herding, budgets and the memory of exemplars."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cl_core.blocks.exemplars import features_of, rank, update_exemplars
from cl_core.errors import BadRequest
from cl_core.images.dataset import Augment
from cl_core.images.view import View
from cl_core.memory import Budget, Memory, herding
from cl_core.nets.network import build_network
from cl_core.rng import Streams, stream
from tests import tiny


def _features(seed: int, n: int, d: int = 5) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def _slow_herding(features: Tensor, k: int) -> list[int]:
    """iCaRL's Alg. 4, word for word, without picking anything twice."""
    x = features.double().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    mean, picked = x.mean(axis=0), []
    for n in range(1, min(k, len(x)) + 1):
        total = x[picked].sum(axis=0)
        distances = {i: np.linalg.norm(mean - (total + x[i]) / n) for i in range(len(x)) if i not in picked}
        picked.append(min(distances, key=lambda i: (distances[i], i)))
    return picked


# Herding


def test_herding_of_a_hand_made_class() -> None:
    # The mean of three unit vectors lies on the diagonal: first the diagonal one, then the tie to the lower.
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])
    assert herding(features, 3).tolist() == [2, 0, 1]


def test_herding_normalises_features() -> None:
    features = torch.tensor([[100.0, 0.0], [0.0, 0.01], [3.0, 3.0]])
    assert herding(features, 3).tolist() == [2, 0, 1]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), k=st.integers(1, 40))
@settings(max_examples=40)
def test_herding_is_the_greedy_form_without_repetition(seed: int, n: int, k: int) -> None:
    features = _features(seed, n)
    picked = herding(features, k).tolist()
    assert picked == _slow_herding(features, k)
    assert len(picked) == len(set(picked)) == min(n, k)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), data=st.data())
@settings(max_examples=30)
def test_a_shorter_ranking_is_a_prefix(seed: int, n: int, data: Any) -> None:
    k = data.draw(st.integers(1, n))
    assert herding(_features(seed, n), n)[:k].tolist() == herding(_features(seed, n), k).tolist()


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30))
@settings(max_examples=30)
def test_the_first_pick_is_nearest_to_the_mean(seed: int, n: int) -> None:
    x = torch.nn.functional.normalize(_features(seed, n).double(), dim=1)
    distance = (x - x.mean(dim=0)).norm(dim=1)
    assert herding(_features(seed, n), 1).item() == distance.argmin().item()


@pytest.mark.parametrize("copies", [2, 7, 16, 33])
def test_ties_go_to_the_lower_index(copies: int) -> None:
    features = _features(3, 1).repeat(copies, 1)
    assert herding(features, copies).tolist() == list(range(copies))


def test_a_dead_network_does_not_stop_herding() -> None:
    assert herding(torch.zeros(4, 3), 2).tolist() == [0, 1]


def test_defect_official_icarl_herding_revisits_images() -> None:
    x = torch.nn.functional.normalize(_features(0, 40, 3).double(), dim=1)
    mean = x.mean(dim=0)
    w, official = mean.clone(), []
    for _ in range(20):
        official.append(int((x @ w).argmax()))
        w = w + mean - x[official[-1]]
    assert len(set(official)) < 20
    assert len(set(herding(x, 20).tolist())) == 20


# Ranking a class


def test_the_ranking_does_not_depend_on_augmentation_or_on_the_mode_of_the_network() -> None:
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 0)
    plain = dataclasses.replace(tiny.data(), augment=Augment())
    order = tuple(range(tiny.CLASSES))
    budget, ranked = Budget(), []
    for source in (tiny.data(), plain):
        view = View(source, order, 0.1, torch.device("cpu"))
        net.train()
        ranked.append(rank(budget, net, view, view.rows([2]), 6, stream(0, "a")).tolist())
        assert net.training
        net.eval()
        ranked.append(rank(budget, net, view, view.rows([2]), 6, stream(0, "b")).tolist())
    assert all(r == ranked[0] for r in ranked)
    assert set(ranked[0]) <= set(view.rows([2]).tolist())


def test_features_of_leaves_the_network_as_it_was() -> None:
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 0).train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    view = View(tiny.data(), tuple(range(tiny.CLASSES)), 0.1, torch.device("cpu"))
    features = features_of(net, view, view.rows([0, 1]))
    assert features.shape == (2 * tiny.TRAIN, 32)
    assert not features.requires_grad
    assert net.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_a_random_ranking_is_a_prefix_of_a_longer_one_and_has_its_own_stream() -> None:
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 0)
    view = View(tiny.data(), tuple(range(tiny.CLASSES)), 0.1, torch.device("cpu"))
    budget, rows = Budget(selection="random"), view.rows([1])
    long, short = (rank(budget, net, view, rows, k, stream(0, "a")).tolist() for k in (10, 4))
    assert long[:4] == short
    assert len(set(long)) == 10
    assert rank(budget, net, view, rows, 10, stream(1, "a")).tolist() != long


def test_defect_libcontinual_herding_overwrites_the_data_set_s_transform() -> None:
    settings = tiny.configuration("replay")
    finished = tiny.train(settings, source := tiny.copied(tiny.data()))
    assert source.augment == tiny.data().augment == Augment(crop=1, flip=True)
    assert (source.train.x == tiny.data().train.x).all()
    assert finished.traces == tiny.run("replay").traces


# Budgets


@given(total=st.integers(1, 5000), seen=st.integers(1, 200))
def test_a_total_is_never_exceeded_and_shares_differ_by_one_at_most(total: int, seen: int) -> None:
    counts = Budget(budget="total", exemplars_total=total).counts(seen, 192)
    assert list(counts) == list(range(seen))
    assert sum(counts.values()) == total
    assert max(counts.values()) - min(counts.values()) <= 1


@given(total=st.integers(1, 500), seen=st.integers(1, 60))
def test_a_class_s_share_never_grows_again(total: int, seen: int) -> None:
    budget = Budget(budget="total", exemplars_total=total)
    before, after = budget.counts(seen, 192), budget.counts(seen + 1, 192)
    assert all(after[c] <= before[c] for c in before)


@given(size=st.integers(1, 10**6), seen=st.integers(1, 100), image=st.integers(1, 3 * 64 * 64))
def test_bytes_are_never_exceeded(size: int, seen: int, image: int) -> None:
    counts = Budget(budget="bytes", exemplars_bytes=size).counts(seen, image)
    assert sum(counts.values()) * image <= size < (sum(counts.values()) + 1) * image


def test_defect_icarl_and_lucir_round_the_shares_up() -> None:
    counts = Budget(budget="total", exemplars_total=2000).counts(60, 3072)
    assert sum(counts.values()) == 2000  # ceil(2000 / 60) = 34 would keep 2040
    assert [counts[0], counts[19], counts[20], counts[59]] == [34, 34, 33, 33]


def test_per_class_is_the_same_at_every_task() -> None:
    assert Budget(exemplars_per_class=7).counts(3, 192) == {0: 7, 1: 7, 2: 7}


@pytest.mark.parametrize("at_least", [1, 2])
def test_the_remedy_of_too_small_a_memory_is_the_smallest_that_works(at_least: int) -> None:
    for values in ({"budget": "total"}, {"budget": "bytes"}, {"budget": "per_class"}):
        name = {"total": "exemplars_total", "bytes": "exemplars_bytes"}.get(
            values["budget"], "exemplars_per_class"
        )
        needed = at_least * {"total": 10, "bytes": 1920, "per_class": 1}[values["budget"]]
        Budget(**values, **{name: needed}).check_budget(10, 192, at_least)  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match=f"{name} .*set it to {needed} or more"):
            Budget(**values, **{name: needed - 1}).check_budget(10, 192, at_least)  # type: ignore[arg-type]


# The memory


def test_ids_come_class_by_class_and_keep_cuts_to_a_prefix() -> None:
    memory = Memory({0: torch.tensor([5, 3, 4]), 1: torch.tensor([9, 7])})
    assert len(memory) == 5
    assert memory.ids().tolist() == [5, 3, 4, 9, 7]
    assert memory.ids([1]).tolist() == [9, 7]
    assert memory.ids([2]).tolist() == []
    memory.keep({0: 1, 1: 5})
    assert memory.ids().tolist() == [5, 9, 7]
    assert Memory().ids().dtype == torch.int64


def test_a_later_task_keeps_a_prefix_of_what_an_earlier_one_ranked() -> None:
    finished = tiny.run("replay", {"budget": "total"})
    for before, after in zip(finished.states, finished.states[1:], strict=False):
        for name in (n for n in before if n.startswith("memory.")):
            assert len(after[name]) < len(before[name])
            assert torch.equal(after[name], before[name][: len(after[name])])


def test_a_smaller_memory_is_a_prefix_of_a_larger_one_after_the_first_task() -> None:
    large = tiny.run("replay").states[0]
    small = tiny.run("replay", {"exemplars_per_class": 4}).states[0]
    for c in range(tiny.SIZES[0]):
        name = f"memory.exemplars.{c}"
        assert torch.equal(small[name], large[name][:4])


def test_exemplars_belong_to_their_class() -> None:
    finished = tiny.run("replay")
    view = finished.training.view
    for name, rows in finished.states[-1].items():
        if name.startswith("memory."):
            assert set(view.labels(rows).tolist()) == {int(name.rsplit(".", 1)[1])}


def test_updating_ranks_the_new_classes_alone() -> None:
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 0)
    view = View(tiny.data(), tuple(range(tiny.CLASSES)), 0.1, torch.device("cpu"))
    kept = torch.tensor([13, 2, 7, 1])
    memory = Memory({0: kept})
    budget = Budget(budget="total", exemplars_total=7)
    update_exemplars(budget, memory, net, view, tiny.task(1, 2), Streams(0, 1))
    assert list(memory.rows) == [0, 1, 2]
    assert torch.equal(memory.rows[0], kept[:3])
    assert [len(r) for r in memory.rows.values()] == [3, 2, 2]


def test_a_budget_larger_than_the_classes_keeps_all_images() -> None:
    finished = tiny.run("replay", {"budget": "total", "exemplars_total": 5000})
    assert [r.exemplars for r in finished.results] == [3 * 14, 5 * 14, 7 * 14]

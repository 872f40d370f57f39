"""IL2A: pairs of classes, a step's draws, and the other terms."""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.classmix import ONE_CLASS, Mix, class_mix, draw_mix, mixtures, pair_index, pairs
from cl_core.method import Phase
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.trainer import Training
from tests import tiny
from tests.cl_core.methods.il2a_inputs import (
    IL2A,
    STREAMS,
    given_images,
    given_state,
    given_terms,
    trained_phases,
)

# Pairs of classes


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 50])
def test_pairs_are_numbered_by_a_symmetric_bijection(k: int) -> None:
    both = list(combinations(range(k), 2))
    assert len(both) == pairs(k) == {1: 0, 2: 1, 3: 3, 5: 10, 10: 45, 50: 1225}[k]
    if both:
        a, b = torch.tensor(both).T
        assert sorted(pair_index(a, b, k).tolist()) == list(range(pairs(k)))
        assert torch.equal(pair_index(a, b, k), pair_index(b, a, k))


def test_mixtures_of_two_classes_come_first_in_a_batch_of_fixed_size() -> None:
    b = given_images([3, 4, 3, 5, 3, 4, 3, 3])
    mix = draw_mix(8, 4, 20.0, 0.1, STREAMS)
    different = b.y[mix.first] != b.y[mix.second]
    x, labels = class_mix(b.x, b.y, mix, 3, 3)
    assert 0 < int(different.sum()) < len(x) == len(labels) == 21  # 32 x 2/3
    count = int(different.sum())
    wanted = pair_index(b.y[mix.first[different]] - 3, b.y[mix.second[different]] - 3, 3)
    assert torch.equal(labels[:count], 6 + wanted)
    assert (labels[count:] == ONE_CLASS).all()


def test_pairs_of_two_classes_beyond_the_size_are_left_out() -> None:
    b = given_images([0, 1])
    mix = Mix(torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0, 1, 0]), torch.full((4,), 0.5))
    x, labels = class_mix(b.x, b.y, mix, 0, 2)
    assert labels.tolist() == [2, 2]
    assert len(x) == mixtures(4, 2) == 2


def test_a_mixture_is_its_share_of_both_images() -> None:
    b = given_images([0, 2, 1])
    mix = Mix(torch.tensor([2, 0, 1]), torch.tensor([2, 1, 2]), torch.tensor([0.5, 0.25, 0.5]))
    x, labels = class_mix(b.x, b.y, mix, 0, 3)
    assert x[:, 0, 0, 0].tolist() == [0.75, 1.5]  # of the constants 0, 1 and 1, 2
    assert x.shape == (2, 3, 8, 8)
    assert labels.tolist() == [4, 5]  # {0, 2} and {1, 2} of (01, 02, 12)


def test_shares_are_clipped_beta_draws_one_for_each_mixture() -> None:
    share = draw_mix(2000, 4, 20.0, 0.1, STREAMS).share
    assert len(share) == 8000
    assert ((share >= 0.4) & (share <= 0.6)).all()
    # About four draws of five lie inside by themselves.
    assert (share == 0.5).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert len(share.unique()) > 5000
    free = draw_mix(2000, 4, 20.0, 0.5, STREAMS).share
    assert free.mean().item() == pytest.approx(0.5, abs=0.005)
    assert free.var().item() == pytest.approx(1 / (4 * 41), rel=0.1)  # of Beta(20, 20)
    assert (draw_mix(20, 4, 20.0, 0.0, STREAMS).share == 0.5).all()


def test_partners_are_permutations_of_the_batch() -> None:
    mix = draw_mix(9, 3, 20.0, 0.1, STREAMS)
    assert mix.first.view(3, 9).tolist() == [list(range(9))] * 3
    partners = mix.second.view(3, 9)
    assert all(sorted(row) == list(range(9)) for row in partners.tolist())
    assert len({tuple(row) for row in partners.tolist()}) == 3


# A step's draws


def _augmented(labels: list[int], *sizes: int, local: bool = True, **hp: Any) -> Batch:
    s = given_state(tiny.normal(0, 1, 2), None, sum(sizes[:-1]), sizes[-1], pair_rows=local)
    return IL2A(hp).augment(s, given_images(labels), tiny.task(*sizes), STREAMS)


def test_outputs_are_ordered_old_then_new_then_pairs() -> None:
    b = _augmented([3, 4, 5, 3], 3, 3)
    assert b.y[:4].tolist() == [3, 4, 5, 3]
    assert len(b.y) == len(b.x) == 4 + mixtures(16, 3)
    pair = b.y[4:][b.y[4:] != ONE_CLASS]
    assert 6 <= pair.min() <= pair.max() < 6 + 3
    assert torch.equal(b.x[:4], given_images([0] * 4).x)
    f = tiny.normal(0, len(b.y), 2)
    s = given_state(f, None, 3, 3)
    ce = IL2A({}).loss(s, b, tiny.task(3, 3))["ce"].value
    w = torch.cat([s.head.weight, s.local["pair_weight"]])
    bias = torch.cat([s.head.bias, s.local["pair_bias"]])
    expected = F.cross_entropy(F.linear(f, w, bias) / 0.1, b.y)  # the mean over real and mixed ones
    assert ce.item() == pytest.approx(expected.item(), rel=1e-5)


def test_mixtures_of_one_class_count_in_no_term() -> None:
    b = _augmented([1, 1, 1], 3)
    assert b.y.tolist() == [1, 1, 1, *[ONE_CLASS] * 8]
    f = tiny.normal(0, 11, 2)
    ce = IL2A({}).loss(given_state(f, None, 0, 3), b, tiny.task(3))["ce"].value
    alone = given_state(f[:3], None, 0, 3)
    assert torch.equal(ce, given_terms(alone, [1, 1, 1], [], 3)["ce"].value)
    f_old = tiny.normal(1, 11, 2)
    terms = given_terms(given_state(f, f_old, 3, 3), [4, 4, 4, *[ONE_CLASS] * 8], [0], 3, 3)
    distance = (f - f_old)[:3].square().sum().sqrt()
    assert terms["feature_kd"].value.item() == pytest.approx(distance.item(), rel=1e-6)


def test_batches_with_equally_many_images_have_one_shape() -> None:
    training = Training(tiny.configuration("il2a", recipe={"epochs": 6}), tiny.data())
    shapes: dict[tuple[int, int], set[int]] = {}  # of a task and its real images

    def noting(phase: Phase) -> Phase:
        def loss(s: State, b: Batch, task: Task) -> dict[str, Term]:
            shapes.setdefault((task.index, int((b.rows >= 0).sum())), set()).add(len(b.x))
            return phase.loss(s, b, task)

        return dataclasses.replace(phase, loss=loss)

    training.learner = dataclasses.replace(training.learner, adapt=noting)
    while not training.finished:
        training.next_task()
    assert len(shapes) == 6  # a full batch and the last one, in three tasks
    assert all(len(found) == 1 for found in shapes.values())


def test_old_classes_are_drawn_for_a_whole_batch_also_on_a_short_one() -> None:
    drawn = _augmented([3, 4], 3, 2).drawn["class"]
    assert len(drawn) == tiny.task(3, 2).recipe.batch == 128
    assert sorted(drawn.unique().tolist()) == [0, 1, 2]
    assert len(_augmented([3, 4], 3, 2, proto_ratio=0.5).drawn["class"]) == 64
    assert not _augmented([0, 1], 2).drawn


def test_without_class_augmentation_there_are_images_and_classes_alone() -> None:
    b = _augmented([3, 4, 3, 4], 3, 2, local=False, classaug_times=0)
    assert b.y.tolist() == [3, 4, 3, 4]
    assert all(not local for _, _, local in trained_phases({"classaug_times": 0}))


# The rows of the pairs


def test_pair_rows_live_for_one_task_begin_anew_and_train() -> None:
    found = trained_phases()
    shapes = [tuple(local["pair_weight"].shape) for _, _, local in found]
    dim = found[0][0].head.weight.shape[1]
    assert shapes == [(3, dim), (1, dim), (1, dim)]
    training = Training(tiny.configuration("il2a"), tiny.data())
    for t, (_, task, local) in enumerate(found):
        training.method.begin(training.state, task, training.view, Streams(0, t))
        begun = training.state.local["pair_weight"].detach()
        bound = 1 / math.sqrt(dim)
        assert begun.abs().max() <= bound
        assert begun.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.3)
        assert not torch.equal(begun, local["pair_weight"])
        if t == 2:
            assert not torch.equal(begun, found[1][2]["pair_weight"])
    assert not found[0][0].local


def test_the_head_has_a_row_a_class_and_no_answer_is_a_pair() -> None:
    finished = tiny.run("il2a")
    for t, state in enumerate(finished.states):
        seen = sum(tiny.SIZES[: t + 1])
        assert state["net.head.weight"].shape[0] == tiny.CLASSES
        assert state["net.head.weight"][:seen].any(dim=1).all()
        assert not state["net.head.weight"][seen:].any()
        assert not [name for name in state if "pair" in name]
        assert all(e.confusion.shape == (seen, seen) for e in finished.results[t].evaluations)
    training = finished.training
    x = training.view.images(training.view.rows([0])[:4])
    with torch.no_grad():
        assert training.method.scores(training.state, x, training.task(2))["head"].shape == (4, 7)


def test_one_new_class_has_no_pairs_and_says_so() -> None:
    scenario = {"base": 5, "increments": [1, 1]}
    found = trained_phases(scenario=scenario)
    assert [bool(local) for _, _, local in found] == [True, False, False]
    finished = tiny.train(tiny.configuration("il2a", scenario=scenario))
    assert [r.note for r in finished.results] == [None, *["one new class: no mixed images"] * 2]
    assert IL2A({"classaug_times": 0}).note(tiny.task(3, 1)) is None
    assert all(math.isfinite(p.value) for r in finished.results for p in r.phases)


# The other terms


def test_the_first_task_is_cross_entropy_alone_whatever_acts_later() -> None:
    s = given_state(tiny.normal(0, 3, 2), None, 0, 3)
    expected = F.cross_entropy(
        torch.cat([s.net.logits, F.linear(s.net.features, *s.local.values())], dim=1) / 0.1,  # type: ignore[arg-type, list-item]
        torch.tensor([0, 2, 4]),
    )
    for hp in ({}, {"kd_weight": 50.0, "semantic_weight": 1.0, "isda_ratio": 0.3, "distill": False}):
        terms = given_terms(s, [0, 2, 4], [], 3, **hp)
        assert list(terms) == ["ce"]
        assert terms["ce"].value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_feature_distance_covers_mixed_images_and_is_no_mean() -> None:
    f, f_old = tiny.normal(0, 7, 2), tiny.normal(1, 7, 2)
    s = given_state(f, f_old, 3, 3)
    terms = given_terms(s, [3, 4, 5, 6, 7, 8, 6], [0], 3, 3)  # four of the seven are mixtures
    assert terms["feature_kd"].value.item() == pytest.approx((f - f_old).square().sum().sqrt().item())
    assert {name: term.weight for name, term in terms.items()} == {
        "ce": 1.0,
        "feature_kd": 10.0,
        "semantic": 10.0,
    }


def test_without_distillation_mixtures_and_semantic_term_stay_and_no_teacher_is_asked() -> None:
    args = ([3, 4, 5, 6, 7, 8, 6], [0, 1], 3, 3)
    full = given_terms(given_state(tiny.normal(0, 7, 2), tiny.normal(1, 7, 2), 3, 3), *args)
    s = given_state(tiny.normal(0, 7, 2), tiny.normal(1, 7, 2), 3, 3)
    terms = given_terms(s, *args, distill=False)
    assert list(terms) == ["ce", "semantic"]
    assert all(torch.equal(terms[name].value, full[name].value) for name in terms)
    assert s.teacher is not None
    assert not s.teacher.net.asked


def test_the_recipe_is_the_papers_in_the_base_family_and_in_increments() -> None:
    wanted = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 2e-4, "batch": 64, "milestones": "0.45,0.9"}
    for recipe in (IL2A({}).base().recipe, IL2A({}).recipe()):
        assert {name: recipe[name] for name in wanted} == wanted
    family = IL2A({}).base()
    assert family.family == "class-mix"
    assert family.parameters == {
        "logit_temperature": 0.1,
        "classaug_times": 4,
        "classaug_beta": 20.0,
        "classaug_clip": 0.1,
    }

"""iCaRL: its sigmoid loss on given logits, its class means and the rule that answers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.classifiers import nearest_mean
from cl_core.blocks.exemplars import class_means, features_of
from cl_core.blocks.losses import kd
from cl_core.memory import Memory
from cl_core.method import METHODS
from tests import tiny

ICaRL = METHODS["icarl"]
LN2 = math.log(2)


def _terms(z: Tensor, z_old: Tensor | None, labels: list[int], *sizes: int, **hp: Any) -> dict[str, Any]:
    return ICaRL(hp).loss(tiny.fixed_state(z, z_old), tiny.batch(labels), tiny.task(*sizes))


# The loss


def test_the_first_task_s_loss_by_hand() -> None:
    z = torch.zeros(2, 3)  # every sigmoid is one half: ln 2 an output
    assert _terms(z, None, [0, 2], 3)["bce"].value.item() == pytest.approx(3 * LN2)
    assert _terms(z, None, [0, 2], 3, reduction="mean")["bce"].value.item() == pytest.approx(3 * LN2 / 100)
    sure = torch.tensor([[math.log(3), -math.log(3)]])  # sigmoids 3/4 and 1/4
    assert _terms(sure, None, [0], 2)["bce"].value.item() == pytest.approx(2 * math.log(4 / 3))


def test_an_increment_s_loss_by_hand() -> None:
    z, z_old = torch.zeros(1, 3), torch.tensor([[math.log(3), 0.0]])
    terms = _terms(z, z_old, [2], 2, 1, old_weight=2.0)
    assert terms["bce"].value.item() == pytest.approx(LN2)  # the one new output
    # Targets 3/4 and 1/2 against sigmoids of one half: ln 2 each, whatever the target.
    assert terms["bce_old"].value.item() == pytest.approx(2 * LN2)
    assert (terms["bce"].weight, terms["bce_old"].weight) == (1.0, 2.0)
    mean = _terms(z, z_old, [2], 2, 1, reduction="mean")
    assert mean["bce"].value.item() == pytest.approx(LN2 / 100)
    assert mean["bce_old"].value.item() == pytest.approx(2 * LN2 / 100)


def test_the_two_terms_sum_to_equation_1() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    labels = [3, 4, 0, 2]
    target = torch.cat([z_old.sigmoid(), F.one_hot(torch.tensor(labels), 5)[:, 3:].float()], dim=1)
    expected = F.binary_cross_entropy_with_logits(z, target, reduction="sum") / 4
    terms = _terms(z, z_old, labels, 3, 2)
    total = sum(t.value * t.weight for t in terms.values())
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_exemplar_s_label_among_old_classes_does_not_matter() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    a, b = (_terms(z, z_old, labels, 3, 2) for labels in ([0, 1, 2, 3], [2, 2, 0, 3]))
    assert all(torch.equal(a[n].value, b[n].value) for n in a)
    other = _terms(z, z_old, [0, 1, 2, 4], 3, 2)
    assert not torch.equal(a["bce"].value, other["bce"].value)


def test_where_the_student_is_the_teacher_the_old_outputs_have_a_loss_and_no_gradient() -> None:
    z = tiny.logits(0, 5).requires_grad_()
    old = _terms(z, z[:, :3].detach(), [3, 4, 3, 4], 3, 2)["bce_old"].value
    assert old.item() > 0.1
    assert torch.allclose(torch.autograd.grad(old, z)[0], torch.zeros(4, 5), atol=1e-7)


def test_the_cross_entropy_form_has_all_seen_labels_and_softened_distillation() -> None:
    z, z_old, labels = tiny.logits(0, 5), tiny.logits(1, 3), [0, 4, 3, 2]
    terms = _terms(z, z_old, labels, 3, 2, loss="ce", kd_weight=0.5, temperature=3.0)
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, torch.tensor(labels)))
    assert torch.equal(terms["kd"].value, kd(z[:, :3], z_old, 3.0))
    assert terms["kd"].weight == 0.5


def test_the_family_and_its_recipe_follow_the_form_of_the_loss() -> None:
    sigmoid, plain = ICaRL({}), ICaRL({"loss": "ce"})
    assert sigmoid.base().key() != plain.base().key() == METHODS["finetune"]({}).base().key()
    assert not sigmoid.base().last_relu
    assert plain.base().last_relu
    for settings, lr in (({}, 0.02), ({"loss": "ce"}, 0.05)):
        configuration = tiny.configuration("icarl", settings)
        resolved = type(configuration)(
            **{**vars(configuration), "recipe": {"epochs": 2}}  # no learning rate of the study's
        ).recipes(tiny.data(), METHODS[configuration.method](configuration.hp))
        assert [r.lr for r in resolved] == [lr, lr]
    own = tiny.configuration("icarl").recipes(tiny.data(), sigmoid)
    assert [(r.lr, r.weight_decay) for r in own] == [(0.05, 2e-3)] * 2  # the study's wins, key by key


# Class means and the nearest of them


def test_nearest_mean_by_hand() -> None:
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    scores = nearest_mean(torch.tensor([[3.0, 0.0], [5.0, 5.0]]), means)
    assert scores[0].tolist() == pytest.approx([0.0, -math.sqrt(2)], abs=1e-6)
    assert scores[1, 0].item() == pytest.approx(scores[1, 1].item())


def test_nearest_mean_ignores_the_scale_of_features_and_equals_the_cosine_to_unit_means() -> None:
    features, means = tiny.logits(0, 8, 50), F.normalize(tiny.logits(1, 8, 6), dim=1)
    scores = nearest_mean(features, means)
    assert torch.allclose(nearest_mean(17 * features, means), scores, atol=1e-5)
    assert torch.equal(scores.argmax(1), (F.normalize(features, dim=1) @ means.T).argmax(1))


def test_the_means_are_those_of_the_exemplars_under_the_current_network() -> None:
    finished = tiny.run("icarl")
    training = finished.training
    state, view = training.state, training.view
    means = finished.states[-1]["kept.class_means"]
    assert means.shape == (tiny.CLASSES, 32)
    assert torch.allclose(means.norm(dim=1), torch.ones(tiny.CLASSES), atol=1e-6)
    for c in (0, 6):  # an old class too: its mean of an earlier task would be stale
        rows = finished.states[-1][f"memory.exemplars.{c}"]
        each = [
            F.normalize(features_of(state.net, view, rows, t), dim=1).mean(0)
            for t in (None, lambda x: x.flip(3))
        ]
        assert torch.allclose(means[c], F.normalize((each[0] + each[1]) / 2, dim=0), atol=1e-6)
    assert not torch.allclose(means[0], finished.states[0]["kept.class_means"][0], atol=1e-3)


def test_defect_pycil_icarl_means_without_mirrored_copies() -> None:
    training = tiny.run("icarl").training
    mirrored = class_means(training.state.net, training.view, training.state.memory, True)
    plain = class_means(training.state.net, training.view, training.state.memory, False)
    assert not torch.allclose(mirrored, plain, atol=1e-4)
    assert torch.equal(tiny.run("icarl").states[-1]["kept.class_means"], mirrored)
    off = tiny.run("icarl", {"flip_means": False}).training
    expected = class_means(off.state.net, off.view, off.state.memory, False)
    assert torch.equal(off.state.kept["class_means"], expected)


def test_nothing_is_mirrored_where_the_data_set_does_not_mirror() -> None:
    from cl_core.images.dataset import Augment

    digits_like = dataclasses.replace(tiny.data(), augment=Augment(crop=1))
    on = tiny.train(tiny.configuration("icarl"), digits_like)
    off = tiny.train(tiny.configuration("icarl", {"flip_means": False}), digits_like)
    assert on.traces == off.traces


def test_class_means_come_in_the_order_of_classes() -> None:
    training = tiny.run("icarl").training
    memory = training.state.memory
    shuffled = Memory({c: memory.rows[c] for c in (4, 0, 6, 2, 1, 3, 5)})
    a = class_means(training.state.net, training.view, memory, False)
    assert torch.equal(class_means(training.state.net, training.view, shuffled, False), a)


def test_defect_pycil_icarl_is_a_variant_and_not_equation_1() -> None:
    assert ICaRL({}).hp.loss == "bce"
    assert {p.term for r in tiny.run("icarl").results for p in r.phases} == {"bce", "bce_old"}


def test_defect_preallocated_heads_put_future_classes_into_the_loss() -> None:
    # Seven rows stand from the start; the first task's loss counts three outputs a sample.
    first = tiny.run("icarl").results[0].phases[0].value
    assert first == pytest.approx(3 * LN2, rel=0.5)


def test_the_official_mean_with_its_learning_rate_takes_the_steps_of_the_sum_with_its_own() -> None:
    # A mean over the classes seen so far took steps 100/3 times as large in the first task.
    finished = {}
    for reduction in ("sum", "mean"):
        plain = tiny.configuration("icarl", {"reduction": reduction})
        finished[reduction] = tiny.train(dataclasses.replace(plain, recipe={"epochs": 2, "batch": 16}))
    for a, b in zip(finished["sum"].results, finished["mean"].results, strict=True):
        assert (a.recipe["lr"], b.recipe["lr"]) == (0.02, 2.0)
        for x, y in zip(a.phases, b.phases, strict=True):
            assert y.value == pytest.approx(x.value / 100, rel=1e-3)
    for a, b in zip(finished["sum"].states, finished["mean"].states, strict=True):
        for name in a:
            if name.startswith("net.") and a[name].is_floating_point():
                assert torch.allclose(a[name], b[name], atol=1e-3), name


def test_both_rules_are_counted_and_the_choice_says_which_is_the_method_s() -> None:
    for rule in ("nearest-mean", "head"):
        for result in tiny.run("icarl", {"classifier": rule}).results:
            assert {e.classifier for e in result.evaluations} == {"head", "nearest-mean"}
            assert {e.classifier for e in result.evaluations if e.primary} == {rule}


# Without distillation


def test_without_distillation_the_labels_of_exemplars_make_it_plain_bce_over_all_seen_classes() -> None:
    z, labels = tiny.logits(0, 5), [3, 0, 4, 2]
    for reduction, divisor in (("sum", 4), ("mean", 400)):
        terms = _terms(z, tiny.logits(1, 3), labels, 3, 2, distill=False, reduction=reduction, old_weight=7.0)
        target = F.one_hot(torch.tensor(labels), 5).float()
        expected = F.binary_cross_entropy_with_logits(z, target, reduction="sum") / divisor
        assert [(name, term.weight) for name, term in terms.items()] == [("bce", 1.0), ("bce_old", 1.0)]
        assert sum(t.value for t in terms.values()).item() == pytest.approx(expected.item(), rel=1e-6)


def test_without_distillation_an_exemplar_s_label_among_old_classes_matters() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    a, b = (_terms(z, z_old, labels, 3, 2, distill=False) for labels in ([0, 1, 2, 3], [2, 2, 0, 3]))
    assert torch.equal(a["bce"].value, b["bce"].value)
    assert not torch.equal(a["bce_old"].value, b["bce_old"].value)


def test_without_targets_the_old_outputs_have_no_loss_and_exemplars_stay_negatives_of_new_classes() -> None:
    z = tiny.logits(0, 5).requires_grad_()
    terms = _terms(z, tiny.logits(1, 3), [3, 0, 4, 2], 3, 2, distill=False, old_targets="none")
    assert list(terms) == ["bce"]
    gradient = torch.autograd.grad(terms["bce"].value, z)[0]
    assert not gradient[:, :3].any()
    assert (gradient[[1, 3], 3:] > 0).all()
    kept = _terms(z, tiny.logits(1, 3), [3, 0, 4, 2], 3, 2)["bce"].value
    assert torch.equal(terms["bce"].value, kept)


def test_without_distillation_the_cross_entropy_form_is_replay_with_another_answer() -> None:
    off, replay = tiny.run("icarl", {"loss": "ce", "distill": False}), tiny.run("replay")
    assert (off.training.method.primary(), replay.training.method.primary()) == ("nearest-mean", "head")
    for a, b in zip(off.results, replay.results, strict=True):
        assert (a.network, a.phases) == (b.network, b.phases)


@pytest.mark.parametrize("hp", [{}, {"old_targets": "none"}, {"loss": "ce"}], ids=str)
def test_without_distillation_the_teacher_is_not_asked(hp: dict[str, Any]) -> None:
    state = tiny.fixed_state(tiny.logits(0, 5), tiny.logits(1, 3))
    terms = ICaRL({"distill": False, **hp}).loss(state, tiny.batch([3, 0, 4, 2]), tiny.task(3, 2))
    assert "kd" not in terms
    assert state.teacher is not None
    assert not state.teacher.net.asked


def test_without_distillation_the_first_task_is_that_of_the_sigmoid_family() -> None:
    z = tiny.logits(0, 3)
    for targets in ("labels", "none"):
        terms = _terms(z, None, [0, 1, 2, 0], 3, distill=False, old_targets=targets)
        assert list(terms) == ["bce"]
        assert tiny.run("icarl", {"distill": False, "old_targets": targets}).results[0].network == (
            tiny.run("icarl").results[0].network
        )

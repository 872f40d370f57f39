"""Replay: which images a phase reads, the two softmaxes, and the distillation that may be added."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.distillation import DISTILLATIONS
from cl_core.blocks.losses import kd, separated
from cl_core.hparams import hparams
from cl_core.method import METHODS
from cl_core.training.events import Event
from tests import tiny

Replay = METHODS["replay"]
Y = torch.tensor([3, 0, 4, 2])


def test_the_defaults_are_twenty_exemplars_a_class_by_herding_a_global_softmax_and_no_distillation() -> None:
    hp = Replay({}).hp
    assert (hp.budget, hp.exemplars_per_class, hp.selection) == ("per_class", 20, "herding")
    assert (hp.softmax, hp.loss, hp.kd_weight, hp.temperature, hp.t_squared) == (
        "global",
        "none",
        1.0,
        2.0,
        True,
    )


def test_it_offers_the_losses_of_distill() -> None:
    own, other = (hparams(METHODS[m].HP) for m in ("replay", "distill"))
    assert own["loss"].domain == other["loss"].domain
    for name in ("kd_weight", "temperature", "t_squared"):
        assert own[name] == other[name]


@pytest.mark.parametrize("softmax", ["global", "separated"])
def test_without_distillation_there_is_cross_entropy_alone_and_the_teacher_is_not_asked(softmax: str) -> None:
    z = tiny.logits(0, 5)
    state = tiny.fixed_state(z, tiny.logits(1, 3))
    terms = Replay({"softmax": softmax}).loss(state, tiny.batch(Y), tiny.task(3, 2))
    assert list(terms) == ["ce"]
    expected = F.cross_entropy(z, Y) if softmax == "global" else separated(z, Y, tiny.task(3, 2))
    assert torch.equal(terms["ce"].value, expected)
    assert state.teacher is not None
    assert not state.teacher.net.asked


@pytest.mark.parametrize("softmax", ["global", "separated"])
def test_a_distillation_is_added_on_all_images_and_leaves_the_cross_entropy_alone(softmax: str) -> None:
    z, z_old, task = tiny.logits(0, 5), tiny.logits(1, 3), tiny.task(3, 2)
    method = Replay({"softmax": softmax, "loss": "kl", "kd_weight": 2.0, "temperature": 3.0})
    terms = method.loss(tiny.fixed_state(z, z_old), tiny.batch(Y), task)
    assert list(terms) == ["ce", "kd"]
    # The mean runs over the batch of new images and exemplars alike.
    assert torch.equal(terms["kd"].value, kd(z[:, :3], z_old, 3.0))
    assert terms["kd"].weight == 2 * DISTILLATIONS["kl"].weight
    plain = Replay({"softmax": softmax}).loss(tiny.fixed_state(z), tiny.batch(Y), task)
    assert torch.equal(terms["ce"].value, plain["ce"].value)


def test_separated_softmax_leaves_old_logits_of_new_images_to_the_distillation_alone() -> None:
    z, task = tiny.logits(0, 5).requires_grad_(), tiny.task(3, 2)
    method = Replay({"softmax": "separated", "loss": "kl"})
    terms = method.loss(tiny.fixed_state(z, tiny.logits(1, 3)), tiny.batch(Y), task)
    ce, distilled = (torch.autograd.grad(terms[n].value, z, retain_graph=True)[0] for n in ("ce", "kd"))
    new = task.old <= Y
    assert not ce[new][:, :3].any()
    assert distilled[new][:, :3].all()
    assert not distilled[:, 3:].any()
    globally = (
        Replay({"loss": "kl"}).loss(tiny.fixed_state(z, tiny.logits(1, 3)), tiny.batch(Y), task)["ce"].value
    )
    pushed = torch.autograd.grad(globally, z)[0]
    assert (pushed[new][:, :3] > 0).all(), "under the global softmax new images push old logits down"


@pytest.mark.parametrize("softmax", ["global", "separated"])
@pytest.mark.parametrize("labels", [[3, 4, 4, 3], [0, 1, 2, 0]])
def test_a_batch_without_old_or_without_new_images_is_finite(softmax: str, labels: list[int]) -> None:
    z = tiny.logits(0, 5).requires_grad_()
    features = tiny.logits(2, 6)
    for loss in ("kl", "logit-l2", "feature-l2"):
        state = tiny.fixed_state(z, tiny.logits(1, 3))
        assert state.teacher is not None
        state.net.features = features
        state.teacher.net.features = features + 1
        terms = Replay({"softmax": softmax, "loss": loss}).loss(
            state, tiny.batch(torch.tensor(labels)), tiny.task(3, 2)
        )
        total = torch.stack([t.value * t.weight for t in terms.values()]).sum()
        assert total.isfinite()
        assert torch.autograd.grad(total, z)[0].isfinite().all()


def test_a_phase_passes_over_the_new_images_and_every_exemplar_once() -> None:
    seen: list[tuple[int, int, int]] = []

    def watch(event: Event) -> None:
        if event.kind != "phase begins":
            return
        task, (source,) = event.task, event.phase.rows
        ids, exemplars = source.ids, event.state.memory.ids()
        assert torch.equal(ids, torch.cat([task.rows, exemplars]))
        assert len(ids.unique()) == len(ids)
        assert event.phase.head_rows is None, "all rows of the head train"
        seen.append((task.index, len(task.rows), len(exemplars)))

    settings = tiny.configuration("replay", {"loss": "feature-cosine"}, recipe={"epochs": 1})
    tiny.train(settings, watch=watch)
    assert seen == [(0, 3 * 14, 0), (1, 2 * 14, 3 * 10), (2, 2 * 14, 5 * 10)]


@pytest.mark.parametrize("loss", ["none", "feature-l2"])
def test_old_rows_of_the_head_train(loss: str) -> None:
    finished = tiny.run("replay", {"loss": loss})
    before, after = (finished.states[t]["net.head.weight"][:3] for t in (0, 1))
    assert not torch.equal(before, after)


def test_the_distillation_does_not_choose_other_exemplars_of_the_first_task() -> None:
    plain, distilled = tiny.run("replay"), tiny.run("replay", {"loss": "logit-l2"})
    names = [name for name in plain.states[0] if name.startswith("memory.")]
    assert len(names) == 3
    assert all(torch.equal(plain.states[0][n], distilled.states[0][n]) for n in names)
    assert plain.results[0].network == distilled.results[0].network
    assert plain.results[1].network != distilled.results[1].network


def test_one_new_class_is_recorded_where_the_softmax_is_separated() -> None:
    task = tiny.task(3, 1)
    assert Replay({"softmax": "separated", "loss": "kl"}).note(task) is not None
    assert Replay({"loss": "kl"}).note(task) is None

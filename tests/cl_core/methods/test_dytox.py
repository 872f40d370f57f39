"""DyTox: its losses by hand, and what each of its phases trains."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.errors import BadRequest
from cl_core.method import METHODS
from cl_core.nets.network import LinearHead
from cl_core.nets.task_tokens import TokenHead
from cl_core.state import State
from cl_core.task import Batch, Term
from tests import tiny

DYTOX = METHODS["dytox"]
LN3 = math.log(3)  # of which the sigmoid is 3/4


def _terms(z: Tensor, z_old: Tensor, labels: list[int], *sizes: int, **hp: Any) -> dict[str, Term]:
    """The terms of the first phase, with embeddings of zeros and a divergence head of zeros."""
    state = tiny.fixed_state(z, z_old)
    state.net = tiny.Fixed(z, torch.zeros(len(z), 2))  # type: ignore[assignment]
    head = LinearHead(2, sizes[-1] + 1)
    head.seen = sizes[-1] + 1
    state.modules["divergence"] = nn.Sequential(nn.LayerNorm(2), head)
    return DYTOX(hp).loss(state, tiny.batch(labels), tiny.task(*sizes))


@cache
def _phases(name: str = "", value: Any = None) -> list[tiny.Passed]:
    return tiny.phases("dytox", {name: value} if name else {})


# The losses


def test_the_loss_by_hand() -> None:
    # Sigmoids 3/4, 1/2, 1/2 of a new image of class 2; the teacher gives 3/4 and 1/4 by softmax.
    z, z_old = torch.tensor([[LN3, 0.0, 0.0]]), torch.tensor([[0.0, LN3]])
    terms = _terms(z, z_old, [2], 2, 1)
    assert terms["bce"].value.item() == pytest.approx((math.log(4) + 2 * math.log(2)) / 3)
    kl = 0.25 * math.log(0.25 / 0.75) + 0.75 * math.log(0.75 / 0.25)
    assert terms["kd"].value.item() == pytest.approx(kl / 2)
    assert terms["divergence"].value.item() == pytest.approx(math.log(2))
    assert [t.weight for t in terms.values()] == pytest.approx([1 / 3, 2 / 3, 0.1])


def test_the_share_of_old_classes_divides_the_objective_between_labels_and_old_network() -> None:
    z, z_old = tiny.logits(0, 10), tiny.logits(1, 6)
    terms = _terms(z, z_old, [9, 0, 4, 7], 2, 4, 4, kd_weight=3.0, divergence_weight=0.5)
    assert [t.weight for t in terms.values()] == pytest.approx([0.4, 3 * 0.6, 0.5])


def test_without_distillation_no_output_of_another_network_is_a_target() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    terms = _terms(z, z_old, [3, 0, 4, 2], 3, 2, distill=False)
    assert {name: t.weight for name, t in terms.items()} == {"bce": 1.0, "divergence": 0.1}
    whole = _terms(z, z_old, [3, 0, 4, 2], 3, 2)
    assert torch.equal(terms["bce"].value, whole["bce"].value)


class _Sure(nn.Module):
    """A divergence head that is sure of given outputs, so its loss is zero where they are the targets."""

    def __init__(self, right: list[int]) -> None:
        super().__init__()
        self.right = torch.tensor(right)

    def forward(self, embeddings: Tensor) -> Tensor:
        return 100 * F.one_hot(self.right, 4).float() - 50


@pytest.mark.parametrize(
    ("answers", "right"), [([0, 1, 2, 3], True), ([1, 1, 2, 3], False), ([0, 3, 2, 1], False)]
)
def test_targets_of_the_divergence_head_are_0_for_every_old_class_and_1_to_n_for_the_new(
    answers: list[int], right: bool
) -> None:
    state = tiny.fixed_state(tiny.logits(0, 6), tiny.logits(1, 3))
    state.net = tiny.Fixed(tiny.logits(0, 6), torch.zeros(4, 2))  # type: ignore[assignment]
    state.modules["divergence"] = _Sure(answers)
    terms = DYTOX().loss(state, tiny.batch([1, 3, 4, 5]), tiny.task(2, 1, 3))
    assert (terms["divergence"].value.item() < 1e-6) == right


def test_old_outputs_equal_to_the_teacher_s_give_no_gradient() -> None:
    z = tiny.logits(0, 5).requires_grad_()
    _terms(z, z.detach()[:, :3], [3, 0, 4, 2], 3, 2)["kd"].value.backward()
    assert z.grad is not None
    assert z.grad.abs().max() < 1e-7


def test_the_divergence_head_reads_the_embedding_of_the_newest_token_alone() -> None:
    settings = tiny.configuration("dytox", {"distill": False}, recipe={"epochs": 1})
    training = tiny.train(settings).training
    state, task = training.state, training.task(2)
    head = LinearHead(dim := state.head.weight.shape[1], 3)
    head.open(0, 3, torch.Generator().manual_seed(0))
    state.modules["divergence"] = nn.Sequential(nn.LayerNorm(dim), head)
    batch = Batch(training.view.images(task.rows[:4]), torch.tensor([0, 5, 6, 1]))
    state.net.zero_grad()
    training.method.loss(state, batch, task)["divergence"].value.backward()
    tokens = cast(TokenHead, state.head).tokens.grad
    assert tokens is not None
    assert tokens.any(dim=1).nonzero().flatten().tolist() == [5]  # the row of the task's first class


# The phases


def _same(passed: tiny.Passed, part: str) -> bool:
    names = [name for name in passed.before if name.startswith(part)]
    assert names, part
    return all(torch.equal(passed.before[name], passed.after[name]) for name in names)


def test_the_first_phase_leaves_old_tokens_and_classifiers_and_the_second_the_encoder() -> None:
    phases = _phases()
    assert [(p.task.index, p.phase.name) for p in phases] == [
        (0, "train"),
        (1, "train"),
        (1, "balanced"),
        (2, "train"),
        (2, "balanced"),
    ]
    for passed in phases[1:]:
        first, old, seen = passed.phase.name == "train", passed.task.old, passed.task.seen
        assert _same(passed, "net.backbone.") != first
        assert not _same(passed, "net.head.block.")
        for name in ("weight", "bias", "tokens", "scales", "shifts"):
            before, after = passed.before[f"net.head.{name}"], passed.after[f"net.head.{name}"]
            assert torch.equal(before[:old], after[:old]) == first, name
            assert not torch.equal(before[old:seen], after[old:seen]), name


def test_the_second_phase_has_the_exemplars_of_every_class_and_its_rate_is_constant() -> None:
    run = tiny.run("dytox").training
    for passed in _phases():
        if passed.phase.name == "balanced":
            (rows,) = passed.phase.rows
            y = run.view.labels(rows.ids)
            assert y.bincount().tolist() == [10] * passed.task.seen
            recipe, first = passed.phase.recipe, passed.task.recipe
            assert (recipe.schedule, recipe.lr) == ("constant", pytest.approx(0.1 * first.lr))
            assert recipe.epochs == max(1, round(0.04 * first.epochs))
            assert passed.phase.augment


def test_without_epochs_there_is_no_second_phase() -> None:
    assert [p.phase.name for p in _phases("balanced_epochs", 0.0)] == ["train"] * 3


def test_a_new_task_brings_a_token_and_a_classifier_and_the_divergence_head_goes() -> None:
    run = tiny.run("dytox")
    for state, first in zip(run.states, ([0], [0, 3], [0, 3, 5]), strict=True):
        for name in ("tokens", "scales"):
            used = state[f"net.head.{name}"].any(dim=1).nonzero().flatten().tolist()
            assert used == first
        assert not [name for name in state if "divergence" in name]


def test_recorded_parameters_are_those_that_answer() -> None:
    run = tiny.run("dytox")
    net = run.training.state.net
    dim = net.head.weight.shape[1]
    shared = sum(p.numel() for part in (net.backbone, net.head.block) for p in part.parameters())  # type: ignore[union-attr]
    # A token, a scale and a shift of each task; a row and a bias of each class.
    expected = [shared + 3 * t * dim + n * (dim + 1) for t, n in ((1, 3), (2, 5), (3, 7))]
    assert [r.parameters for r in run.results] == expected


def test_the_first_task_is_its_own_with_sigmoids_and_one_token() -> None:
    first = tiny.run("dytox").results[0]
    assert {p.term for p in first.phases} == {"bce"}
    base = DYTOX().base()
    assert (base.family, base.head, base.last_relu) == ("tokens", "tokens", False)


def test_exemplars_are_herded_on_the_embeddings_of_all_tokens() -> None:
    state: State = tiny.run("dytox").training.state
    view = tiny.run("dytox").training.view
    with torch.no_grad():
        out = state.net.eval()(view.images(torch.arange(4)))
    assert out.features.shape == (4, 3 * state.head.weight.shape[1])


@pytest.mark.parametrize("net", ["tests.tiny:plain_net"])
def test_a_net_without_maps_is_refused_in_one_line(net: str) -> None:
    with pytest.raises(BadRequest, match="dytox reads the patches of a net's last map") as caught:
        tiny.train(tiny.configuration("dytox", net=net))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hp", [{}, {"distill": False}])
def test_it_runs_with_its_small_transformer(hp: dict[str, Any]) -> None:
    settings = tiny.configuration("dytox", hp, net="convit-small", until=2, recipe={"lr": 1e-3})
    run = tiny.train(settings)
    losses = [p.value for p in run.results[1].phases if p.term == "bce"]
    assert losses[-1] < losses[0]


# Defects of others


def test_defect_official_dytox_keeps_as_many_memories_as_gpus() -> None:
    for result, state in zip(
        tiny.run("dytox", {"budget": "total"}).results,
        tiny.run("dytox", {"budget": "total"}).states,
        strict=True,
    ):
        ids = torch.cat([t for name, t in state.items() if name.startswith("memory.")])
        assert len(ids) == result.exemplars <= 48
        assert len(ids.unique()) == len(ids)


def test_defect_official_dytox_divides_its_distillation_by_the_old_classes_so_that_can_be_undone() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    elements, batch = (
        _terms(z, z_old, [3, 0, 4, 2], 3, 2, reduction=r)["kd"].value for r in ("elements", "batch")
    )
    assert torch.allclose(3 * elements, batch)

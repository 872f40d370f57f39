"""FOSTER: its two losses by hand, what each phase trains, and the networks that it keeps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.boosting import Boosted, balanced_kd, effective_weights
from cl_core.blocks.exemplars import features_of
from cl_core.blocks.losses import cross_entropy_kd
from cl_core.memory import herding
from cl_core.method import METHODS
from cl_core.model.model import load_model, save_model
from cl_core.nets.network import Frozen, LinearHead
from cl_core.state import State
from cl_core.task import Term
from tests import tiny

FOSTER = METHODS["foster"]
LN2 = math.log(2)


def _state(z: Tensor, z_old: Tensor, old: Tensor, w: Tensor, features: Tensor) -> State:
    """A state in boosting: W_o `old`, weights `w`, features of both networks, an auxiliary head of zeros."""
    state = tiny.fixed_state(z)
    state.net = tiny.Fixed(z, features)  # type: ignore[assignment]
    state.teacher = Frozen(tiny.Fixed(z_old, features))  # type: ignore[arg-type]
    state.local = {"old": nn.Parameter(old), "boosting": nn.Parameter(w, requires_grad=False)}
    state.modules["auxiliary"] = LinearHead(features.shape[1], len(old))
    state.modules["auxiliary"].seen = len(old)
    return state


def _boosting(state: State, labels: list[int], *sizes: int, **hp: Any) -> dict[str, Term]:
    return FOSTER(hp).boosting_loss(state, tiny.batch(labels), tiny.task(*sizes))  # type: ignore[attr-defined]


# The blocks


def test_weights_by_hand_sum_to_the_number_of_classes_and_are_1_for_equal_counts() -> None:
    # beta 1/2: (1/2)/(1 - 1/2) = 1 for one image, (1/2)/(1 - 1/4) = 2/3 for two.
    assert effective_weights([1, 2, 2], 0.5).tolist() == pytest.approx([9 / 7, 6 / 7, 6 / 7])
    assert effective_weights([20, 500], 0.96).sum().item() == pytest.approx(2)
    assert effective_weights([20, 500], 0.96)[0] > 1
    assert effective_weights([7] * 5, 0.97).tolist() == pytest.approx([1.0] * 5)


def test_the_balanced_targets_by_hand_and_with_equal_weights_the_cross_entropy_form() -> None:
    # At T = 2 the targets are 3/4 and 1/4; weights 1 and 3 make them 1/2 and 1/2.
    z_old, z = torch.tensor([[2 * math.log(3), 0.0]]), torch.tensor([[0.0, 2 * math.log(3)]])
    value = balanced_kd(z, z_old, torch.tensor([1.0, 3.0]), 2.0)
    assert value.item() == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(4 / 3))
    a, b = tiny.logits(0, 5), tiny.logits(1, 5)
    assert torch.allclose(balanced_kd(a, b, torch.ones(5), 2.0), cross_entropy_kd(a, b, 2.0))


def test_two_networks_as_one_give_features_side_by_side_and_the_sum_of_their_logits() -> None:
    parts = [tiny.Fixed(tiny.logits(n, 3), tiny.normal(n + 2, 4, 2)) for n in (0, 1)]
    out = Boosted(*parts)(torch.zeros(4, 3, 8, 8))
    assert torch.equal(out.logits, tiny.logits(0, 3) + tiny.logits(1, 3))
    assert torch.equal(out.features, torch.cat([tiny.normal(2, 4, 2), tiny.normal(3, 4, 2)], dim=1))


# The losses


def test_boosting_by_hand() -> None:
    # New features give zeros, the old ones add (ln 3, 0, ln 3); the weights are 1, 1 and 1/2.
    features = torch.tensor([[1.0, 0.0]])
    old = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [math.log(3), 0.0]])
    z, z_old = torch.zeros(1, 3), torch.tensor([[2 * math.log(3), 0.0]])
    terms = _boosting(_state(z, z_old, old, torch.tensor([1.0, 1.0, 0.5]), features), [2], 2, 1)
    assert terms["ce"].value.item() == pytest.approx(math.log((3 + 1 + 9) / 9))
    assert terms["auxiliary"].value.item() == pytest.approx(math.log(3))
    student = [3**0.5 / (3**0.5 + 1), 1 / (3**0.5 + 1)]  # at T = 2
    expected = -0.75 * math.log(student[0]) - 0.25 * math.log(student[1])
    assert terms["kd"].value.item() == pytest.approx(expected)
    assert [t.weight for t in terms.values()] == [1.0, 1.0, 1.0]


def test_without_distillation_no_output_of_another_network_is_a_target() -> None:
    features, z = tiny.normal(0, 4, 2), tiny.logits(0, 5)
    state = _state(z, tiny.logits(1, 3), tiny.normal(1, 5, 2), torch.ones(5), features)
    assert list(_boosting(state, [3, 0, 4, 2], 3, 2, distill=False)) == ["ce", "auxiliary"]
    state.nets = {"old": None, "new": None}  # type: ignore[dict-item]
    task = tiny.task(3, 2)
    method = FOSTER({"distill": False})
    terms = method.compression_loss(state, tiny.batch([3, 0, 4, 2]), task)  # type: ignore[attr-defined]
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, torch.tensor([3, 0, 4, 2])))


def test_the_first_task_is_fine_tuning_s() -> None:
    assert tiny.run("foster").results[0].network == tiny.run("finetune").results[0].network
    first = tiny.run("foster").results[0]
    student, boosted = (e for e in first.evaluations if e.split == "test")
    assert (student.confusion == boosted.confusion).all()


# The phases


def test_boosting_leaves_the_old_network_as_it_was_and_compression_begins_from_it() -> None:
    finished = tiny.run("foster")
    before = {n: t for n, t in finished.states[0].items() if n.startswith("net.backbone.")}
    kept = {n: t for n, t in finished.states[1].items() if n.startswith("nets.old.backbone.")}
    assert len(kept) == len(before)
    assert all(torch.equal(t, kept[n.replace("net.", "nets.old.", 1)]) for n, t in before.items())
    boosting, compression = tiny.phases("foster", until=2)[1:]
    assert (boosting.phase.name, compression.phase.name) == ("train", "compression")
    assert not compression.before["nets.old.head.bias"].any()  # the new part has the head's one bias
    for name, tensor in boosting.after.items():
        if name.startswith("net."):
            assert torch.equal(compression.before[name.replace("net.", "nets.new.", 1)], tensor), name
    for name, tensor in compression.before.items():
        if name.startswith("net.backbone."):
            assert torch.equal(tensor, boosting.before[name]), name
            # Both train: the new one in boosting, the student in compression.
            moved = name.endswith(("weight", "running_mean"))
            assert not moved or not torch.equal(tensor, boosting.after[name]), name
            assert not moved or not torch.equal(tensor, compression.after[name]), name
    assert torch.equal(compression.before["net.head.weight"][:3], finished.states[0]["net.head.weight"][:3])
    assert not torch.equal(
        compression.before["net.head.weight"][3:5], boosting.before["net.head.weight"][3:5]
    )


def test_the_head_on_old_features_begins_as_the_old_head_and_the_other_at_random() -> None:
    first, boosting = tiny.phases("foster", until=2, recipe={"increment": {"lr": 1e-7, "weight_decay": 0}})[
        :2
    ]
    old = first.after["net.head.weight"]
    assert torch.allclose(boosting.after["net.head.bias"][:3], first.after["net.head.bias"][:3], atol=1e-4)
    assert not torch.isclose(boosting.after["net.head.weight"][:3], old[:3], atol=1e-4).any()


def test_compression_is_as_long_as_130_epochs_of_170_and_has_no_weight_decay() -> None:
    passed = tiny.phases("foster", until=2, recipe={"epochs": 10})
    assert [p.phase.recipe.epochs for p in passed] == [10, 10, 8]
    assert [p.phase.recipe.weight_decay > 0 for p in passed] == [True, True, False]


def test_exemplars_are_herded_on_the_features_of_both_backbones() -> None:
    run = tiny.run("foster", {"exemplars_per_class": 4})
    state, view = run.training.state, run.training.view
    for c in (5, 6):
        features = features_of(Boosted(**state.nets), view, view.rows([c]))
        assert features.shape[1] == 2 * state.head.weight.shape[1]
        assert torch.equal(state.memory.rows[c], view.rows([c])[herding(features, 4)])


# The networks that are kept


def test_the_student_has_one_backbone_and_the_boosted_network_two_in_the_recorded_parameters() -> None:
    plain = [r.parameters for r in tiny.run("finetune").results]
    assert [r.parameters for r in tiny.run("foster").results] == plain
    net = tiny.run("foster").training.state.net
    dim, backbone = net.head.weight.shape[1], sum(p.numel() for p in net.backbone.parameters())
    assert plain == [backbone + seen * (dim + 1) for seen in (3, 5, 7)]
    grown = [r.parameters for r in tiny.run("foster", {"classifier": "boosted"}).results]
    assert grown == [plain[0], 2 * plain[1], 2 * plain[2]]


@pytest.mark.parametrize("classifier", ["student", "boosted"])
def test_a_saved_model_has_the_networks_that_answer_and_no_others(classifier: str, tmp_path: Path) -> None:
    run = tiny.run("foster", {"classifier": classifier})
    save_model(tmp_path / "m.safetensors", run.training, {})
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        names = {name.split(".backbone.")[0] for name in file.keys() if ".backbone." in name}  # noqa: SIM118
    assert names == ({"net"} if classifier == "student" else {"net", "nets.old", "nets.new"})
    training, x = run.training, torch.arange(20)
    found = load_model(tmp_path / "m.safetensors").scores(tiny.data().test.x[:20])  # type: ignore[union-attr]
    with torch.no_grad():
        scores = training.method.scores(training.state, training.view.images(x, "test"), training.task(2))
    assert found.tobytes() == scores[classifier].numpy().tobytes()
    apart = (scores["student"] - scores["boosted"]).abs().max()
    assert apart > 1e-3


# Defects of others


def test_defect_official_foster_counts_500_images_of_every_new_class() -> None:
    # 10 exemplars a class of three old ones, 14 images of two new ones.
    passed: list[Tensor] = []

    def note(state: State) -> None:
        if "boosting" in state.local:
            passed.append(state.local["boosting"].detach().clone())

    tiny.train(tiny.configuration("foster", until=2), watch=lambda event: note(event.state))
    assert torch.equal(passed[0], effective_weights([10, 10, 10, 14, 14], 0.96))

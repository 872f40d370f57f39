"""PASS: its loss by hand, its prototypes and their noise, what answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.exemplars import features_of
from cl_core.blocks.prototypes import variance
from cl_core.method import METHODS
from cl_core.nets.network import Network
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task
from cl_core.training.trainer import Training
from tests import tiny

PASS = METHODS["pass"]


def _outputs(net: Network, features: Tensor) -> Tensor:
    """The 4n outputs, one by one."""
    z, rest = net.head(features), net.side["rotated"](features)
    columns = [z[:, [c]] if not r else rest[:, [3 * c + r - 1]] for c in range(z.shape[1]) for r in range(4)]
    return torch.cat(columns, dim=1)


def _state(task: Task, radius: float = 0.5, rotations: int = 4) -> State:
    side = {"rotated": 3} if rotations > 1 else {}
    return tiny.linear_state(task, side, radius=torch.tensor(radius))


def _batch(state: State, task: Task, labels: list[int], hp: dict[str, Any] | None = None) -> Batch:
    return tiny.drawn_batch(PASS(hp or {}), state, task, labels)


# The loss


def test_the_loss_tells_classes_times_rotations_apart_at_temperature_one_tenth() -> None:
    task = tiny.task(3)
    state = _state(task)
    batch = _batch(state, task, [2, 0, 1])
    terms = PASS({}).loss(state, batch, task)
    z = _outputs(state.net, state.net(tiny.turned(batch.x)).features)
    assert z.shape == (12, 12)
    labels = torch.tensor([8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7])
    assert list(terms) == ["ce"]
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(10 * z, labels).item(), rel=1e-5)
    assert terms["ce"].weight == 1.0


def test_later_tasks_add_prototypes_at_the_unrotated_outputs_and_the_feature_distance() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    batch = _batch(state, task, [3, 4, 4])
    terms = PASS({"kd_weight": 3.0, "proto_weight": 4.0, "logit_temperature": 0.5}).loss(state, batch, task)
    c, noise = batch.drawn["class"], batch.drawn["noise"]
    z = _outputs(state.net, state.kept["prototypes"][c] + 0.5 * noise)
    assert z.shape == (len(c), 20)
    assert terms["prototype"].value.item() == pytest.approx(F.cross_entropy(2 * z, 4 * c).item(), rel=1e-5)
    assert state.teacher is not None
    x = tiny.turned(batch.x)
    gap = state.net(x).features - state.teacher(x).features
    assert terms["feature_kd"].value.item() == pytest.approx(math.sqrt(gap.square().sum().item()), rel=1e-5)
    assert [terms[name].weight for name in ("ce", "prototype", "feature_kd")] == [1.0, 4.0, 3.0]
    # Old classes' rotated outputs are in the cross-entropy of new images.
    z_new = _outputs(state.net, state.net(x).features)
    labels = torch.tensor([12, 13, 14, 15, *[16, 17, 18, 19] * 2])
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(2 * z_new, labels).item(), rel=1e-5)


def test_the_published_weights_are_the_defaults() -> None:
    hp = PASS({}).hp
    assert (hp.kd_weight, hp.proto_weight, hp.logit_temperature, hp.radius_scale) == (10, 10, 0.1, 1)
    assert (hp.proto_ratio, hp.rotations, hp.radius_mode, hp.distill) == (1, 4, "first_task", True)


def test_the_feature_distance_is_a_norm_of_the_batch_and_grows_with_its_root() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    batch = _batch(state, task, [3, 4])
    twice = batch._replace(x=batch.x.repeat(2, 1, 1, 1), y=batch.y.repeat(2))
    one, two = (PASS({}).loss(state, b, task)["feature_kd"].value for b in (batch, twice))
    assert two.item() == pytest.approx(math.sqrt(2) * one.item(), rel=1e-5)


def test_one_view_is_plain_cross_entropy_without_a_side_head() -> None:
    method, task = PASS({"rotations": 1}), tiny.task(3, 2)
    assert not method.base().side_heads
    state = _state(task, rotations=1)
    batch = _batch(state, task, [3, 4, 4], {"rotations": 1})
    terms = method.loss(state, batch, task)
    z = state.net(batch.x).logits
    assert terms["ce"].value.item() == pytest.approx(F.cross_entropy(10 * z, batch.y).item(), rel=1e-5)
    c = batch.drawn["class"]
    z = state.net.head(state.kept["prototypes"][c] + 0.5 * batch.drawn["noise"])
    assert terms["prototype"].value.item() == pytest.approx(F.cross_entropy(10 * z, c).item(), rel=1e-5)
    assert {name for name in tiny.run("pass", {"rotations": 1}).states[0] if "side" in name} == set()


# Prototypes and their noise


def test_with_radius_zero_augmented_prototypes_are_the_prototypes() -> None:
    task = tiny.task(3, 2)
    state = _state(task, radius=0.0)
    batch = _batch(state, task, [3, 4])
    assert torch.equal(
        tiny.second_input_of_the_head(PASS({}), state, batch, task),
        state.kept["prototypes"][batch.drawn["class"]],
    )


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_mean_squared_distance_from_the_prototype_is_r_squared_times_the_dimension(scale: float) -> None:
    task = tiny.task(3, 2)  # 128 images a step in the recipe
    state = _state(task, radius=0.7)
    hp = {"radius_scale": scale, "proto_ratio": 10.0}
    batch = _batch(state, task, [3, 4], hp)
    gap = (
        tiny.second_input_of_the_head(PASS(hp), state, batch, task)
        - state.kept["prototypes"][batch.drawn["class"]]
    )
    assert gap.shape == (1280, tiny.DIM)
    expected = (0.7 * scale) ** 2 * tiny.DIM
    # A sum of 7680 squares: 4 standard deviations are 6.5 %.
    assert gap.square().sum(dim=1).mean().item() == pytest.approx(expected, rel=0.065)


def test_noisy_prototypes_are_not_clamped() -> None:
    task = tiny.task(3, 2)
    state = _state(task, radius=1.0)
    state.kept["prototypes"] = torch.zeros(3, tiny.DIM)
    assert (tiny.second_input_of_the_head(PASS({}), state, _batch(state, task, [3, 4]), task) < 0).any()


def test_a_short_batch_draws_the_recipe_s_number_of_prototypes() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    for labels in ([3], [3, 4, 4]):
        assert _batch(state, task, labels).drawn["class"].shape == (task.recipe.batch,)
    assert _batch(state, task, [3], {"proto_ratio": 0.5}).drawn["noise"].shape == (64, tiny.DIM)
    assert not _batch(state, tiny.task(3), [0, 1]).drawn


def test_every_step_draws_its_own_prototypes() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    plain = Batch(torch.zeros(2, 3, 3, 3), torch.tensor([3, 4]))
    a, b = (PASS({}).augment(state, plain, task, Streams(0, 1, ("train", 0, step))).drawn for step in (0, 1))
    assert not torch.equal(a["class"], b["class"])
    assert not torch.equal(a["noise"], b["noise"])


def test_defect_pycil_pass_draws_no_prototype_where_old_classes_are_fewer_than_new() -> None:
    task = tiny.task(1, 4)
    state = _state(task)
    batch = _batch(state, task, [1, 2, 3, 4])
    assert len(batch.drawn["class"]) == task.recipe.batch
    assert PASS({}).loss(state, batch, task)["prototype"].value.isfinite()
    finished = tiny.train(tiny.configuration("pass", scenario={"base": 1, "increments": [4, 2]}))
    values = [p.value for r in finished.results[1:] for p in r.phases if p.term == "prototype"]
    assert len(values) == 4
    assert np.isfinite(values).all()
    assert min(values) > 0


def test_defect_pycil_pass_radius_over_all_tasks() -> None:
    first = [state["kept.radius"] for state in tiny.run("pass").states]
    assert first[0] > 0
    assert all(torch.equal(r, first[0]) for r in first)
    running = [state["kept.radius"] for state in tiny.run("pass", {"radius_mode": "running_mean_all"}).states]
    assert torch.equal(running[0], first[0])
    assert len({r.item() for r in running}) == 3


def test_the_first_radius_is_that_of_the_first_task_s_features() -> None:
    training = Training(tiny.configuration("pass", {"proto_transform": "evaluation"}), tiny.data())
    training.next_task()
    net, view = training.state.net, training.view
    spread = [variance(features_of(net, view, view.rows([c]))) for c in range(3)]
    expected = math.sqrt(sum(spread).item() / 3)  # type: ignore[union-attr]
    assert training.state.kept["radius"].item() == pytest.approx(expected, rel=1e-5)


# The first task, and what answers


def test_the_family_is_decided_by_temperature_and_rotations_and_has_a_recipe_of_its_own() -> None:
    base = PASS({}).base()
    assert base.parameters == {"logit_temperature": 0.1, "rotations": 4}
    assert dict(base.side_heads) == {"rotated": 3}
    settings = tiny.configuration("pass")
    bare = type(settings)(method="pass", data=tiny.SPEC, scenario=settings.scenario)
    for recipe in bare.recipes(tiny.data(), PASS({})):
        assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.batch) == ("adam", 1e-3, 2e-4, 64)
        rates = [recipe.replace(epochs=100).learning_rate(e) for e in (0, 44, 45, 89, 90, 99)]
        assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_the_head_gives_the_unrotated_outputs() -> None:
    state = _state(tiny.task(3))
    out = state.net(tiny.normal(0, 6, 3, 3, 3))
    assert torch.equal(out.logits, _outputs(state.net, out.features)[:, ::4])


def test_one_view_takes_images_of_any_shape() -> None:
    PASS({"rotations": 1}).check((3, 2), (3, 8, 6))

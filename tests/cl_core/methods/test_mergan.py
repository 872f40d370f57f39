"""MeRGAN: what the generator and critic learn from, and how old classes are kept in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cl_core.methods.mergan import MeRGAN
from cl_core.nets.image_gan import IMAGE_NOISE, ImageCritic, ImageGenerator, build_image_gan
from cl_core.state import State
from cl_core.task import Task
from tests import tiny

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def _pair(seed: int) -> tuple[ImageGenerator, ImageCritic]:
    return build_image_gan((3, 3, 3), 8, 8, MEAN, STD, torch.Generator().manual_seed(seed))


def _state(task: Task, learning: bool = True, old: int = 2) -> State:
    state = tiny.linear_state(task, {})
    if learning:
        state.modules["generator"], state.modules["critic"] = _pair(1)
    if task.index:
        state.modules["old generator"] = _pair(old)[0].requires_grad_(False)
    return state


def _terms(state: State, task: Task, labels: list[int], step: int = 0, **hp: Any) -> tuple[Any, Any]:
    method = MeRGAN(hp)
    b = tiny.drawn_batch(method, state, task, labels, step=step)
    return b, method.gan_loss(state, b, task)  # type: ignore[attr-defined]


# The networks


def test_images_have_the_shape_and_range_of_the_data_and_depend_on_the_class() -> None:
    for side in (8, 16, 28, 32):
        generator, critic = build_image_gan((3, side, side), 4, 8, MEAN, STD, torch.Generator())
        noise, y = tiny.normal(0, 4, IMAGE_NOISE), torch.arange(4)
        with torch.no_grad():
            generator.norms[0].shift += 0.3 * torch.arange(4)[:, None]  # type: ignore[operator]
        images = generator(noise, y)
        assert images.shape == (4, 3, side, side)
        pixels = images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        assert 0 <= pixels.min() < pixels.max() <= 1
        assert not torch.equal(images, generator(noise, y.flip(0)))
        score, logits = critic(images)
        assert (score.shape, logits.shape) == ((4,), (4, 4))


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    generator, _ = _pair(1)
    noise, y = tiny.normal(0, 4, IMAGE_NOISE), torch.arange(4)
    assert torch.allclose(generator(noise, y)[:1], generator(noise[:1], y[:1]), atol=1e-6)


# Generator and critic


def test_the_terms_by_hand() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b, terms = _terms(state, task, [3, 4], penalty_weight=3.0)
    assert b.rows.tolist() == [0, 1, -1, -1]  # as many images of the old generator, as real ones
    assert (b.y[2:] < 3).all()
    generator, critic = state.modules["generator"], state.modules["critic"]
    fake = generator(b.drawn["noise"], b.y)
    (of_fake, z_fake), (of_real, z_real) = critic(fake), critic(b.x)
    assert terms["critic"].value.item() == pytest.approx((of_fake.mean() - of_real.mean()).item(), abs=1e-5)
    assert terms["generator"].value.item() == pytest.approx(-of_fake.mean().item(), abs=1e-5)
    for name, z in (("real classes", z_real), ("made classes", z_fake)):
        expected = F.cross_entropy(z[:, :5], b.y)
        assert terms[name].value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert {name: term.weight for name, term in terms.items()} == {
        "critic": 1.0,
        "penalty": 3.0,
        "generator": 1.0,
        "made classes": 1.0,
        "real classes": 1.0,
    }


def test_alignment_is_half_the_squared_distance_to_former_images_of_the_same_noise_and_class() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b, terms = _terms(state, task, [3, 4], replay="alignment", align_weight=0.01)
    assert len(b.x) == 2  # the critic sees new images alone
    noise, old = b.drawn["noise"], b.drawn["old"]
    assert (old < 3).all()
    pair = [state.modules[name].unscaled(noise, old) for name in ("generator", "old generator")]  # type: ignore[operator]
    expected = 0.5 * (pair[0] - pair[1]).square().sum() / 3
    assert terms["alignment"].value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["alignment"].weight == 0.01
    same = _state(task, old=1)
    _, terms = _terms(same, task, [3, 4], replay="alignment")
    assert terms["alignment"].value.item() == 0.0


def test_alignment_trains_the_new_generator_alone() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    _, terms = _terms(state, task, [3, 4], replay="alignment")
    terms["alignment"].value.backward()
    assert all(p.grad is not None for p in state.modules["generator"].parameters())
    assert all(p.grad is None for p in state.modules["old generator"].parameters())
    assert all(p.grad is None for p in state.modules["critic"].parameters())


def test_the_terms_of_the_generator_do_not_train_the_critic_nor_those_of_the_critic_the_generator() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    _, terms = _terms(state, task, [3, 4])
    for name, term in terms.items():
        for part in ("generator", "critic"):
            params = list(state.modules[part].parameters())
            found = torch.autograd.grad(term.value, params, retain_graph=True, allow_unused=True)
            own = part == ("generator" if name in ("generator", "made classes") else "critic")
            assert any(g is not None for g in found) == own, f"{name} trains the {part}"


def test_without_distillation_nothing_old_is_in_the_generator_s_training() -> None:
    task = tiny.task(3, 2)
    b, terms = _terms(_state(task), task, [3, 4], distill=False)
    assert b.rows.tolist() == [0, 1]
    assert "alignment" not in terms


def test_the_generator_moves_in_one_step_of_n_critic_and_the_critic_in_each() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    for step in range(4):
        _, terms = _terms(state, task, [3, 4], step=step, n_critic=2)
        for module in state.modules.values():
            module.zero_grad()
        sum(term.value for term in terms.values()).backward()
        moved = {n: any(p.grad is not None for p in m.parameters()) for n, m in state.modules.items()}
        assert moved == {"generator": step % 2 == 0, "critic": True, "old generator": False}


def test_defect_official_mergan_classifies_unseen_classes() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    _, before = _terms(state, task, [3, 4])
    with torch.no_grad():
        state.modules["critic"].logits.bias[task.seen :] = 50.0  # type: ignore[union-attr, index]
    _, after = _terms(state, task, [3, 4])
    assert all(torch.equal(before[name].value, after[name].value) for name in before)


# The classifier, and what is kept


def test_the_classifier_trains_on_new_images_and_as_many_made_ones_of_old_classes() -> None:
    task = tiny.task(3, 2)
    state = _state(task, learning=False)
    b = tiny.drawn_batch(MeRGAN({}), state, task, [3, 4, 4])
    assert (len(b.x), b.rows.tolist()) == (6, [0, 1, 2, -1, -1, -1])
    assert (b.y[3:] < 3).all()
    assert not b.x.requires_grad
    value = MeRGAN({}).loss(state, b, task)["ce"].value
    assert value.item() == pytest.approx(F.cross_entropy(state.net(b.x).logits, b.y).item(), rel=1e-6)
    more = tiny.drawn_batch(MeRGAN({"replay_ratio": 2.0}), state, task, [3, 4, 4])
    assert len(more.x) == 9


def test_generator_and_critic_are_kept_and_counted_and_no_row_is() -> None:
    finished = tiny.run("mergan")
    shape, classes = (3, 8, 8), tiny.CLASSES
    pair = build_image_gan(shape, classes, 8, MEAN, STD, torch.Generator())
    numbers = sum(p.numel() for module in pair for p in module.parameters())
    assert [result.kept_bytes for result in finished.results] == [4 * numbers] * 3
    assert [result.exemplars for result in finished.results] == [0] * 3

"""AutoAugment by torchvision's policies, contrast and cutout: values, draws, and a run that continues."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy

from cl_core.errors import BadRequest
from cl_core.images.augment import apply, draw
from cl_core.images.auto_augment import Operation, draw_operations, operated, policy_of
from cl_core.images.dataset import POLICIES, Augment, Data
from cl_core.rng import Streams, stream
from cl_core.state import same_tensors
from cl_core.training.checkpoints import CheckpointStore
from tests import tiny

CPU = torch.device("cpu")


class Told(AutoAugment):
    """torchvision's transform of the sub-policy `which`, with the operations and signs that it is told."""

    told: tuple[int, Tensor, Tensor]

    def get_params(self, transform_num: int) -> tuple[int, Tensor, Tensor]:
        return self.told


def pixels(n: int, height: int = 7, width: int = 9, channels: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, height, width, channels), dtype=torch.uint8, generator=g)


@pytest.mark.parametrize("name", POLICIES)
def test_each_pair_of_operations_does_what_torchvision_s_does(name: str) -> None:
    policy, theirs = policy_of(name), Told(AutoAugmentPolicy(name), fill=[128.0] * 3)
    assert len(policy.probabilities) == len(theirs.policies)
    for which, pair in enumerate(theirs.policies):
        assert torch.equal(policy.probabilities[which], torch.tensor([p for _, p, _ in pair]))
        for signs in ([0, 1], [1, 0]):
            x = pixels(2)
            theirs.told = which, torch.zeros(2), torch.tensor(signs)
            expected = theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            numbers = torch.tensor([policy.numbers[which, k, 1 - sign] for k, sign in enumerate(signs)])
            apart = (operated(x, name, numbers.expand(2, 2)).int() - expected.int()).abs()
            # Its older functions cut pixels off elsewhere, and have other ties of nearest pixels.
            assert (apart <= 2).float().mean() > 0.95


def test_operations_by_hand() -> None:
    x = torch.tensor([[0, 100, 200]], dtype=torch.uint8)[None, :, :, None]  # [1, 1, 3, 1]

    def done(name: str, level: int, sign: int, policy: str = "cifar10") -> list[int]:
        number = policy_of(policy).operations.index(Operation(name, level, sign))
        return operated(x, policy, torch.tensor([[number, -1]])).flatten().tolist()

    assert done("Invert", 0, 1) == [255, 155, 55]
    assert done("Solarize", 3, 1) == [0, 100, 55]  # from 255 - 255/3 = 170
    assert done("Posterize", 7, 1) == [0, 96, 200]  # 8 - round(4 * 7/9) = 5 bits
    assert done("TranslateX", 8, 1) == [128, 0, 100]  # 150/331 of 3 pixels by 8/9: 1.2, and grey beside
    assert done("TranslateX", 8, -1) == [100, 200, 128]
    assert done("Brightness", 9, -1) == [0, 10, 20]  # a factor of 1 - 0.9; 9.99 cut off would be 9
    assert Operation("Rotate", 2, -1).magnitude(32) == pytest.approx(-30 * 2 / 9)


def test_operations_come_as_often_as_the_policy_says_and_from_the_stream_alone() -> None:
    before = torch.random.get_rng_state()
    drawn = draw_operations("cifar10", 40_000, stream(0, "x"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(drawn, draw_operations("cifar10", 40_000, stream(0, "x")))
    policy = policy_of("cifar10")
    found = Counter(drawn.flatten().tolist())
    share = policy.probabilities.sum() / 25
    assert (drawn >= 0).float().sum(dim=1).mean().item() == pytest.approx(share.item(), abs=0.01)
    left, right = (policy.operations.index(Operation("TranslateY", 9, sign)) for sign in (1, -1))
    assert found[left] / found[right] == pytest.approx(1.0, abs=0.05)
    # Sub-policies with TranslateY at level 9: .7, .9, .7 and .7.
    assert (found[left] + found[right]) / 40_000 == pytest.approx(3.0 / 25, abs=0.005)


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    x, augment = pixels(30, 8, 8), Augment(2, True, 0.25, 0.8, "cifar10", 4)
    draws = draw(augment, 30, Streams(3, 0), ("x",), CPU)
    alone = torch.cat([apply(x[i : i + 1], augment, draws.at(i, i + 1)) for i in range(30)])
    assert torch.equal(apply(x, augment, draws), alone)


def test_contrast_and_brightness_equal_pillows_in_either_order() -> None:
    x, augment = pixels(60), Augment(brightness=63 / 255, contrast=0.8)
    draws = draw(augment, 60, Streams(3, 0), ("x",), CPU)
    assert draws.factor is not None
    assert draws.contrast is not None
    assert draws.contrast_first is not None
    assert 10 < draws.contrast_first.sum() < 50
    assert 0.2 <= draws.contrast.min() < 0.4
    assert 1.6 < draws.contrast.max() <= 1.8
    theirs = []
    for image, bright, contrast, first in zip(
        x, draws.factor.tolist(), draws.contrast.tolist(), draws.contrast_first.tolist(), strict=True
    ):
        changed = Image.fromarray(image.numpy())
        steps = [(ImageEnhance.Brightness, bright), (ImageEnhance.Contrast, contrast)]
        for enhancer, factor in reversed(steps) if first else steps:
            changed = enhancer(changed).enhance(factor)
        theirs.append(np.asarray(changed))
    assert np.array_equal(apply(x, augment, draws).numpy(), np.stack(theirs))


def test_contrast_of_grey_images_by_hand() -> None:
    x = torch.tensor([[0, 100, 201]], dtype=torch.uint8)[None, :, :, None]  # mean 100.33, so 100
    draws = draw(Augment(contrast=0.8), 1, Streams(0, 0), ("x",), CPU)._replace(contrast=torch.tensor([0.5]))
    assert apply(x, Augment(contrast=0.8), draws).flatten().tolist() == [50, 100, 150]


def test_cutout_blackens_a_square_as_far_as_it_lies_inside() -> None:
    x, augment = torch.full((2, 4, 5, 1), 9, dtype=torch.uint8), Augment(cutout=2)
    draws = draw(augment, 2, Streams(0, 0), ("x",), CPU)
    middles = torch.tensor([[0.0, 0.99], [0.5, 0.4]])  # rows 0 and 2, columns 4 and 2
    out = apply(x, augment, draws._replace(hole=middles))[..., 0]
    assert [tuple(at) for at in (out[0] == 0).nonzero().tolist()] == [(0, 3), (0, 4)]
    assert [tuple(at) for at in (out[1] == 0).nonzero().tolist()] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for side in (1, 3):
        holes = apply(x, Augment(cutout=side), draws._replace(hole=torch.full((2, 2), 0.5)))
        assert (holes == 0).sum().item() == 2 * side**2


def test_other_draws_stay_as_they_are_and_none_is_made_by_default() -> None:
    plain, all_ = Augment(2, True, 0.25), Augment(2, True, 0.25, 0.8, "svhn", 4)
    few, many = (draw(a, 9, Streams(0, 0), ("train", 0), CPU) for a in (plain, all_))
    for before, after in zip(few[:4], many[:4], strict=True):
        assert before is not None
        assert torch.equal(before, after)  # type: ignore[arg-type]
    assert few[4:] == (None,) * 4


def test_a_run_left_inside_its_tasks_equals_the_straight_one(tmp_path: Path) -> None:
    source = dataclasses.replace(tiny.data(), augment=Augment(1, True, 0.2, 0.5, "cifar10", 4))
    settings = tiny.configuration("replay", until=2)
    straight = tiny.train(settings, source)
    run, left = tiny.train_in_pieces(settings, CheckpointStore(tmp_path), source=source)
    assert left
    assert run.traces == straight.traces
    assert all(same_tensors(a, b) for a, b in zip(run.states, straight.states, strict=True))
    assert straight.traces != tiny.run("replay").traces[: len(straight.traces)]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadRequest, match="must be cifar10, imagenet, svhn or null, not 'cifar'"):
        Augment(auto_augment="cifar")
    with pytest.raises(BadRequest, match="need images of 1 or 3 channels, not 4"):
        Data.from_arrays(pixels(2, channels=4), [0, 1], augment=Augment(contrast=0.5))

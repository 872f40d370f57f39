"""Rotations as further classes: the order of views, labels and outputs."""

from __future__ import annotations

import pytest
import torch

from cl_core.blocks.rotations import check_square, interleaved, matched, rotated, rotation_labels
from cl_core.errors import BadRequest


def _images(n: int) -> torch.Tensor:
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_a_view_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert [v[0].tolist() for v in rotated(x)] == [
        [[1, 2], [3, 4]],
        [[2, 4], [1, 3]],
        [[4, 3], [2, 1]],
        [[3, 1], [4, 2]],
    ]


def test_four_turns_are_none() -> None:
    x = _images(2)
    turned = x
    for _ in range(4):
        turned = rotated(turned)[1::4]  # one more turn
    assert torch.equal(turned, x)
    assert torch.equal(rotated(x, 1), x)


def test_defect_rotations_one_after_the_other_break_every_fourth_row() -> None:
    x, y = _images(3), torch.tensor([2, 0, 1])
    views, labels = rotated(x), rotation_labels(y)
    assert torch.equal(views[::4], x)
    assert labels.tolist() == [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]
    for i in range(3):
        for r in range(4):
            assert torch.equal(views[4 * i + r], torch.rot90(x[i], r, (1, 2)))
            assert labels[4 * i + r] == 4 * y[i] + r
    by_rotation = torch.cat([torch.rot90(x, r, (2, 3)) for r in range(4)])
    assert not torch.equal(by_rotation[::4], x)


def test_labels_cover_every_rotation_of_every_class_and_one_view_keeps_the_labels() -> None:
    y = torch.arange(5)
    assert sorted(rotation_labels(y).tolist()) == list(range(20))
    assert torch.equal(rotation_labels(y, 1), y)


def test_the_outputs_of_a_class_stand_side_by_side() -> None:
    z = torch.tensor([[0.0, 4.0], [100.0, 104.0]])
    rest = torch.tensor([[1.0, 2.0, 3.0, 5.0, 6.0, 7.0], [101.0, 102.0, 103.0, 105.0, 106.0, 107.0]])
    both = interleaved(z, rest)
    assert both.tolist() == [list(range(8)), list(range(100, 108))]
    assert torch.equal(both[:, ::4], z)


def test_aggregation_uses_each_view_s_own_outputs_alone() -> None:
    # Output 4c + r of view r of image i is 100 i + 10 c + r, all others are far off.
    z = torch.full((8, 12), 1e6)
    for i in range(2):
        for r in range(4):
            for c in range(3):
                z[4 * i + r, 4 * c + r] = 100 * i + 10 * c + r
    assert matched(z).tolist() == [[1.5, 11.5, 21.5], [101.5, 111.5, 121.5]]


def test_images_that_are_not_square_are_refused_in_one_line() -> None:
    check_square((3, 8, 8), "x")
    with pytest.raises(BadRequest, match="must be square: crop the 8x6 ones") as caught:
        check_square((3, 8, 6), "x")
    assert "\n" not in str(caught.value)

"""The rows of an epoch: steps, the last batch, several sources."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_core.method import Rows
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.training.optimisation import Epoch, epoch_rows
from tests import tiny

G = Streams(0, 1)
LAST_BATCH = ("keep", "complete", "drop")


def _epoch(sources: list[Rows], batch: int, last_batch: str = "keep", epoch: int = 0) -> Epoch:
    return epoch_rows(sources, Recipe(batch=batch, last_batch=last_batch), G, ("train", epoch))


@pytest.mark.parametrize(
    ("n", "batch", "last_batch", "widths", "images"),
    [
        (260, 64, "keep", [64, 64, 64, 64, 4], 260),
        (260, 64, "complete", [64] * 5, 260),
        (260, 64, "drop", [64] * 4, 256),
        (257, 64, "keep", [64, 64, 64, 65], 257),  # one image alone joins the batch before it
        (65, 64, "keep", [65], 65),
        (128, 64, "keep", [64, 64], 128),
        (128, 64, "complete", [64, 64], 128),
        (10, 64, "keep", [10], 10),
        (10, 64, "complete", [10], 10),
        (10, 64, "drop", [10], 10),  # fewer rows than a batch are a step all the same
        (3, 2, "keep", [3], 3),
        (3, 1, "keep", [1, 1, 1], 3),
        (1, 64, "drop", [1], 1),
    ],
)
def test_the_steps_of_an_epoch_and_its_images_by_hand(
    n: int, batch: int, last_batch: str, widths: list[int], images: int
) -> None:
    epoch = _epoch([Rows(torch.arange(n))], batch, last_batch)
    assert [len(rows) for rows in epoch.steps] == widths
    assert epoch.images == images


@given(
    n=st.integers(1, 60),
    batch=st.integers(1, 40),
    epoch=st.integers(0, 3),
    last_batch=st.sampled_from(LAST_BATCH),
)
@settings(max_examples=120)
def test_an_epoch_passes_over_the_rows_once(n: int, batch: int, epoch: int, last_batch: str) -> None:
    ids = torch.arange(100, 100 + n)
    found = _epoch([Rows(ids)], batch, last_batch, epoch)
    widths = [len(rows) for rows in found.steps]
    order = torch.cat(found.steps).tolist()
    assert set(widths[:-1]) <= {batch}
    assert len(set(order[:n])) == min(n, len(order))
    assert found.images == min(n, len(order))
    if last_batch == "keep":
        assert sorted(order) == ids.tolist()
        assert min(widths) > 1 or 1 in (n, batch)
        assert max(widths) <= batch + 1
    elif last_batch == "complete":
        assert sorted(order[:n]) == ids.tolist()
        assert order[n:] == order[: len(order) - n]
        assert set(widths) == {min(batch, n)}
    else:
        assert set(widths) == {min(batch, n)}
        assert n - len(order) < batch


@pytest.mark.parametrize("last_batch", ["keep", "drop"])
def test_full_batches_are_the_same_whatever_becomes_of_the_last(last_batch: str) -> None:
    complete = _epoch([Rows(torch.arange(50))], 16, "complete").steps
    other = _epoch([Rows(torch.arange(50))], 16, last_batch).steps
    assert all(torch.equal(a, b) for a, b in zip(complete[:3], other[:3], strict=True))


def test_every_epoch_and_phase_has_its_own_order() -> None:
    def order(g: Streams, *purpose: str | int) -> Any:
        return torch.cat(epoch_rows([Rows(torch.arange(50))], Recipe(batch=10), g, purpose).steps)

    orders = [order(G, *purpose) for purpose in (("train", 0), ("train", 1), ("bias", 0))]
    assert torch.equal(orders[0], order(G, "train", 0))
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], order(Streams(0, 2), "train", 0))


@given(
    new=st.integers(1, 50),
    old=st.integers(1, 50),
    width=st.integers(1, 20),
    last_batch=st.sampled_from(LAST_BATCH),
)
@settings(max_examples=60)
def test_a_second_source_fills_its_places_of_every_step_and_is_used_evenly(
    new: int, old: int, width: int, last_batch: str
) -> None:
    alone = _epoch([Rows(torch.arange(new), 8)], 128, last_batch)
    sources = [Rows(torch.arange(new), 8), Rows(torch.arange(1000, 1000 + old), width)]
    epoch = _epoch(sources, 128, last_batch)
    replayed = []
    for rows, expected in zip(epoch.steps, alone.steps, strict=True):
        assert torch.equal(rows[:-width], expected)
        assert (rows[-width:] >= 1000).all()
        replayed.append(rows[-width:])
    times = torch.bincount(torch.cat(replayed) - 1000, minlength=old)
    assert times.max() - times.min() <= 1
    assert epoch.images == alone.images + width * len(epoch.steps)


def test_an_empty_second_source_takes_no_place_and_an_empty_first_one_is_a_mistake() -> None:
    empty = Rows(torch.empty(0, dtype=torch.int64), 4)
    assert [len(rows) for rows in _epoch([Rows(torch.arange(6)), empty], 3).steps] == [3, 3]
    with pytest.raises(ValueError, match="at least one row"):
        _epoch([empty], 3)


def test_replay_passes_over_each_exemplar_once_an_epoch() -> None:
    sizes = []
    for passed in tiny.phases("replay"):
        (source,) = passed.phase.rows
        assert len(source.ids) == len(source.ids.unique())
        sizes.append(len(source.ids))
    assert sizes == [3 * 14, 2 * 14 + 3 * 10, 2 * 14 + 5 * 10]

"""The view of a run on its data set: arrival order, held-out rows, batches and their augmentation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torch import Tensor

from cl_core.errors import BadRequest
from cl_core.images.augment import Draws, apply, draw, normalise
from cl_core.images.dataset import Augment, Data
from cl_core.images.view import EVALUATION_BATCH, Store, View, resident_images
from cl_core.rng import Streams
from tests import tiny

CPU = torch.device("cpu")
NATURAL = tuple(range(tiny.CLASSES))
SHUFFLED = (4, 2, 6, 0, 1, 5, 3)


def _view(order: tuple[int, ...] = NATURAL, validation: float = 0.1, source: Data | None = None) -> View:
    return View(source or tiny.data(), order, validation, CPU)


def _uneven() -> Data:
    counts = [3, 11, 40]
    y = np.repeat(np.arange(3), counts)
    x = np.random.default_rng(0).integers(0, 256, (len(y), 8, 8, 3), dtype=np.uint8)
    return Data.from_arrays(x, y, test=(x[::2], y[::2]))


# Classes and rows


def test_classes_are_numbered_in_arrival_order() -> None:
    view = _view(SHUFFLED)
    names = tiny.data().class_names
    assert view.class_names == tuple(names[c] for c in SHUFFLED)
    for split, y in (("train", tiny.data().train.y), ("test", tiny.data().test.y)):  # type: ignore[union-attr]
        for c, original in enumerate(SHUFFLED):
            rows = view.rows([c], split)
            assert (y[rows.numpy()] == original).all()
            assert (view.labels(rows, split) == c).all()


def test_rows_come_class_by_class_in_file_order() -> None:
    view = _view(SHUFFLED)
    rows = view.rows([3, 1])
    assert torch.equal(rows, torch.cat([view.rows([3]), view.rows([1])]))
    assert view.rows([3]).tolist() == sorted(view.rows([3]).tolist())
    assert view.rows([]).tolist() == []


def test_training_and_validation_rows_are_disjoint_and_make_the_training_split() -> None:
    view = _view()
    train, val = (set(view.rows(NATURAL, split).tolist()) for split in ("train", "val"))
    assert not train & val
    assert train | val == set(range(len(tiny.data().train)))


def test_the_share_is_held_out_of_every_class_and_is_at_least_one_image() -> None:
    view = _view((0, 1, 2), 0.1, _uneven())
    assert [len(view.rows([c], "val")) for c in range(3)] == [1, 1, 4]
    assert [len(view.rows([c])) for c in range(3)] == [2, 10, 36]
    assert [len(_view((0, 1, 2), 0.5, _uneven()).rows([c], "val")) for c in range(3)] == [2, 6, 20]


def test_the_same_rows_are_held_out_whatever_the_order_or_the_seed() -> None:
    def held(view: View) -> set[int]:
        return set(view.rows(NATURAL, "val").tolist())

    expected = held(_view())
    assert held(_view(SHUFFLED)) == expected
    for method, rest in (("lwf", {"seed": 3}), ("bic", {"class_order": "seed:2"})):
        from cl_core.training.trainer import Training

        assert held(Training(tiny.configuration(method, **rest), tiny.data()).view) == expected
    changed = dataclasses.replace(tiny.data(), fingerprint="of other pixels")
    assert held(_view(source=changed)) != expected


def test_without_validation_every_row_trains() -> None:
    view = _view(validation=0.0)
    assert len(view.rows(NATURAL)) == len(tiny.data().train)
    assert len(view.rows(NATURAL, "val")) == 0


def test_a_class_too_small_to_hold_out_from_is_refused_in_one_line() -> None:
    y = np.array([0, 0, 0, 1])
    source = Data.from_arrays(np.zeros((4, 8, 8, 1), np.uint8), y, class_names=["cat", "dog"])
    with pytest.raises(BadRequest, match=r"every class needs at least 2 training images .*'dog' has 1") as e:
        _view((0, 1), 0.1, source)
    assert "\n" not in str(e.value)
    assert len(_view((0, 1), 0.0, source).rows([1])) == 1


def test_a_sealed_test_split_that_is_not_there_is_not_missed() -> None:
    source = dataclasses.replace(tiny.data(), test=None)
    view = _view(source=source)
    assert len(view.rows(NATURAL))
    with pytest.raises(BadRequest, match="no test split"):
        view.rows([0], "test")


# Images


def test_images_are_normalised_channel_by_channel() -> None:
    view, source = _view(), tiny.data()
    rows = torch.tensor([5, 90, 3])
    x = source.train.x[rows.numpy()].astype(np.float64) / 255
    expected = ((x - np.array(source.mean)) / np.array(source.std)).transpose(0, 3, 1, 2)
    images = view.images(rows)
    assert images.shape == (3, 3, 8, 8)
    assert images.dtype == torch.float32
    assert np.allclose(images.numpy(), expected, atol=1e-5)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_evaluation_batches_cover_rows_once_and_in_order() -> None:
    many = torch.arange(len(tiny.data().train)).repeat(10)
    view = _view()
    batches = list(view.batches(many))
    assert [len(b.y) for b in batches] == [
        min(EVALUATION_BATCH, len(many) - i) for i in range(0, len(many), EVALUATION_BATCH)
    ]
    assert torch.equal(torch.cat([b.y for b in batches]), view.labels(many))
    assert torch.equal(torch.cat([b.rows for b in batches]), many)
    assert torch.equal(torch.cat([b.x for b in batches])[:7], view.images(many[:7]))
    assert list(view.batches(many[:0])) == [] or len(next(iter(view.batches(many[:0]))).y) == 0


def test_an_epoch_without_augmentation_is_its_rows() -> None:
    view = _view()
    ids = [torch.tensor([4, 5, 6]), torch.tensor([7, 8])]
    batches = list(view.epoch(ids, Draws(None, None, None)))
    assert len(batches) == 2
    for rows, batch in zip(ids, batches, strict=True):
        assert torch.equal(batch.x, view.images(rows))
        assert torch.equal(batch.y, view.labels(rows))
        assert torch.equal(batch.rows, rows)


def test_an_epoch_is_augmented_image_by_image_whatever_the_steps() -> None:
    view, augment = _view(), tiny.data().augment
    ids = torch.arange(12)
    draws = draw(augment, 12, Streams(0, 0), ("train", 0), CPU)
    whole = next(iter(view.epoch([ids], draws)))
    steps = list(view.epoch(ids.split([3, 4, 5]), draws))
    assert torch.equal(torch.cat([b.x for b in steps]), whole.x)
    assert not torch.equal(whole.x, view.images(ids))


# Augmentation


def _slow(images: Tensor, crop: int, top: list[int], left: list[int], flip: list[bool]) -> Tensor:
    out = []
    for image, t, at, mirrored in zip(images.numpy(), top, left, flip, strict=True):
        padded = np.pad(image, ((crop, crop), (crop, crop), (0, 0)))
        window = padded[t : t + image.shape[0], at : at + image.shape[1]]
        out.append(window[:, ::-1] if mirrored else window)
    return torch.from_numpy(np.stack(out).copy())


@given(
    crop=st.integers(0, 4),
    flips=st.booleans(),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60)
def test_crop_and_flip_equal_the_slow_ones(
    crop: int, flips: bool, height: int, width: int, channels: int, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (6, height, width, channels), dtype=torch.uint8, generator=g)
    augment = Augment(crop, flips)
    draws = draw(augment, 6, Streams(seed, 0), ("x",), CPU)
    top, left = (t.tolist() if t is not None else [crop] * 6 for t in (draws.top, draws.left))
    flip = draws.flip.tolist() if draws.flip is not None else [False] * 6
    result = apply(images, augment, draws)
    assert result.dtype == torch.uint8
    assert torch.equal(result, _slow(images, crop, top, left, flip))


def test_brightness_equals_pillows_by_any_factor() -> None:
    g = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, 4, 5, 3), dtype=torch.uint8, generator=g)
    draws = draw(Augment(brightness=63 / 255), 40, Streams(3, 0), ("x",), CPU)
    assert draws.factor is not None
    assert 1 - 63 / 255 <= draws.factor.min() < 0.8
    assert 1.2 < draws.factor.max() <= 1 + 63 / 255
    theirs = [
        np.asarray(ImageEnhance.Brightness(Image.fromarray(x.numpy())).enhance(float(factor)))
        for x, factor in zip(images, draws.factor, strict=True)
    ]
    assert np.array_equal(apply(images, Augment(brightness=63 / 255), draws).numpy(), np.stack(theirs))


def test_draws_reach_every_offset_and_both_sides() -> None:
    draws = draw(Augment(2, True), 2000, Streams(0, 0), ("x",), CPU)
    for t in (draws.top, draws.left):
        assert t is not None
        assert sorted(set(t.tolist())) == [0, 1, 2, 3, 4]
    assert draws.flip is not None
    assert 0.45 < draws.flip.float().mean().item() < 0.55
    assert draws.top is not None
    assert not torch.equal(draws.top, draws.left)  # type: ignore[arg-type]


def test_draws_depend_on_the_purpose_and_not_on_the_other_augmentation() -> None:
    g = Streams(0, 0)
    both = draw(Augment(2, True), 9, g, ("train", 0), CPU)
    crop, flip = (draw(a, 9, g, ("train", 0), CPU) for a in (Augment(2), Augment(0, True)))
    assert torch.equal(both.top, crop.top)  # type: ignore[arg-type]
    assert torch.equal(both.flip, flip.flip)  # type: ignore[arg-type]
    assert crop.flip is None
    assert flip.top is None
    later = draw(Augment(2, True), 9, g, ("train", 1), CPU)
    assert not torch.equal(both.top, later.top)  # type: ignore[arg-type]


def test_draws_at_an_interval() -> None:
    draws = draw(Augment(2), 9, Streams(0, 0), ("x",), CPU)
    part = draws.at(3, 5)
    assert part.top is not None
    assert torch.equal(part.top, draws.top[3:5])  # type: ignore[index]
    assert part.flip is None


def test_normalise_is_scale_and_shift() -> None:
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)  # one pixel, two channels
    x = normalise(images, torch.tensor([0.5, 1 / 255]), torch.tensor([2.0, -1.0]))
    assert x.shape == (1, 2, 1, 1)
    assert x.flatten().tolist() == pytest.approx([2.0, 0.0])


def test_images_that_do_not_fit_the_device_are_gathered_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # The path through a prefetched buffer, without a GPU: pinning is what the CPU cannot do.
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    images = tiny.data().train
    arrival = np.arange(tiny.CLASSES)[::-1].copy()
    resident, streamed = (Store(images, arrival, CPU, resident=fits) for fits in (True, False))
    ids = [torch.tensor(rows) for rows in ([4, 5, 6], [7, 8, 4], [90, 1])]
    steps = zip(resident.stream(ids), streamed.stream(ids), strict=True)
    for rows, (a, b) in zip(ids, steps, strict=True):
        assert all(map(torch.equal, a, b))
        assert torch.equal(a[0], torch.from_numpy(images.x)[rows])
        assert torch.equal(resident.gather(rows), streamed.gather(rows))


def test_runs_of_one_process_share_one_copy_of_the_pixels_on_a_device() -> None:
    images = tiny.data().train
    first, second = resident_images(images, CPU), resident_images(images, CPU)
    assert first.data_ptr() == second.data_ptr() != torch.from_numpy(images.x).data_ptr()
    assert torch.equal(first, torch.from_numpy(images.x))
    other = resident_images(tiny.copied(tiny.data()).train, CPU)
    assert other.data_ptr() != first.data_ptr()

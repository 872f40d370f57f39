"""A data set as one run sees it: classes in arrival order, validation rows held out, images on the device."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from cl_core.errors import BadRequest
from cl_core.images.augment import Draws, apply, normalise
from cl_core.images.dataset import Data, Images
from cl_core.rng import stream
from cl_core.task import Batch

EVALUATION_BATCH = 256
GROUP_BYTES = 1 << 20  # of float images that are read and augmented together: steps of few small ones
GPU_BYTES = 1 << 25  # of float images that a GPU reads together, for training and in an evaluation batch


def rows_left(data: Data, validation: float) -> np.ndarray:
    """The training rows of each class, [K] in the data set's order, when a share of them is held out.

    Raises BadRequest where a class has too few for one validation row and one to train on.
    """
    rows = np.bincount(data.train.y, minlength=data.num_classes)
    left = rows - [_held(int(n), validation) for n in rows]
    short = np.flatnonzero(left < 1)
    if len(short):
        c = int(short[0])
        raise BadRequest(
            f"every class needs at least {rows[c] - left[c] + 1} training images for validation "
            f"{validation:g}: {data.class_names[c]!r} has {rows[c]}; add images or lower the share"
        )
    return left


def _held(n: int, validation: float) -> int:
    """Count the rows of a class of n that are held out."""
    return max(1, round(validation * n)) if validation else 0


def _grouped(steps: Sequence[Tensor], most: int) -> list[list[Tensor]]:
    """Return consecutive steps in groups of at most `most` images, and of one step at least."""
    groups: list[list[Tensor]] = []
    images = 0
    for step in steps:
        images += len(step)
        if not groups or images > most:
            groups.append([])
            images = len(step)
        groups[-1].append(step)
    return groups


class Store:
    """The images of one split: on the device where they fit, else gathered through pinned memory.

    `arrival` [K] gives each class its place in arrival order; `resident` says whether the images fit, by
    default judged by the free memory of the device.
    """

    def __init__(
        self, images: Images, arrival: np.ndarray, device: torch.device, resident: bool | None = None
    ) -> None:
        self.x = torch.from_numpy(images.x)
        self.y = torch.from_numpy(arrival[images.y])
        self.device = device
        if resident is None:
            resident = device.type != "cuda" or self.x.nbytes < 0.4 * torch.cuda.mem_get_info(device)[0]
        self.resident = resident
        if device.type == "cuda" and self.resident:
            self.x = resident_images(images, device)
        self.y_there = self.y.to(device)

    def gather(self, rows: Tensor) -> Tensor:
        """uint8 [B, H, W, C] on the device."""
        if self.resident:
            return self.x.index_select(0, rows.to(self.x.device))
        return self._pinned(rows).to(self.device, non_blocking=True)

    def stream(self, steps: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(uint8 [B, H, W, C], labels [B], row ids [B]) of each step, on the device; prefetched if not
        resident.
        """
        there = torch.cat(list(steps)).to(self.device).split([len(rows) for rows in steps])
        if self.resident:
            for rows in there:
                yield self.x.index_select(0, rows), self.y_there[rows], rows
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._pinned, steps[0])
            for step, rows in enumerate(there):
                ready = ahead.result()
                if step + 1 < len(steps):
                    ahead = pool.submit(self._pinned, steps[step + 1])
                yield ready.to(self.device, non_blocking=True), self.y_there[rows], rows

    def _pinned(self, rows: Tensor) -> Tensor:
        return self.x.index_select(0, rows.cpu()).pin_memory()


_RESIDENT: WeakKeyDictionary[Images, WeakValueDictionary[torch.device, Tensor]] = WeakKeyDictionary()
_RESIDENT_LOCK = threading.Lock()


def resident_images(images: Images, device: torch.device) -> Tensor:
    """Return the pixels on a device, [N, H, W, C] uint8: one copy for all runs of this process that use them.

    The copy goes with the last tensor that this function returned.
    """
    with _RESIDENT_LOCK:
        there = _RESIDENT.setdefault(images, WeakValueDictionary())
        x = there.get(device)
        if x is None:
            x = there[device] = torch.from_numpy(images.x).to(device, copy=True)
            if device.type == "cuda":  # other runs read it on streams of their own
                torch.cuda.current_stream(device).synchronize()  # not the GPU, on which one may record
        return x


class View:
    """The images of a run, for the trainer and the methods; nothing else reads the data set.

    Classes are numbered in arrival order. Raises BadRequest where a class has too few images for a validation
    row.
    """

    def __init__(self, data: Data, order: Sequence[int], validation: float, device: torch.device) -> None:
        self.data = data
        self.order = tuple(order)
        self.device = device
        self._arrival = np.empty(len(order), dtype=np.int64)
        self._arrival[list(order)] = np.arange(len(order))
        std = torch.tensor(data.std, device=device)
        self._scale = 1.0 / (255.0 * std)
        self._shift = -torch.tensor(data.mean, device=device) / std
        self._train = Store(data.train, self._arrival, device)
        self._test: Store | None = None
        self._rows = self._hold_out(validation)

    @property
    def num_classes(self) -> int:
        """Classes of the whole data set."""
        return len(self.order)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in arrival order."""
        return tuple(self.data.class_names[c] for c in self.order)

    @property
    def image_bytes(self) -> int:
        """Bytes of one stored image."""
        channels, height, width = self.data.shape
        return channels * height * width

    @property
    def evaluation_batch(self) -> int:
        """Images of an evaluation batch, more of small ones on a GPU."""
        if self.device.type == "cpu":
            return EVALUATION_BATCH
        return max(EVALUATION_BATCH, GPU_BYTES // (4 * self.image_bytes))

    def _hold_out(self, validation: float) -> dict[str, dict[int, Tensor]]:
        # Drawn from the data's fingerprint alone: the same rows for every run, seed and class order.
        rows_left(self.data, validation)
        train, val = {}, {}
        for c, original in enumerate(self.order):
            rows = torch.from_numpy(np.flatnonzero(self.data.train.y == original))
            held = _held(len(rows), validation)
            shuffled = torch.randperm(
                len(rows), generator=stream(0, "validation", self.data.fingerprint, original)
            )
            val[c] = rows[shuffled[:held].sort().values]
            train[c] = rows[shuffled[held:].sort().values]
        return {"train": train, "val": val}

    def _store(self, split: str) -> Store:
        if split != "test":
            return self._train
        if self._test is None:
            if self.data.test is None:
                raise BadRequest(f"data set {self.data.name!r} has no test split; leave it sealed")
            self._test = Store(self.data.test, self._arrival, self.device)
        return self._test

    def rows(self, classes: Iterable[int], split: str = "train") -> Tensor:
        """Row ids [n] of some classes, class by class, in file order; `split` is train, val or test."""
        if split == "test":
            labels = self._store("test").y
            parts = [(labels == c).nonzero()[:, 0] for c in classes]
        else:
            parts = [self._rows[split][c] for c in classes]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def labels(self, rows: Tensor, split: str = "train") -> Tensor:
        """Classes [n] of rows, on the CPU."""
        return self._store(split).y[rows]

    def images(self, rows: Tensor, split: str = "train") -> Tensor:
        """[B, C, H, W] normalised, without augmentation, on the device."""
        return self.normalised(self._store(split).gather(rows))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [B, H, W, C] on the device as normalised images [B, C, H, W]."""
        return normalise(pixels, self._scale, self._shift)

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images [B, C, H, W] as the nearest pixels, uint8 [B, H, W, C]."""
        return ((images.permute(0, 2, 3, 1) - self._shift) / self._scale).round().clamp(0, 255).byte()

    def epoch(self, steps: Sequence[Tensor], draws: Draws) -> Iterator[Batch]:
        """The augmented batches of training rows, [B] a step; `draws` are those of all images in order."""
        done = 0
        together = GROUP_BYTES if self.device.type == "cpu" else GPU_BYTES
        groups = _grouped(steps, together // (4 * self.image_bytes))
        for group, (images, y, rows) in zip(
            groups, self._train.stream([torch.cat(g) for g in groups]), strict=True
        ):
            images = apply(images, self.data.augment, draws.at(done, done + len(rows)))
            done += len(rows)
            x, widths = normalise(images, self._scale, self._shift), [len(step) for step in group]
            for x_, y_, rows_ in zip(x.split(widths), y.split(widths), rows.split(widths), strict=True):
                yield Batch(x_, y_, rows=rows_)

    def batches(self, rows: Tensor, split: str = "train") -> Iterator[Batch]:
        """Rows in order, in evaluation batches."""
        for part in rows.split(self.evaluation_batch):
            y = self.labels(part, split).to(self.device)
            yield Batch(self.images(part, split), y, rows=part.to(self.device))

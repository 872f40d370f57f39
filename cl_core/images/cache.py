"""Image files decoded once: uint8 arrays on disk that every worker maps into its memory.

The folder is `$CL_SEARCH_CACHE`, else `$XDG_CACHE_HOME/cl-search`, else `~/.cache/cl-search`. An entry is
found by the digest of its manifest (name, size and time of change of every file) and of the decoding options.
So a changed file or another size makes another entry. It consists of `<key>.train.npy`, perhaps
`<key>.test.npy`, and `<key>.json` with the statistics, the fingerprint and the count of resized images,
written last. A damaged entry is written again. Where the folder is not writable, images are decoded in each
process.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from cl_core.errors import BadRequest, first_line
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Images
from cl_core.images.files import Files, Item
from cl_core.images.pixels import Array, Moments, combine_digests

_FORMAT = 2  # of the entries; another number makes other entries


Decoder = Callable[[bytes, int], tuple[Array, tuple[int, int]]]
"""(bytes of a file, size) -> its image [size, size, 3] uint8, and the width and height that it had."""


@dataclass(frozen=True)
class Decoded:
    """Decoded images: memory-mapped splits, statistics of the training pixels, and the fingerprint.

    `resized` counts the images that had another size; `example` is the first such size.
    """

    train: Images
    test: Images | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    resized: int = 0
    example: str = ""

    def notes(self, spec: DataSpec) -> tuple[str, ...]:
        """Return one line where images were resized and `data.size` is not set."""
        if spec.size is not None or not self.resized:
            return ()
        size = self.train.x.shape[1]
        count = len(self.train) + len(self.test or ())
        many = "all" if self.resized == count else f"{self.resized:,} of"
        return (
            f"data.size is not given, so images become {size}x{size} pixels: {many} {count:,} have another "
            f"size, such as {self.example}. Set data.size to change that.",
        )


def cache_folder() -> Path:
    """Return the folder of decoded images."""
    if chosen := os.environ.get("CL_SEARCH_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "cl-search"


def decoded(
    files: Files,
    train: Sequence[Item],
    test: Sequence[Item] | None,
    class_names: Sequence[str],
    size: int,
    decode: Decoder,
    options: Mapping[str, str | int],
) -> Decoded:
    """The images of `train` and `test` as [N, size, size, 3] uint8, from the cache or decoded now.

    `options` names everything besides `size` that the result of `decode` depends on. Several processes that
    need the same images decode them once. Raises BadRequest naming a file that is missing or is not an image.
    """
    splits = {"train": train} if test is None else {"train": train, "test": test}
    work = _Work(files, splits, class_names, size, decode)
    base = cache_folder()
    key = work.key(options)
    if (found := _open(base, key, work)) is not None:
        return found
    try:
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / f"{key}.lock"):
            if (found := _open(base, key, work)) is not None:  # another process was first
                return found
            _write(base, key, work)
    except (OSError, NotImplementedError):  # read-only, full, or without locks: decode in memory
        return work.in_memory()
    return _open(base, key, work) or work.in_memory()


@dataclass(frozen=True)
class _Work:
    """The image files of one entry, and their decoding."""

    files: Files
    splits: Mapping[str, Sequence[Item]]
    class_names: Sequence[str]
    size: int
    decode: Decoder

    @cached_property
    def labels(self) -> dict[str, Array]:
        return {name: np.array([i.label for i in items], np.int64) for name, items in self.splits.items()}

    def shape(self, split: str) -> tuple[int, int, int, int]:
        return len(self.splits[split]), self.size, self.size, 3

    def key(self, options: Mapping[str, str | int]) -> str:
        """The digest of the manifest."""
        sha = hashlib.sha256(json.dumps([_FORMAT, self.size, dict(options), list(self.class_names)]).encode())
        for split, items in self.splits.items():
            sha.update(f"\n{split} {len(items)}".encode())
            for part in in_batches(self._stamps, items, batch=500, quick=5e-5):
                sha.update(part)
        return sha.hexdigest()[:32]

    def in_memory(self) -> Decoded:
        arrays: dict[str, Array] = {}
        described = {}
        for split in self.splits:
            array = arrays[split] = np.empty(self.shape(split), np.uint8)
            at = 0

            def put(part: Array, array: Array = array) -> None:
                nonlocal at
                array[at : at + len(part)] = part
                at += len(part)

            described[split] = self.run(split, put)
        return self.result(arrays, self.summary(described))

    def run(self, split: str, put: Callable[[Array], object]) -> tuple[str, Moments, list[str]]:
        """Decode a split in order, and hand it to `put` part by part.

        Return its pixel digest, its moments, and the sizes of the images that have another than the wanted.
        """
        sha, moments, others = hashlib.sha256(), Moments(), list[str]()
        parts = in_batches(self._images, self.splits[split], batch=64, quick=6e-4)
        for part, its_moments, its_others in parts:
            sha.update(part.data)
            moments.merge(its_moments)
            others += its_others
            put(part)
        return sha.hexdigest(), moments, others

    def summary(self, described: Mapping[str, tuple[str, Moments, list[str]]]) -> dict[str, Any]:
        """Return the JSON values stored beside the arrays."""
        mean, std = described["train"][1].statistics()
        parts = [(self.shape(split), found[0], self.labels[split]) for split, found in described.items()]
        others = [size for *_, found in described.values() for size in found]
        return {
            "mean": mean,
            "std": std,
            "fingerprint": combine_digests(parts, self.class_names),
            "resized": len(others),
            "example": next(iter(others), ""),
        }

    def result(self, arrays: Mapping[str, Array], summary: Mapping[str, Any]) -> Decoded:
        splits = {split: Images(x, self.labels[split]) for split, x in arrays.items()}
        mean, std = tuple(summary["mean"]), tuple(summary["std"])
        return Decoded(
            splits["train"],
            splits.get("test"),
            mean,
            std,
            summary["fingerprint"],
            int(summary["resized"]),
            str(summary["example"]),
        )

    def _stamps(self, items: Sequence[Item]) -> bytes:
        lines = []
        for item in items:
            try:
                lines.append(json.dumps([item.name, item.label, *self.files.stamp(item.name)]))
            except (OSError, KeyError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not in the archive"
                raise BadRequest(
                    f"{self.files.where(item.name)} cannot be read ({reason}): restore or remove it"
                ) from error
        return "\n".join(lines).encode()

    def _images(self, items: Sequence[Item]) -> tuple[Array, Moments, list[str]]:
        out = np.empty((len(items), self.size, self.size, 3), np.uint8)
        others = []
        for i, item in enumerate(items):
            try:
                out[i], own = self.decode(self.files.read(item.name), self.size)
            except Exception as error:  # Pillow's readers raise almost anything on broken files
                where = self.files.where(item.name)
                raise BadRequest(
                    f"{where} is not a readable image ({first_line(error)}): repair or remove it"
                ) from error
            if own != (self.size, self.size):
                others.append(f"{own[0]}x{own[1]}")
        moments = Moments()
        moments.add(out)
        return out, moments, others


def in_batches(
    function: Callable[[Sequence[Item]], Any], items: Sequence[Item], batch: int, quick: float
) -> Iterator[Any]:
    """`function` of each batch of items, in order; the next ones run meanwhile in threads.

    How many threads is measured: an item that takes less than `quick` seconds keeps Python's lock for most of
    its time, and several threads would only pass the lock around (twice as slow for images of 32 x 32). Large
    images are decoded, and slow disks waited for, without it.
    """
    batches = (items[start : start + batch] for start in range(0, len(items), batch))
    took = 0.0
    for part in itertools.islice(batches, 2):  # the first one also pays for imports, so the second one counts
        wall, own = time.perf_counter(), time.thread_time()
        result = function(part)
        # Waiting counts half: on a busy machine some of it is for a processor, not for the disk.
        wall, own = time.perf_counter() - wall, time.thread_time() - own
        took = max(own, wall / 2) / len(part)
        yield result
    if len(items) <= 2 * batch:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores if took > quick else 1
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Any]] = deque()
    try:
        for part in batches:
            waiting.append(pool.submit(function, part))
            if len(waiting) > 2 * threads:  # bounds what is held in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write(base: Path, key: str, work: _Work) -> None:
    """Decode into files aside and give them their names, the description last. The lock is held."""
    described = {}
    aside = {split: base / f".{key}.{split}.npy" for split in work.splits}
    try:
        for split, path in aside.items():
            with path.open("wb") as file:  # not a memory map: a full disk must be an error, not a signal
                header = {"descr": "|u1", "fortran_order": False, "shape": work.shape(split)}
                np.lib.format.write_array_header_1_0(file, header)
                described[split] = work.run(split, partial(_put, file))
        for split, path in aside.items():
            path.replace(base / f"{key}.{split}.npy")
        note = base / f".{key}.json"
        note.write_text(json.dumps(work.summary(described)))
        note.replace(base / f"{key}.json")
    finally:
        for path in aside.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _put(file: BinaryIO, part: Array) -> None:
    file.write(part.data)


def _open(base: Path, key: str, work: _Work) -> Decoded | None:
    """The entry, or None if it is not there or does not fit."""
    try:
        summary = json.loads((base / f"{key}.json").read_text())
        arrays: dict[str, Array] = {}
        for split in work.splits:
            path = base / f"{key}.{split}.npy"
            # Copy on write: torch wants writable memory, and nothing written to it reaches the file.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            if array.shape != work.shape(split) or array.dtype != np.uint8:
                return None
            if path.stat().st_size != array.offset + array.nbytes:
                return None
            arrays[split] = array
        return work.result(arrays, summary)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None

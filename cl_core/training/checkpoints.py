"""The checkpoint store: the state after finished tasks, one file each.

A checkpoint is one safetensors file `<root>/<key>.safetensors`: tensors, and in its metadata the plain
values of its training. It is written to a temporary file and renamed, so a reader finds all of it or
nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cl_core.aside import aside
from cl_core.errors import RunError, first_line

DAMAGED = "damaged"  # the folder in a store for files that are not as they were written


class Checkpoint(NamedTuple):
    """The tensors saved after a task, with the record of the training."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]  # plain values


class Copies(Protocol):
    """Copies of a store's files outside of this machine. Methods raise ClSearchError."""

    def has(self, name: str) -> bool:
        """Tell whether there is a copy of a file."""

    def fetch(self, path: Path) -> None:
        """Bring a file, if there is a copy of it."""

    def send(self, path: Path) -> None:
        """Make a copy of a file."""

    def remove(self, *names: str) -> None:
        """Remove the copies of files."""

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of the copies by the names of their files."""


class CheckpointStore:
    """Checkpoints below one folder, which several processes may share.

    With `most_bytes` those that were least recently used go when the folder holds more: whoever needs one
    again trains it again. With `copies` the folder is a cache of them, and `most_bytes` bounds the cache.
    """

    def __init__(self, root: Path, most_bytes: int | None = None, copies: Copies | None = None) -> None:
        self.root, self.most_bytes, self.copies = root, most_bytes, copies

    def path(self, key: str) -> Path:
        """Return the path of a checkpoint. Keys are hexadecimal digests, so no path leaves the folder."""
        if not re.fullmatch(r"[0-9a-f]{16,64}", key):
            raise ValueError(f"a checkpoint key is a hexadecimal digest, not {key!r}")
        return self.root / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        path = self.path(key)
        return path.exists() or (self.copies is not None and self.copies.has(path.name))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every checkpoint by its key."""
        sizes = {} if self.copies is None else dict(self.copies.sizes())
        sizes |= {path.name: path.stat().st_size for path in self.root.glob("*.safetensors")}
        return {name.removesuffix(".safetensors"): size for name, size in sorted(sizes.items())}

    def load(self, key: str) -> Checkpoint | None:
        """Return the checkpoint, or None. A damaged file counts as none: it is set aside, a line says so."""
        path = self.path(key)
        if self.copies is not None and not path.exists():
            self.copies.fetch(path)
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if _digest(tensors, metadata["checkpoint"]) != metadata["digest"]:
                    raise ValueError("its checksum does not fit")
                meta = json.loads(metadata["checkpoint"])
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            self._set_aside(path, first_line(error))
            return None
        if self.most_bytes is not None:
            with contextlib.suppress(OSError):  # it is gone by now, or belongs to another user
                os.utime(path)  # it was used now
        return Checkpoint(tensors, meta)

    def _set_aside(self, path: Path, reason: str) -> None:
        target = self.root / DAMAGED / path.name
        with contextlib.suppress(OSError):  # another process may do the same
            target.parent.mkdir(exist_ok=True)
            path.replace(target)
        print(
            f"{path} was damaged ({reason}): it is in {target.parent} now, and its task is trained again",
            file=sys.stderr,
            flush=True,
        )

    def save(self, key: str, checkpoint: Checkpoint) -> None:
        """Save a checkpoint. Raises RunError where the disk refuses it."""
        meta = json.dumps(checkpoint.meta)
        metadata = {"checkpoint": meta, "digest": _digest(checkpoint.tensors, meta)}
        try:
            with aside(self.path(key)) as path:
                save_file(checkpoint.tensors, path, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"checkpoints must be writable: {self.root}: {error}; free space and run again"
            ) from error
        if self.copies is not None:
            self.copies.send(self.path(key))
        if self.most_bytes is not None:
            self._make_room(self.most_bytes, self.path(key))

    def _make_room(self, most: int, newest: Path) -> None:
        """Remove the least recently used checkpoints beyond `most` bytes, but never the newest."""
        files = []
        for path in self.root.glob("*.safetensors"):
            with contextlib.suppress(OSError):  # another process removes as well
                stat = path.stat()
                files.append((path == newest, stat.st_mtime_ns, stat.st_size, path))
        held = sum(size for _, _, size, _ in files)
        for _, _, size, path in sorted(files)[:-1]:
            if held <= most:
                break
            with contextlib.suppress(OSError):  # it belongs to another user
                path.unlink(missing_ok=True)
                held -= size

    def remove(self, key: str) -> None:
        """Remove a checkpoint and its lock. Its folder stays, since another process may write there."""
        for path in (self.path(key), self.path(key).with_suffix(".lock")):
            path.unlink(missing_ok=True)
        if self.copies is not None:
            self.copies.remove(self.path(key).name)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of a checkpoint while training it. It is released when the process dies."""
        path = self.path(key).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield


@dataclass(frozen=True)
class ResumeCheckpoints:
    """The store of a run's resume checkpoints. `scope` keeps those of equal runs apart.

    With `every` a task in training is saved as well, at ends of epochs that are as many seconds apart at
    least. `ends` gives the Unix time at which running work is given up; None while there is none.
    """

    store: CheckpointStore
    scope: str = ""  # the run's name
    every: float | None = None
    ends: Callable[[], float | None] = lambda: None


def _digest(tensors: dict[str, Tensor], meta: str) -> str:
    """Return the checksum of a checkpoint: of its tensors and of the values beside them."""
    return hashlib.sha256(f"{network_digest(tensors)} {meta}".encode()).hexdigest()[:20]


def network_digest(tensors: dict[str, Tensor]) -> str:
    """Return a digest of the bits of named tensors."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()[:20]

"""The store of checkpoints: saved, damaged, removed and locked files."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import cl_core.training.checkpoints
from cl_core.errors import RunError
from cl_core.hparams import digest
from cl_core.training.checkpoints import Checkpoint, CheckpointStore

KEY = digest("a checkpoint")
OTHER = digest("another")


def _checkpoint(value: float = 1.0) -> Checkpoint:
    tensors = {
        "weight": torch.full((3, 2), value),
        "count": torch.tensor(4),
        "empty": torch.empty(0, dtype=torch.int64),
    }
    return Checkpoint(tensors, {"images": 5, "phases": [{"term": "ce", "value": 0.1}], "none": None})


def _files(root: Path) -> list[str]:
    return sorted(p.name for p in root.rglob("*") if p.is_file())


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    assert KEY not in store
    assert store.load(KEY) is None
    store.save(KEY, _checkpoint())
    assert KEY in store
    loaded = store.load(KEY)
    assert loaded is not None
    assert loaded.meta == _checkpoint().meta
    assert loaded.tensors.keys() == _checkpoint().tensors.keys()
    for name, tensor in _checkpoint().tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype
    assert _files(tmp_path) == [f"{KEY}.safetensors"]


def test_saving_again_replaces(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(KEY, _checkpoint(1.0))
    store.save(KEY, _checkpoint(2.0))
    loaded = store.load(KEY)
    assert loaded is not None
    assert loaded.tensors["weight"].unique().tolist() == [2.0]


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_save_that_dies_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = CheckpointStore(tmp_path)

    def die(*args: Any, **kwargs: Any) -> None:
        if moment == "write":
            Path(args[1]).write_bytes(b"half a fi")
        raise OSError(28, "No space left on device")

    if moment == "write":
        monkeypatch.setattr(cl_core.training.checkpoints, "save_file", die)
    else:
        monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(RunError, match=r"checkpoints must be writable: .*No space left") as caught:
        store.save(KEY, _checkpoint())
    assert "\n" not in str(caught.value)
    assert KEY not in store
    assert _files(tmp_path) == []


def test_what_lies_aside_is_no_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(KEY, _checkpoint())
    path = store.path(KEY)
    path.rename(path.with_name(f".{KEY}.123"))
    assert KEY not in store
    assert store.load(KEY) is None


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_damaged_file_counts_as_none_and_is_set_aside(
    tmp_path: Path, length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(KEY, _checkpoint())
    path = store.path(KEY)
    path.write_bytes(path.read_bytes()[:length])
    assert store.load(KEY) is None
    assert KEY not in store
    assert f"{path} was damaged (" in (said := capsys.readouterr().err)
    assert f"it is in {tmp_path / 'damaged'} now, and its task is trained again" in said
    assert (tmp_path / "damaged" / path.name).exists()
    store.save(KEY, _checkpoint())
    assert store.load(KEY) is not None


@pytest.mark.parametrize("content", [b"not a tensor", b"\xff" * 300, b"\x02\0\0\0\0\0\0\0{}"])
def test_another_kind_of_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    store = CheckpointStore(tmp_path)
    store.save(KEY, _checkpoint())
    store.path(KEY).write_bytes(content)
    assert store.load(KEY) is None


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(KEY, _checkpoint())
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> Any:
            return trap.touch, ()

    torch.save(Trap(), store.path(KEY))
    assert store.load(KEY) is None
    assert not trap.exists()


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "", "short", "A" * 20, "0" * 100, f"../{KEY}", f"{KEY}/x", f"{KEY}\n"]
)
def test_no_key_leaves_the_folder(tmp_path: Path, key: str) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    for use in (store.load, store.path, store.remove, lambda k: store.save(k, _checkpoint())):
        with pytest.raises(ValueError, match="hexadecimal"):
            use(key)
    assert list(tmp_path.iterdir()) == []


def test_every_key_lies_below_the_root(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).path(KEY)
    assert path == tmp_path / f"{KEY}.safetensors"


def test_removing_takes_checkpoint_and_lock_and_nothing_else(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    neighbour = KEY[:2] + OTHER[2:]
    for key in (KEY, neighbour):
        store.save(key, _checkpoint())
        with store.lock(key):
            pass
    store.remove(KEY)
    store.remove(KEY)
    assert KEY not in store
    assert neighbour in store
    assert not [name for name in _files(tmp_path) if name.startswith(KEY)]


def test_removing_a_checkpoint_does_not_pull_the_folder_from_under_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, neighbour = CheckpointStore(tmp_path), KEY[:2] + OTHER[2:]
    store.save(neighbour, _checkpoint())
    write = cl_core.training.checkpoints.save_file

    def interrupted(*args: Any, **kwargs: Any) -> None:
        store.remove(neighbour)  # another run ends between this one's mkdir and its write
        write(*args, **kwargs)

    monkeypatch.setattr(cl_core.training.checkpoints, "save_file", interrupted)
    store.save(KEY, _checkpoint())
    assert KEY in store


def test_only_one_at_a_time_holds_a_checkpoint(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        with CheckpointStore(tmp_path).lock(KEY):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    with CheckpointStore(tmp_path).lock(OTHER):  # another checkpoint is free
        pass
    for thread in threads:
        thread.join(10)
    assert most == [1]


def _hold_and_die(root: str, ready: Any) -> None:
    with CheckpointStore(Path(root)).lock(KEY):
        ready.set()
        os._exit(9)


def test_the_lock_of_a_holder_that_died_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_and_die, args=(str(tmp_path), ready))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert ready.is_set()
    started = time.monotonic()
    with CheckpointStore(tmp_path).lock(KEY):
        assert time.monotonic() - started < 5


def test_a_full_store_loses_what_was_used_longest_ago(tmp_path: Path) -> None:
    keys = [digest(n) for n in range(4)]
    plain = CheckpointStore(tmp_path)
    for age, key in enumerate(keys[:3]):
        plain.save(key, _checkpoint())
        os.utime(plain.path(key), (1000 + age, 1000 + age))
    size = plain.path(keys[0]).stat().st_size
    store = CheckpointStore(tmp_path, most_bytes=2 * size)
    assert store.load(keys[0]) is not None  # used now
    store.save(keys[3], _checkpoint())
    assert [key in store for key in keys] == [True, False, False, True]


def test_a_store_keeps_the_newest_checkpoint_however_large(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, most_bytes=1)
    for key in (KEY, OTHER):
        store.save(key, _checkpoint())
    assert KEY not in store
    assert OTHER in store


def test_a_store_of_several_users_serves_what_it_may_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object, **named: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    store = CheckpointStore(tmp_path, most_bytes=1)
    store.save(KEY, _checkpoint())
    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    assert store.load(KEY) is not None
    store.save(OTHER, _checkpoint())
    assert KEY in store
    assert OTHER in store


def test_a_checkpoint_that_goes_while_it_is_loaded_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, most_bytes=1)
    store.save(KEY, _checkpoint())
    digest_of = cl_core.training.checkpoints.network_digest

    def slow(tensors: dict[str, torch.Tensor]) -> str:
        store.remove(KEY)  # another process makes room
        return digest_of(tensors)

    monkeypatch.setattr(cl_core.training.checkpoints, "network_digest", slow)
    assert store.load(KEY) is not None

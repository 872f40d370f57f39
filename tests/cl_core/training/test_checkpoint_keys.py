"""Keys of checkpoints: what decides them, and damaged checkpoints that are trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cl_core.hparams import digest
from cl_core.training.checkpoint_keys import numerics
from cl_core.training.checkpoints import Checkpoint, CheckpointStore, ResumeCheckpoints, network_digest
from cl_core.training.trainer import Training
from tests import tiny

KEY = digest("a checkpoint")


def test_the_digest_of_a_network_follows_names_types_shapes_and_bits() -> None:
    base = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)}
    assert network_digest(base) == network_digest(dict(reversed(base.items())))
    wide = torch.tensor([[1.0, 9.0], [2.0, 9.0]])
    assert network_digest({**base, "a": wide[:, 0]}) == network_digest(base)
    for other in (
        {"c": base["a"], "b": base["b"]},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"][None]},
        {**base, "a": torch.tensor([1.0, 2.0000002])},
        {**base, "a": torch.tensor([1.0, -2.0])},
    ):
        assert network_digest(other) != network_digest(base)
    assert network_digest({"z": torch.tensor(0.0)}) != network_digest({"z": torch.tensor(-0.0)})


def test_numerics_name_what_decides_the_bits() -> None:
    here = numerics(torch.device("cpu"), "float32", 1)
    assert here["torch"] == torch.__version__
    for other in (
        numerics(torch.device("cpu"), "bfloat16", 1),
        numerics(torch.device("cpu"), "float32", 2),
    ):
        assert digest(other) != digest(here)


BASE_CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "validation": {"validation": 0.2},
    "net": {"net": "convnet"},
    "class order": {"class_order": "seed:1"},
    "epochs": {"recipe": {"epochs": 3}},
    "base recipe": {"recipe": {"base": {"lr": 0.01}}},
    "first task": {"scenario": "B4-2tasks"},
    "precision": {"precision": "bfloat16"},
}


SAME_BASE: dict[str, dict[str, Any]] = {
    "later tasks": {"scenario": "B3-inc1"},
    "increment recipe": {"recipe": {"increment": {"lr": 0.01}}},
    "unsealed": {"unsealed": False},
}


@pytest.mark.parametrize("what", BASE_CHANGES)
def test_the_base_key_follows_what_decides_the_first_task(what: str) -> None:
    own = Training(tiny.configuration("lwf"), tiny.data())
    other = Training(tiny.configuration("lwf", **BASE_CHANGES[what]), tiny.data())
    assert other.base_key() != own.base_key()
    assert other.resume_checkpoint_key(0) != own.resume_checkpoint_key(0)


@pytest.mark.parametrize("what", SAME_BASE)
def test_the_base_key_does_not_follow_what_comes_later(what: str) -> None:
    own = Training(tiny.configuration("lwf"), tiny.data())
    other = Training(tiny.configuration("lwf", **SAME_BASE[what]), tiny.data())
    assert other.base_key() == own.base_key()
    assert other.resume_checkpoint_key(1) != own.resume_checkpoint_key(1)


def test_the_classes_that_follow_the_first_task_may_come_in_any_order(tmp_path: Path) -> None:
    order = tmp_path / "order.txt"
    order.write_text("0\n1\n2\n6\n5\n4\n3\n")
    own = Training(tiny.configuration("lwf"), tiny.data())
    other = Training(tiny.configuration("lwf", class_order=str(order)), tiny.data())
    assert other.base_key() == own.base_key()
    assert other.resume_checkpoint_key(1) != own.resume_checkpoint_key(1)


def test_a_change_of_a_pixel_is_another_checkpoint() -> None:
    import dataclasses

    from cl_core.images.dataset import Images

    source = tiny.data()
    x = source.train.x.copy()
    x[0, 0, 0, 0] ^= 1
    changed = dataclasses.replace(source, train=Images(x, source.train.y), fingerprint="")
    own, other = (Training(tiny.configuration("lwf"), d) for d in (source, changed))
    assert other.base_key() != own.base_key()


def test_a_damaged_base_checkpoint_is_trained_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    settings = tiny.configuration("lwf")
    first = tiny.train(settings, store=store)
    path = store.path(first.training.base_key())
    path.write_bytes(path.read_bytes()[:500])
    again = tiny.train(settings, store=store)
    assert not again.results[0].shared
    assert again.traces == first.traces
    assert tiny.train(settings, store=store).results[0].shared


@pytest.mark.parametrize("what", [b"\x7c\x42", b"images"])
def test_a_flipped_bit_in_a_checkpoint_counts_as_none(tmp_path: Path, what: bytes) -> None:
    store = CheckpointStore(tmp_path)
    store.save(KEY, Checkpoint({"w": torch.arange(64.0)}, {"images": 1}))
    content = bytearray(store.path(KEY).read_bytes())
    content[content.rindex(what)] ^= 1  # in the last tensor, or in the values beside them
    store.path(KEY).write_bytes(bytes(content))
    assert store.load(KEY) is None
    assert KEY not in store


def test_equal_runs_of_two_names_do_not_share_their_resume_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    runs = [
        Training(tiny.configuration("lwf"), tiny.data(), store, ResumeCheckpoints(store, t))
        for t in ("a", "b")
    ]
    for run in runs:
        run.next_task()
        run.keep_resume_checkpoint()
    runs[0].forget_resume_checkpoints()
    again = [
        Training(tiny.configuration("lwf"), tiny.data(), store, ResumeCheckpoints(store, t))
        for t in ("a", "b")
    ]
    assert [run.done for run in again] == [0, 1]


def test_the_base_key_follows_the_code_of_a_net_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "from cl_core.nets.convnet import ConvNet\ndef make(s, r): return ConvNet(s[0], 4, r)\n"
    keys = []
    for text in (code, code + "# a comment\n", code + "MORE = 1\n"):
        (tmp_path / "net_with_a_key.py").write_text(text)
        keys.append(Training(tiny.configuration("lwf", net="net_with_a_key:make"), tiny.data()).base_key())
    assert keys[0] == keys[1] != keys[2]


def test_with_a_shared_base_a_resume_checkpoint_follows_the_code_of_a_method_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = (
        "from dataclasses import dataclass\nfrom cl_core.method import Method\nclass Mine(Method):\n"
        "    name = title = paper = equation = paradigm = level = kind = 'mine'\n"
        "    @dataclass(frozen=True)\n    class HP: pass\n    def loss(self, s, b, task): return {}\n"
    )
    keys = []
    for text in (code, code + "# a comment\n", code + "MORE = 1\n"):
        (tmp_path / "method_with_a_key.py").write_text(text)
        settings = tiny.configuration("method_with_a_key:Mine", shared_base=True)
        made = Training(settings, tiny.data())
        keys.append((made.base_key(), made.resume_checkpoint_key(1)))
    assert keys[0] == keys[1]
    assert keys[0][0] == keys[2][0], "the shared first task is that of fine-tuning"
    assert keys[0][1] != keys[2][1]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment
from cl_core.images.loading import load


def test_a_missing_archive_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        load(DataSpec("cifar100", root=str(tmp_path)))
    message = str(caught.value)
    assert str(tmp_path / "cifar-100-python") in message
    assert "--set data.download=true" in message
    assert "--set data.root=" in message


def test_files_that_are_not_the_official_ones_are_not_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)]
    for name in [*names, "test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(BadRequest, match="cannot be used") as caught:
        load(DataSpec("cifar10", root=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_planes_of_the_pickle_become_the_last_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    class Fake:
        classes = ("a", "b")
        targets = (0, 1)

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert not download
            flat = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3, 32, 32) % 251
            self.data = flat.astype(np.uint8).transpose(0, 2, 3, 1)  # as torchvision gives it

    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Fake)
    data = load(DataSpec("cifar10", root=str(tmp_path)))
    assert CIFAR10 is not Fake
    assert data.shape == (3, 32, 32)
    assert data.train.x[0, 0, 1].tolist() == [1, (1024 + 1) % 251, (2048 + 1) % 251]
    assert data.train.x.flags.c_contiguous
    assert data.augment == Augment(crop=4, flip=True)
    assert data.net == "resnet32"
    assert data.recipe == {"epochs": 100, "batch": 128, "lr": 0.1}
    assert data.mean == (0.4914, 0.4822, 0.4465)

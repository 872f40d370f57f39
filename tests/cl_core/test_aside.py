"""Files written aside: whole or not at all, and with the permissions of any other new file."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cl_core.aside import aside
from cl_core.model.model import save_model
from cl_core.training.checkpoints import Checkpoint, CheckpointStore
from tests import tiny


def _stage(folder: Path) -> Path:
    store = CheckpointStore(folder)
    store.save("ab" * 10, Checkpoint({"a": torch.zeros(2)}, {}))
    return store.path("ab" * 10)


def _model(folder: Path) -> Path:
    save_model(folder / "m.safetensors", tiny.run("finetune").training, {})
    return folder / "m.safetensors"


def _text(folder: Path) -> Path:
    with aside(folder / "a.txt") as hidden:
        hidden.write_text("a")
    return folder / "a.txt"


@pytest.mark.parametrize("write", [_stage, _model, _text])
def test_a_file_has_the_permissions_of_any_other_new_file(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (write(tmp_path), tmp_path / "other")}
    assert len(modes) == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.ones(1)}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError), aside(path) as hidden:
        hidden.write_bytes(None)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]

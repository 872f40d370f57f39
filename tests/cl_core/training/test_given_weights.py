"""Networks that start from given weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cl_core.errors import BadRequest
from cl_core.nets.network import build_network
from cl_core.training.trainer import Training
from cl_core.training.weights import load_init
from tests import tiny


@pytest.mark.parametrize("stem", ["backbone.", ""])
def test_a_run_may_start_from_given_weights(tmp_path: Path, stem: str) -> None:
    donor = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 5)
    path = tmp_path / "weights.safetensors"
    save_file({f"{stem}{name}": t for name, t in donor.backbone.state_dict().items()}, path)
    training = Training(tiny.configuration("finetune", init=str(path)), tiny.data())
    for name, t in training.state.net.backbone.state_dict().items():
        assert torch.equal(t, donor.backbone.state_dict()[name])
    assert training.base_key() != Training(tiny.configuration("finetune"), tiny.data()).base_key()
    copied = tmp_path / "elsewhere.safetensors"
    copied.write_bytes(path.read_bytes())
    other = Training(tiny.configuration("finetune", init=str(copied)), tiny.data())
    assert other.base_key() == training.base_key()


def test_joint_restarts_from_given_weights(tmp_path: Path) -> None:
    donor = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 5)
    path = tmp_path / "weights.safetensors"
    save_file({f"backbone.{name}": t for name, t in donor.backbone.state_dict().items()}, path)
    training = Training(tiny.configuration("joint", init=str(path)), tiny.data())
    fresh = training.state.fresh().backbone.state_dict()
    assert all(torch.equal(t, donor.backbone.state_dict()[name]) for name, t in fresh.items())


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 0)
    absent, text, wrong = (tmp_path / n for n in ("absent", "text", "wrong.safetensors"))
    text.write_text("not tensors")
    save_file({"backbone.convs.0.weight": torch.zeros(2)}, wrong)
    for path, rule in ((absent, "readable"), (text, "readable safetensors"), (wrong, "this backbone")):
        with pytest.raises(BadRequest, match=f"init must .*{rule}") as caught:
            load_init(net, str(path))
        assert "\n" not in str(caught.value)

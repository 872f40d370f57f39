"""Nets that LwM trains, and those that it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor, nn

from cl_core.errors import BadRequest
from cl_core.nets.network import NETS
from cl_core.training.checks import check
from cl_core.training.trainer import Training
from tests import tiny
from tests.cl_core.methods.lwm_inputs import LwM


class _Pooling(nn.Module):
    """A convolution whose features are the maximum of its map, or that gives no map."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 4, 3), kind

    def forward(self, x: Tensor) -> Any:
        a = self.conv(x).relu()
        if self.kind == "no maps":
            return a.mean(dim=(2, 3))
        if self.kind == "maximum":
            return a.amax(dim=(2, 3)), (a,)
        if self.kind == "wider":
            return a.mean(dim=(2, 3)).repeat(1, 2), (a,)
        return a.mean(dim=(2, 3)), (a,)


@pytest.fixture(params=["average", "maximum", "no maps", "wider"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """A kind of pooling; the net "pooling" has it."""
    with NETS.temporarily():
        NETS.register("pooling")(lambda shape, last_relu: _Pooling(request.param))
        yield request.param


def test_a_net_that_pools_otherwise_is_refused_before_training(kind: str) -> None:
    settings = tiny.configuration("lwm", net="pooling")
    if kind == "average":
        training = Training(settings, tiny.data())
        assert training.next_task().task == 0
        assert training.next_task().task == 1
        return
    with pytest.raises(BadRequest, match="lwm needs a net whose features are the average") as caught:
        check(settings, tiny.data())
    assert "\n" not in str(caught.value)
    # Nothing of the net is asked for where no map is compared.
    check(tiny.configuration("lwm", {"distill": False}, net="pooling"), tiny.data())


@pytest.mark.parametrize("net", ["convnet", "convnet-small", "resnet32", "resnet18"])
def test_every_net_of_ours_will_do(net: str) -> None:
    check(tiny.configuration("lwm", net=net), tiny.data())


def test_one_new_class_is_recorded_as_a_fallback() -> None:
    task = tiny.task(3, 1)
    assert LwM({}).note(task) is not None
    assert LwM({"ce_scope": "all_seen"}).note(task) is None

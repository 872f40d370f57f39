"""The work of an answer: floating-point operations of one image, counted by torch's own formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cl_core.nets.network import Network, Shape


class _Counter(TorchDispatchMode):
    # FlopCounterMode also hooks every module of the process, and other runs may train in its threads.

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True imports torch's compiler at the first operation, in the seconds of the first task.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def flops_of(nets: Sequence[Network], shape: Shape) -> int:
    """Return the floating-point operations of one image [C, H, W] through some networks.

    Matrix products, convolutions and attention count, two operations for a multiplication and an addition;
    norms, activations and pooling do not. The networks keep their mode.
    """
    total = 0
    for net in nets:
        was_training = net.training
        net.eval()
        with torch.enable_grad(), _Counter() as counter:
            # Without a gradient, torch's transformer layers are one kernel, for which there is no formula.
            image = torch.zeros(1, *shape, device=next(net.parameters()).device, requires_grad=True)
            net(image.clone())
        net.train(was_training)
        total += counter.total
    return total

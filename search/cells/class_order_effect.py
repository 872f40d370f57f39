"""Effects of class orders, taken out of the values of trials that train on different ones.

Where trials are spread over class orders, the first ones have the published default on each. The difference
of their values is the effect of an order. It is larger than what most hyperparameters change: a standard
deviation of .05 on recorded cells (tests/search/replay). Without it the sampler would see, and the
confirmation get, the trials of the easiest order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cl_core.metrics import METRICS
from cl_core.records import trained_by


def effect(
    number: int,
    measured: Callable[[int], Sequence[float] | None],
    turns: int,
    objectives: Mapping[str, str],
) -> tuple[float, ...]:
    """Return what the class order of a trial adds to each objective, against that of trial 0.

    `measured` gives the objectives of a trial by number; None if it has not completed. The effect is 0 for a
    cost, and where the default has not completed on one of the two class orders.
    """
    here, first = measured(trained_by(number) % turns), measured(0)
    if here is None or first is None:
        return (0.0,) * len(objectives)
    pairs = zip(objectives, here, first, strict=True)
    return tuple(a - b if name in METRICS else 0.0 for name, a, b in pairs)

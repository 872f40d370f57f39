"""A change of the trainer that changes numbers must be meant.

`golden.json` holds, for one tiny run of every method and family, the loss of every epoch and the norm of
every parameter after every task. They are compared to one part in a thousand, because processors differ in
the last bits. `python -m tests.cl_core.test_golden NAME` records a new method. Without a name it renews all
after a change that is meant; say why in the commit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cl_core.method import METHODS
from tests import tiny

GOLDEN = Path(__file__).with_name("golden.json")
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    **{method: (method, {}) for method in METHODS},
    "icarl-ce": ("icarl", {"loss": "ce"}),
    "lwf-per-task": ("lwf", {"kd_softmax": "per_task", "train_old_head": False, "warmup": 0.5}),
    "replay-separated": ("replay", {"softmax": "separated", "budget": "total"}),
    "bic-per-task": ("bic", {"bias_layers": "per_task"}),
}


def digest(name: str) -> list[dict[str, dict[str, float]]]:
    """Losses and norms of a tiny run, task by task."""
    method, hp = RUNS[name]
    finished = tiny.run(method, hp)
    out = []
    for result, state in zip(finished.results, finished.states, strict=True):
        losses = {f"{p.phase} {p.epoch} {p.term}": float(f"{p.value:.6g}") for p in result.phases}
        norms = {n: float(f"{t.double().norm():.6g}") for n, t in state.items() if t.is_floating_point()}
        out.append({"losses": losses, "norms": norms})
    return out


@pytest.mark.parametrize("name", RUNS)
def test_losses_and_norms_are_those_on_record(name: str) -> None:
    recorded = json.loads(GOLDEN.read_text())
    assert name in recorded, f"record it: python -m tests.cl_core.test_golden {name}"
    found = digest(name)
    assert len(found) == len(recorded[name])
    for task, (a, b) in enumerate(zip(found, recorded[name], strict=True)):
        for part in ("losses", "norms"):
            assert a[part].keys() == b[part].keys(), f"task {task}"
            for key, value in a[part].items():
                assert value == pytest.approx(b[part][key], rel=1e-3, abs=1e-4), f"task {task}: {key}"


def test_nothing_is_on_record_that_is_not_run() -> None:
    assert set(json.loads(GOLDEN.read_text())) == set(RUNS)


if __name__ == "__main__":
    recorded = json.loads(GOLDEN.read_text())
    renewed = {name: digest(name) for name in sys.argv[1:] or RUNS}
    every = {name: renewed.get(name, recorded.get(name)) for name in RUNS}
    GOLDEN.write_text(json.dumps(every, indent=1) + "\n")
    print(f"{len(renewed)} runs recorded in {GOLDEN}")

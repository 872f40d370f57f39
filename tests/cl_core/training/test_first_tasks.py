"""A run of the first tasks is the whole run so far."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.trainer import Training
from tests import tiny


@pytest.mark.parametrize("method", ["icarl", "il2a"])
@pytest.mark.parametrize("until", [1, 2, 3])
def test_a_run_of_the_first_tasks_is_the_whole_run_so_far(method: str, until: int) -> None:
    finished = tiny.train(tiny.configuration(method, until=until))
    assert finished.training.tasks == until == len(finished.results)
    assert finished.training.sizes == tiny.SIZES
    assert finished.traces == tiny.run(method).traces[:until]
    assert [r.checkpoint for r in finished.results] == [
        r.checkpoint for r in tiny.run(method).results[:until]
    ]


def test_a_run_of_the_first_tasks_goes_on_as_the_whole_run(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    tiny.train(tiny.configuration("lwf", until=2), store=store, resume=True)
    whole = Training(tiny.configuration("lwf"), tiny.data(), store, ResumeCheckpoints(store))
    assert whole.done == 2
    assert tiny.trace(whole.next_task()) == tiny.run("lwf").traces[2]

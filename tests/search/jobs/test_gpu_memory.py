"""Runs that ask for more memory than their GPU has left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis import equal
from analysis.lake.run_rows import run_rows
from cl_core.training.trainer import Training
from search.backends.local import run_local
from search.jobs.dispatcher import Dispatcher
from search.remote.token import token
from search.worker.job import NO_MEMORY, Job
from search.worker.node_check import unfit_for
from search.worker.worker import Worker
from tests.search.jobs_by_hand import RUN, StandIn, dispatching, jobs, one_job, workspace

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let torch run out of memory in the tasks of the list, once each; -1 is a base checkpoint."""
    tasks: list[int] = []
    train, train_base = Training.next_task, Training.train_base

    def base(training: Training) -> None:
        if -1 in tasks:
            tasks.remove(-1)
            raise torch.OutOfMemoryError(MESSAGE)
        train_base(training)

    def next_task(training: Training):  # type: ignore[no-untyped-def]
        if training.done in tasks:
            tasks.remove(training.done)
            raise torch.OutOfMemoryError(MESSAGE)
        return train(training)

    monkeypatch.setattr(Training, "next_task", next_task)
    monkeypatch.setattr(Training, "train_base", base)
    return tasks


def _carry_out(driver: Dispatcher) -> list[Job]:
    """Carry out all jobs in this process, as Ray's workers would; return them as they were handed out."""
    handed = []
    while (job := driver.next()) is not None:
        handed.append(job)
        worker = Worker(job, driver.space)
        answer = worker.step()
        while not driver.answer(answer) and not answer.done:
            answer = worker.step()
        worker.close()
    return handed


def test_a_run_that_finds_its_gpu_full_continues_with_a_larger_part(tmp_path: Path, full: list[int]) -> None:
    said: list[str] = []
    queue = StandIn(jobs("0", "1"))
    driver = Dispatcher(queue, workspace(tmp_path / "run"), say=said.append)  # type: ignore[arg-type]
    driver.gpu = 0.25
    full.extend([2, 3])
    handed = _carry_out(driver)
    assert [(job.id[-1], job.gpu) for job in handed] == [("0", 0.25), ("0", 0.5), ("0", 1.0), ("1", 1.0)]
    assert said[0] == (
        f"{RUN} ran out of GPU memory beside other runs: from now on a run gets 0.5 of a GPU. "
        "Set resources.gpu to 0.5."
    )
    log = (tmp_path / "run" / "logs").rglob("*0.log")
    assert "resumed after task 2 of 5" in next(log).read_text()
    run_local(dispatching(StandIn(jobs("0", "1")), tmp_path / "whole"))
    assert equal(tmp_path / "run", tmp_path / "whole"), equal(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_has_the_gpu_for_itself_fails_alone_and_says_the_remedy(
    tmp_path: Path, full: list[int]
) -> None:
    driver = dispatching(StandIn(jobs("0", "1")), tmp_path)
    driver.gpu = 1.0
    full.append(1)
    _carry_out(driver)
    rows = run_rows(tmp_path)
    assert [rows[run]["status"] for run in sorted(rows)] == ["failed", "completed"]
    assert rows[RUN]["error"] == (
        "the GPU must hold the run (CUDA out of memory): lower recipe.batch, or raise resources.gpu"
    )


def test_a_base_checkpoint_that_finds_its_gpu_full_is_trained_again(tmp_path: Path, full: list[int]) -> None:
    (run,) = jobs("0")
    queue = StandIn([Job("base", "base/0", run.spec)])
    driver = dispatching(queue, tmp_path)
    driver.gpu = 0.5
    full.append(-1)
    assert [job.gpu for job in _carry_out(driver)] == [0.5, 1.0]
    assert queue.told == [("done", "base/0", "completed", None)]


def test_a_gpu_that_other_runs_have_filled_is_no_fault_of_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(*size: int, device: str = "cpu") -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    monkeypatch.setattr(torch, "zeros", zeros)
    space = workspace(tmp_path)
    with token(space.folder, space.checkpoints) as name:
        there, job = replace(space, token=name), one_job(device="cuda")
        assert unfit_for(replace(job, gpu=0.25), there) is None
        assert "CUDA error: out of memory" in str(unfit_for(replace(job, gpu=1.0), there))


def test_memory_that_cuda_refuses_counts_as_that_of_the_allocator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def next_task(training: Training) -> None:
        raise torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    monkeypatch.setattr(Training, "next_task", next_task)
    worker = Worker(replace(one_job(), gpu=0.5), workspace(tmp_path))
    assert worker.step().status == NO_MEMORY
    assert run_rows(tmp_path) == {}

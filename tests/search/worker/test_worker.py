"""The worker: a task a step, its answers, and the rows of runs that fail, stop or cannot begin."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analysis.lake.checksums import Damaged
from analysis.lake.run_folder import RESUME, SCHEMA, log_file, table_folder
from analysis.lake.run_rows import run_rows
from cl_core.images.data_spec import DataSpec
from cl_core.state import same_tensors
from search.worker import worker as worker_module
from search.worker.ending import announce_end, withdraw_end
from search.worker.job import Answer, Job
from search.worker.worker import Worker, end_run
from tests.search.jobs_by_hand import RUN, one_job, spec, workspace


def test_a_job_and_an_answer_survive_pickling(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    answer = Answer("a/0", 1, 5, (0.5,), "running", None, 0.25)
    for sent in (one_job(), space, answer):
        assert pickle.loads(pickle.dumps(sent)) == sent
    assert not answer.done
    assert Answer("a/0", 4, 5, (0.5,), "completed").done


def test_a_worker_trains_a_task_a_step_on_the_threads_of_the_run(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        worker = Worker(one_job(), workspace(tmp_path))
        answers = [worker.step() for _ in range(5)]
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert [(a.task, a.status) for a in answers] == [(t, "running") for t in range(4)] + [(4, "completed")]
    assert run_rows(tmp_path)[RUN]["status"] == "completed"
    assert "4 of 5 tasks, objective" in log_file(tmp_path, RUN).read_text()


def test_a_worker_that_resumes_answers_first_for_the_last_finished_task(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    first = Worker(one_job(), space)
    said = [first.step() for _ in range(2)][-1]
    again = Worker(one_job(), space)
    assert again.step() == said
    assert again.step().task == 2


@pytest.mark.parametrize("kind", ["run", "base"])
def test_a_job_that_has_to_end_is_left_inside_its_task_and_continues_there(kind: str, tmp_path: Path) -> None:
    job = one_job(kind=kind, recipe={"epochs": 3})
    space = replace(workspace(tmp_path), every=60.0)
    announce_end(tmp_path, 0.0)
    answer = Worker(job, space).step()
    assert (answer.task, answer.status) == (-1, "running")
    assert len(list((tmp_path / RESUME).glob("*.safetensors"))) == 1
    assert "left inside a task" in log_file(tmp_path, RUN).read_text()
    withdraw_end(tmp_path)
    assert Worker(job, space).step().task == 0
    alone = tmp_path / "alone"
    alone.mkdir()
    Worker(job, replace(workspace(alone), every=None)).step()
    found = [next((place / "checkpoints").glob("*.safetensors")) for place in (tmp_path, alone)]
    own, other = (load_file(path) for path in found)
    assert same_tensors(own, other)


def test_what_was_left_inside_a_task_goes_also_where_nothing_is_saved_any_more(tmp_path: Path) -> None:
    job = one_job(recipe={"epochs": 3})
    announce_end(tmp_path, 0.0)
    Worker(job, replace(workspace(tmp_path), every=60.0)).step()
    withdraw_end(tmp_path)
    (left,) = (tmp_path / RESUME).glob("*.safetensors")
    assert Worker(job, replace(workspace(tmp_path), every=None)).step().task == 0
    assert not left.exists()


def test_what_a_run_leaves_inside_a_task_goes_with_its_end(tmp_path: Path) -> None:
    space = replace(workspace(tmp_path), every=60.0)
    announce_end(tmp_path, 0.0)
    Worker(one_job(recipe={"epochs": 3}), space).step()
    end_run(one_job(), space, "failed", "its worker died")
    assert list((tmp_path / RESUME).glob("*.safetensors")) == []


def test_an_unexpected_error_is_a_failed_run_with_a_row_and_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **more: object) -> None:
        raise KeyError("a net of your own may raise anything")

    monkeypatch.setattr(worker_module, "Runner", broken)
    answer = Worker(one_job(), workspace(tmp_path)).step()
    assert answer.status == "failed"
    assert answer.error is not None
    assert answer.error.startswith("KeyError")
    row = run_rows(tmp_path)[RUN]
    assert (row["status"], row["error"]) == ("failed", answer.error)
    assert "Traceback" in log_file(tmp_path, RUN).read_text()


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_damaged_list_of_columns_is_no_failure_of_a_run(how: str, tmp_path: Path) -> None:
    space = workspace(tmp_path)
    path = table_folder(tmp_path, "phases") / SCHEMA
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if how == "flipped":
        path.write_bytes(content)
    with pytest.raises(Damaged, match=r"schema\.parquet is damaged .*: give the command that made"):
        Worker(one_job(), space).step()
    with pytest.raises(Damaged):
        end_run(one_job(), space, "failed", "its worker died")
    assert run_rows(tmp_path) == {}


def test_a_row_is_written_even_for_a_run_that_cannot_begin(tmp_path: Path) -> None:
    lost = one_job(data=DataSpec("cifar10", root=str(tmp_path / "nowhere")))
    end_run(lost, workspace(tmp_path), "failed", "died")
    row = run_rows(tmp_path)["finetune@B0-5tasks/0"]
    assert (row["status"], row["error"], row["dataset"]) == ("failed", "died", "cifar10")


def test_a_base_checkpoint_leaves_no_row(tmp_path: Path) -> None:
    base = Job("base", "base/" + "0" * 20, spec())
    assert Worker(base, workspace(tmp_path)).step().status == "completed"
    assert run_rows(tmp_path) == {}
    assert len(list((tmp_path / "checkpoints").rglob("*.safetensors"))) == 1

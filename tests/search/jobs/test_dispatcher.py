"""The driver's parts without a cluster: jobs, answers, allocation, dispatcher, searcher and scheduler."""

from __future__ import annotations

import copy
import errno
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from analysis.lake.run_folder import log_file
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest, RunError, named_line
from cl_core.images.data_spec import DataSpec
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.configuration import Configuration
from search.backends import allocation
from search.backends.local import run_local
from search.commands.listing import KINDS, listing
from search.commands.train import train
from search.jobs.dispatcher import Dispatcher, StorageError
from search.lake.writer import start_tables, study_schemas
from search.preparation.train_request import TrainRequest, settings
from search.storage.trouble import is_storage, storage_trouble
from search.worker import worker as worker_module
from search.worker.job import NO_STORAGE, Answer, Job, Workspace
from search.worker.logs import checked_run, logged
from search.worker.worker import Worker, end_run
from spaces.resolved.run_spec import RunSpec


def spec(trial: str = "finetune@B0-5tasks/0", **changes: Any) -> RunSpec:
    configuration = Configuration(
        method="finetune",
        data=DataSpec("digits", per_class=20),
        scenario=parse_scenario("B0-5tasks"),
        recipe={"epochs": 1},
        threads=1,
        device="cpu",
    )
    return RunSpec(
        trial, "finetune@B0-5tasks", "finetune", 0, "search", "d" * 16, replace(configuration, **changes)
    )


RUN = "finetune@B0-5tasks/0"


def workspace(folder: Path) -> Workspace:
    start_tables(folder, study_schemas(["finetune"]))
    return Workspace(folder, folder / "checkpoints")


def one_job(run: str = RUN, kind: str = "run", **changes: Any) -> Job:
    return Job(kind, run, spec(run, **changes))


class StandIn:
    """A queue that hands out given jobs one at a time, and remembers their ends."""

    def __init__(self, jobs: list[Job], stop_at: tuple[str, int] | None = None) -> None:
        self.todo, self.stop_at = jobs, stop_at
        self.running: set[str] = set()
        self.halted = False
        self.told: list[tuple[Any, ...]] = []

    @property
    def finished(self) -> bool:
        return not self.todo and not self.running

    def next(self) -> Job | None:
        if not self.todo or self.running:
            return None
        job = self.todo.pop(0)
        self.running.add(job.id)
        return job

    def report(self, trial: str, task: int, increments: float | None) -> bool:
        self.told.append(("report", trial, task))
        return (trial, task) == self.stop_at

    def done(
        self,
        job: str,
        status: str,
        values: Any = (),
        increments: float | None = None,
        error: str | None = None,
    ) -> None:
        self.running.remove(job)
        self.told.append(("done", job, status, error))


def dispatching(queue: StandIn, folder: Path) -> Dispatcher:
    return Dispatcher(queue, workspace(folder))  # type: ignore[arg-type]


def jobs(*names: str) -> list[Job]:
    return [one_job(f"finetune@B0-5tasks/{name}") for name in names]


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


def test_an_unexpected_error_is_a_failed_run_with_a_row_and_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise KeyError("a net of one's own may raise anything")

    monkeypatch.setattr(worker_module, "Runner", broken)
    answer = Worker(one_job(), workspace(tmp_path)).step()
    assert answer.status == "failed"
    assert answer.error is not None
    assert answer.error.startswith("KeyError")
    row = run_rows(tmp_path)[RUN]
    assert (row["status"], row["error"]) == ("failed", answer.error)
    assert "Traceback" in log_file(tmp_path, RUN).read_text()


def test_a_full_disk_is_not_the_failure_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*given: object) -> None:
        raise RunError("a checkpoint must be writable")

    monkeypatch.setattr(worker_module, "Runner", diverges)
    monkeypatch.setattr(worker_module, "storage_trouble", lambda folder: "No space left on device")
    cells = StandIn(jobs("0", "1"))
    with pytest.raises(StorageError, match="No space left on device"):
        run_local(dispatching(cells, tmp_path))
    assert run_rows(tmp_path) == {}
    assert cells.told == []


def test_a_stopped_run_gets_its_row_from_the_driver(tmp_path: Path) -> None:
    cells = StandIn(jobs("0", "1"), stop_at=("finetune@B0-5tasks/0", 1))
    run_local(dispatching(cells, tmp_path))
    rows = run_rows(tmp_path)
    assert [(r["status"], r["tasks_done"]) for _, r in sorted(rows.items())] == [
        ("stopped", 2),
        ("completed", 5),
    ]
    assert ("done", "finetune@B0-5tasks/0", "stopped", None) in cells.told
    assert rows["finetune@B0-5tasks/0"]["average_incremental_accuracy"] is not None
    assert len(list((tmp_path / "checkpoints").rglob("*.safetensors"))) == 1  # the base checkpoint alone


def test_a_run_whose_worker_is_gone_gets_a_failed_row(tmp_path: Path) -> None:
    cells = StandIn(jobs("0"))
    driver = dispatching(cells, tmp_path)
    given = driver.next()
    assert given is not None
    assert not driver.answer(Worker(given, driver.space).step())
    driver.lost(given.id, "the worker process died 3 times")
    row = run_rows(tmp_path)[given.id]
    assert (row["status"], row["tasks_done"]) == ("failed", 1)
    assert "died 3 times" in row["error"]
    assert not driver.is_open(given.id)


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


@pytest.fixture
def tuner() -> Any:
    from search.backends import ray_tune as module

    return module


def test_the_searcher_holds_back_at_its_limit_and_ends_when_the_cells_do(tuner: Any, tmp_path: Path) -> None:
    cells = StandIn(jobs("0", "1"))
    driver = dispatching(cells, tmp_path)
    with tuner.shared(driver) as key:
        searcher = tuner.JobSearcher(key, concurrent=1)
        first = searcher.suggest("tune-a")
        assert first["job"].id == RUN
        assert searcher.suggest("tune-b") is None
        scheduler = tuner.JobScheduler(key)
        running = {"answer": Answer(RUN, 0, 5, (0.5,), "running")}
        completed = {"answer": Answer(RUN, 4, 5, (0.5,), "completed")}
        assert scheduler.on_trial_result(None, SimpleNamespace(config=first), running) == "CONTINUE"
        searcher.on_trial_complete("tune-a", completed)
        searcher.on_trial_complete("tune-a", completed)
        second = searcher.suggest("tune-b")
        searcher.on_trial_complete("tune-b", error=True)
        assert searcher.suggest("tune-c") == tuner.Searcher.FINISHED
    assert [told for told in cells.told if told[0] == "done"] == [
        ("done", RUN, "completed", None),
        ("done", second["job"].id, "failed", "the worker process died"),
    ]


def test_searcher_and_scheduler_survive_what_tune_does_to_them(tuner: Any, tmp_path: Path) -> None:
    cells = StandIn(jobs("0", "1"))
    with tuner.shared(dispatching(cells, tmp_path / "run")) as key:
        searcher, scheduler = tuner.JobSearcher(key, 2), tuner.JobScheduler(key)
        for again in (lambda part: pickle.loads(pickle.dumps(part)), copy.deepcopy):
            job = again(searcher).suggest("tune")["job"]
            answer = {"answer": Answer(job.id, 4, 5, (0.5,), "completed")}
            decision = again(scheduler).on_trial_result(None, SimpleNamespace(config={"job": job}), answer)
            assert decision == "CONTINUE"
            assert cells.told[-1] == ("done", job.id, "completed", None)
    for part in (searcher, scheduler):
        part.save(str(tmp_path / "state"))
        part.restore(str(tmp_path / "state"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_as_many_runs_as_fit_unless_the_study_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "machine_cpus", lambda: 8)
    monkeypatch.setattr(allocation, "machine_gpus", lambda: 0)
    assert allocation.allocate(None, None, None) == allocation.Allocation(1.0, 0.0, 8, 8, 0)
    assert allocation.allocate(3, None, None).concurrent == 2
    assert allocation.allocate(3, None, 1).concurrent == 1
    assert allocation.allocate(0.5, None, None).concurrent == 16
    assert allocation.allocate(0.5, None, None).threads == 1


def test_gpus_are_shared_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "machine_cpus", lambda: 16)
    monkeypatch.setattr(allocation, "machine_gpus", lambda: 2)
    plan = allocation.allocate(None, None, None)
    assert (plan.gpu, plan.concurrent) == (0.25, 8)
    assert allocation.allocate(None, None, 3).gpu == 0.5
    assert allocation.allocate(None, 1, None).concurrent == 2
    assert allocation.allocate(None, 2, None).concurrent == 1
    assert allocation.allocate(None, 0, None).concurrent == 16


@pytest.mark.parametrize(
    ("cpu", "gpu", "concurrent", "says"),
    [
        (9, None, None, "resources.cpu = 9, but there are 8 CPUs here; ask for 8 at most"),
        (1, 1, None, "resources.gpu = 1, but there are 0 GPUs here"),
        (4, None, 3, "3 runs of cpu 4 and gpu 0 do not fit into the 8 CPUs and 0 GPUs here; 2 do"),
    ],
)
def test_what_the_machine_has_not_is_a_bad_request(
    monkeypatch: pytest.MonkeyPatch, cpu: float, gpu: float | None, concurrent: int | None, says: str
) -> None:
    monkeypatch.setattr(allocation, "machine_cpus", lambda: 8)
    monkeypatch.setattr(allocation, "machine_gpus", lambda: 0)
    with pytest.raises(BadRequest, match=says):
        allocation.allocate(cpu, gpu, concurrent)


def test_a_cluster_needs_one_node_that_holds_a_run() -> None:
    plan = allocation.Allocation(4.0, 1.0, 100, 2, 0)
    allocation.check_cluster(plan, [{"CPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}])
    with pytest.raises(BadRequest, match="the largest has 8 CPUs and 1 GPUs"):
        allocation.check_cluster(plan, [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}])


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "", "a\0b", "a b"])
def test_no_name_of_a_run_leaves_the_run_folder(name: str) -> None:
    with pytest.raises(BadRequest, match="is not the name of a run"):
        checked_run(name)


def test_a_run_has_one_log(tmp_path: Path) -> None:
    assert checked_run("lwf@B0-5tasks/3/seed:1/s0") == "lwf@B0-5tasks/3/seed:1/s0"
    path = log_file(tmp_path, "lwf@B0-5tasks/3/seed:1/s0")
    assert path == tmp_path / "logs" / "lwf@B0-5tasks--3--seed-1--s0.log"
    with logged(path):
        print("said")
        print("complained", file=sys.stderr)
    with logged(path):
        print("again")
    assert path.read_text() == "said\ncomplained\nagain\n"


def test_a_log_that_cannot_be_written_harms_no_run(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    with logged(tmp_path / "logs" / "x.log"):
        pass


def test_what_a_disk_says_is_told_from_what_a_run_says(tmp_path: Path) -> None:
    assert is_storage(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_storage(FileNotFoundError(errno.ENOENT, "gone"))
    assert not is_storage(ValueError("no"))
    assert storage_trouble(tmp_path) is None
    assert storage_trouble(tmp_path / "gone") == "No such file or directory"
    assert not list(tmp_path.iterdir())
    assert named_line(ValueError("one\ntwo")) == "ValueError: one"
    assert NO_STORAGE not in ("completed", "stopped", "failed")


def test_settings_of_a_trial_are_sorted_by_what_they_belong_to() -> None:
    sets = [
        "hp.kd_weight=3",
        "recipe.lr=5e-4",
        "recipe.base.epochs=2",
        "data.root=~/x",
        "recipe.net=resnet32",
    ]
    hp, recipe, data, rest = settings(sets)
    assert hp == {"kd_weight": 3}
    assert recipe == {"lr": 5e-4, "base": {"epochs": 2}}
    assert (data, rest) == ({"root": "~/x"}, {"net": "resnet32"})
    for bad in ("hp.kd_weight", "lr=1", "protocol.orders=2"):
        with pytest.raises(BadRequest, match="--set"):
            settings([bad])


def test_the_folder_of_a_single_run_takes_no_other_run(tmp_path: Path) -> None:
    request = TrainRequest(
        "finetune", "digits", "B5-1tasks", ["recipe.epochs=1", "data.per_class=20"], out=tmp_path / "a"
    )
    first = train(request)
    assert train(request) == first
    with pytest.raises(BadRequest, match="holds another run"):
        train(replace(request, seed=1))
    with pytest.raises(BadRequest, match="leaves nothing to measure on"):
        train(replace(request, out=None, validation=0.0))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_everything_listed_has_a_sentence(kind: str) -> None:
    items = listing(kind)
    assert items
    assert [name for name, text in items.items() if not text] == []

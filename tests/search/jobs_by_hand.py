"""Jobs made by hand, and a queue that hands them out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cl_core.images.data_spec import DataSpec
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.configuration import Configuration
from search.jobs.dispatcher import Dispatcher
from search.lake.writer import start_tables, study_schemas
from search.worker.job import Answer, Job, Workspace
from spaces.resolved.run_spec import RunSpec


def spec(run: str = "finetune@B0-5tasks/0", **changes: Any) -> RunSpec:
    configuration = Configuration(
        method="finetune",
        data=DataSpec("digits", per_class=20),
        scenario=parse_scenario("B0-5tasks"),
        recipe={"epochs": 1},
        threads=1,
        device="cpu",
    )
    return RunSpec(
        run, "finetune@B0-5tasks", "finetune", 0, "search", "d" * 16, replace(configuration, **changes)
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

    def report(self, run: str, task: int, increments: float | None) -> bool:
        self.told.append(("report", run, task))
        return (run, task) == self.stop_at

    def done(self, answer: Answer) -> None:
        self.running.remove(answer.job)
        self.told.append(("done", answer.job, answer.status, answer.error))

    def hand_back(self, job: str) -> None:
        self.running.remove(job)
        self.told.append(("handed back", job))


def dispatching(queue: StandIn, folder: Path) -> Dispatcher:
    return Dispatcher(queue, workspace(folder))  # type: ignore[arg-type]


def jobs(*names: str) -> list[Job]:
    return [one_job(f"finetune@B0-5tasks/{name}") for name in names]

"""A few short runs on a real Ray, which is started once for all of them."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import equal
from analysis.lake.run_folder import log_file
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from search.backends.ray_environment import ray_environment
from search.commands.evaluate import evaluate
from search.commands.run import run_study
from search.jobs.spending import Spending

# Ray leaves sockets and files to the collector, in this process and in what it starts.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NET = """
import os, pathlib, signal, time
from cl_core.nets.network import NETS

def make(*args, **kwargs):
    return NETS["convnet-small"](*args, **kwargs)

def deadly(*args, **kwargs):
    marks = pathlib.Path(os.environ["CL_SEARCH_TEST_MARKS"])
    deaths = int((marks.parent / "deaths").read_text())
    if os.environ.get("RAY_RAYLET_PID") and len(list(marks.iterdir())) < deaths:
        (marks / str(time.time_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return make(*args, **kwargs)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a module of your own on the workers' path, while a Ray of two CPUs runs."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        folder = tmp_path_factory.mktemp("ray")
        (folder / "marks").mkdir()
        (folder / "deaths").write_text("0")
        (folder / "own_nets.py").write_text(NET)
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("CL_SEARCH_TEST_MARKS", str(folder / "marks"))
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_environment():
            import ray

            ray.init(
                "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL"
            )
            try:
                yield folder
            finally:
                ray.shutdown()


def study(**changes: Any) -> dict[str, Any]:
    """Two cells of three configurations, a second of training each."""
    return {
        "study": "small",
        "data": {"name": "digits", "per_class": 30},
        "scenarios": ["B0-5tasks"],
        "methods": ["finetune", "lwf"],
        "recipe": {"epochs": 1, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
        "search": {"trials": 3},
        "resources": {"concurrent": 1},
        **changes,
    }


def test_a_study_on_ray_and_its_extension_equal_the_same_study_in_one_process(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import search.backends.ray_tune

    before = dict(os.environ)
    first = run_study(study(search={"trials": 2}), tmp_path / "ray")
    assert (first.completed, first.failed, first.worked) == (4, 0, True)
    with monkeypatch.context() as patch:
        patch.setattr(search.backends.ray_tune, "run_tune", None)
        again = run_study(study(search={"trials": 2}), tmp_path / "ray")
    assert (again.completed, again.worked) == (4, False)
    on_ray = run_study(study(search={"trials": 2}), tmp_path / "ray", trials_more=1)
    alone = run_study(study(), tmp_path / "alone", local=True)
    assert (on_ray.completed, on_ray.failed, on_ray.worked) == (6, 0, True)
    assert equal(on_ray.folder, alone.folder), equal(on_ray.folder, alone.folder)
    ours = {name: value for name, value in os.environ.items() if name.startswith(("RAY", "TUNE", "OMP"))}
    assert ours == {name: value for name, value in before.items() if name in ours}
    assert on_ray.report is not None
    assert on_ray.report.exists()
    # lwf and finetune share their base checkpoint: one file, and nothing of the runs' own is left.
    assert len(list((on_ray.folder / "checkpoints").rglob("*.safetensors"))) == 1
    assert not [path for path in on_ray.folder.rglob("*") if path.suffix == ".pkl"]


def test_an_evaluation_on_ray_equals_the_same_one_in_one_process(place: Path, tmp_path: Path) -> None:
    plain = study(methods=["lwf"], search={"trials": 1}, final={"orders": 1}, resources={"concurrent": 2})
    folder = run_study(plain, tmp_path / "ray", local=True).folder
    alone = shutil.copytree(folder, tmp_path / "alone")
    assert evaluate(folder).completed == evaluate(alone, local=True).completed == 2
    assert equal(folder, alone), equal(folder, alone)


def test_runs_that_fall_behind_are_stopped_and_have_their_rows(place: Path, tmp_path: Path) -> None:
    plain = study(methods=["finetune"], resources={"concurrent": 2}, search={"trials": 6, "stopper": "asha"})
    summary = run_study(plain, tmp_path / "run")
    rows = run_rows(summary.folder)
    assert summary.stopped > 0
    assert summary.completed + summary.stopped == len(rows) == 6
    assert {row["tasks_done"] for row in rows.values() if row["status"] == "stopped"} <= {2, 3, 4}
    assert {row["tasks_done"] for row in rows.values() if row["status"] == "completed"} == {5}


def test_a_spent_budget_lets_running_tasks_end_and_the_same_command_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    plain = study(
        methods=["finetune"], resources={"concurrent": 2}, search={"trials": 3, "sampler": "random"}
    )
    reached: list[str] = []
    keep = Spending.reach
    with monkeypatch.context() as patch:
        patch.setattr(
            Spending, "reach", lambda self, job, end=False: (reached.append(job), keep(self, job, end))
        )
        patch.setattr(
            Spending, "over", property(lambda self: "budget.wall is spent" if len(reached) > 3 else None)
        )
        first = run_study(plain, tmp_path / "run")
    assert (first.left, first.completed, first.failed) == ("budget.wall is spent", 0, 0)
    assert len(list((first.folder / "tables" / ".running" / "tasks").glob("finetune*"))) == 2
    second = run_study(plain, tmp_path / "run", local=True)
    assert (second.left, second.completed, second.failed) == (None, 3, 0)
    whole = run_study(plain, tmp_path / "whole", local=True)
    assert equal(second.folder, whole.folder), equal(second.folder, whole.folder)


def test_a_killed_worker_costs_an_attempt_and_nothing_else(place: Path, tmp_path: Path) -> None:
    (place / "deaths").write_text(str(len(list((place / "marks").iterdir())) + 1))
    plain = study(methods=["finetune"], search={"trials": 1})
    plain["recipe"] = {"epochs": 1, "net": "own_nets:deadly"}
    summary = run_study(plain, tmp_path / "run")
    assert (summary.completed, summary.failed) == (1, 0)
    assert len(list((place / "marks").iterdir())) == int((place / "deaths").read_text())


def test_runs_together_in_a_process_that_dies_go_on_alone_and_equal_runs_that_never_shared_one(
    place: Path, tmp_path: Path
) -> None:
    marks, seen = place / "marks", len(list((place / "marks").iterdir()))
    (place / "deaths").write_text(str(seen + 1))
    plain = study(search={"trials": 2, "sampler": "random"}, resources={"concurrent": 2, "together": True})
    plain["recipe"] = {**plain["recipe"], "net": "own_nets:deadly"}
    together = run_study(plain, tmp_path / "together")
    assert len(list(marks.iterdir())) == seen + 1
    assert (together.completed, together.failed) == (4, 0)
    attempts = [row["attempt"] for row in run_rows(together.folder).values()]
    assert max(attempts) <= 1
    alone = run_study(plain, tmp_path / "alone", local=True)
    assert equal(together.folder, alone.folder), equal(together.folder, alone.folder)


@pytest.mark.slow
def test_a_worker_that_dies_again_and_again_is_a_failed_run_and_the_study_goes_on(
    place: Path, tmp_path: Path
) -> None:
    (place / "deaths").write_text("1000")
    own = study(methods=["finetune"], search={"trials": 1})
    own["recipe"] = {"epochs": 1}
    own["methods"] = {"finetune": None, "bad": {"method": "finetune", "recipe": {"net": "own_nets:deadly"}}}
    summary = run_study(own, tmp_path / "run")
    (place / "deaths").write_text("0")
    assert summary.completed == 1
    assert list(summary.failures) == ["bad@B0-5tasks/0"]
    assert "worker process died 3 times" in summary.failures["bad@B0-5tasks/0"]
    text = log_file(summary.folder, "bad@B0-5tasks/0").read_text()
    assert "died 3 times" in text
    assert [f"attempt {n}" for n in (1, 2, 3, 4) if f"attempt {n}" in text] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
    ]
    again = run_study(own, tmp_path / "run", retry_failed=True)
    assert (again.completed, again.failed) == (2, 0)


def test_what_the_cluster_has_not_is_a_bad_request(place: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"must hold one run \(CPU 10000"):
        run_study(study(resources={"cpu": 10_000}), tmp_path / "run")
    assert not (tmp_path / "run").exists()

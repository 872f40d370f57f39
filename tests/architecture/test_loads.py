"""Keep imports and short commands light: what each of them may load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search import run_study
from tests.architecture.sources import ROOT
from tests.architecture.test_packages import FORBIDDEN

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("cl_core.records, cl_core.metrics, analysis", "torch ray optuna pydantic"),
        ("cl_core, search, spaces", "torch ray optuna pandas pyarrow"),
        (
            "cl_core.seeds, cl_core.recipe, cl_core.registry, cl_core.images.loading, "
            "cl_core.scenarios.scenarios, cl_core.training.configuration, spaces.resolved.run_spec",
            "torch ray optuna pydantic pandas pyarrow PIL sklearn",
        ),
        (
            "analysis.lake.results, analysis.report.page, analysis.statistics.intervals",
            "torch ray optuna pydantic",
        ),
        (
            "search.worker.runner, search.lake.writer",
            "ray optuna pydantic plotly typer rich scipy torch._dynamo",
        ),
        ("search.cells.stoppers", "torch ray optuna pydantic scipy.stats"),
        (
            "cl_core.training.trainer, cl_core.training.configuration",
            "ray optuna pydantic pandas pyarrow plotly sklearn scipy torch._dynamo",
        ),
        ("spaces.study.study_file, spaces.space.space", "torch ray optuna pandas pyarrow plotly"),
    ],
)
def test_an_import_loads_no_more_than_it_needs(modules: str, absent: str) -> None:
    done = _run(
        f"import sys\nimport {modules}\n"
        f"print([name for name in {absent.split()!r} if name in sys.modules], end='')"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]"


def test_the_core_trains_where_nothing_of_the_search_is_installed() -> None:
    absent = sorted(FORBIDDEN["cl_core"])
    done = _run(
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"  # an import of None raises ImportError
        "from cl_core import load, run, Configuration\n"
        "from cl_core.images.data_spec import DataSpec\n"
        "data = load(DataSpec('synthetic', classes=4, per_class=6))\n"
        "result = run('bic', data, 'B0-2tasks', hp={'exemplars_per_class': 3},"
        " recipe={'epochs': 1}, threads=1, device='cpu')\n"
        "print(result.sizes, end='')"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 2)"


def test_one_run_needs_neither_ray_nor_optuna_nor_pydantic() -> None:
    done = _run(
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['ray', 'optuna', 'pydantic', 'plotly']))\n"
        "from search.commands.train import TrainRequest, train\n"
        "sets = ('recipe.epochs=1', 'data.classes=4', 'data.per_class=6', 'hp.kd_weight=3')\n"
        "request = TrainRequest('lwf', 'synthetic', 'B0-2tasks', sets)\n"
        "print(len(train(request)['accuracy_matrix']), end='')"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2"


# Commands that answer at once


HEAVY = ("torch", "ray", "optuna", "pandas", "plotly", "scipy")
NEEDED = {"status": ["optuna"]}  # it reads the states of trials
SHORT = {
    "help": (["--help"], 0),
    "version": (["--version"], 0),
    "describe study": (["describe", "study"], 0),
    "describe a method": (["describe", "lwf"], 0),
    "list methods": (["list", "methods"], 0),
    "list methods as JSON": (["list", "methods", "--json"], 0),
    "pause": (["pause", "runs/short", "lwf@B0-5tasks"], 0),
    "status": (["status", "runs/short"], 0),
    "evaluate with a broken study.yaml": (["evaluate", "broken"], 2),
    "evaluate with a key that is fixed": (["evaluate", "runs/short", "--set", "search.trials=9"], 2),
    "a study with an unknown key": (["run", "wrong.yaml"], 2),
    "a study with an unknown method": (["run", "quickstart", "--set", "methods=[lvf]"], 2),
    "a study with a value out of range": (["run", "quickstart", "--set", "search.trials=-1"], 2),
}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a run folder to pause a cell of, and a study file that is refused."""
    folder = tmp_path_factory.mktemp("short")
    small = ["data.per_class=10", "recipe.epochs=1", "methods=[lwf]", "search.trials=1"]
    run_study("quickstart", folder / "runs/short", overrides=small, local=True)
    (folder / "broken/tables/runs").mkdir(parents=True)
    (folder / "broken/study.yaml").write_text("study: broken\nmethods: {lvf: }\n", encoding="utf-8")
    (folder / "wrong.yaml").write_text("study: wrong\nmethodes: [lwf]\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("arguments", "code"), SHORT.values(), ids=SHORT)
def test_a_short_command_loads_nothing_heavy(arguments: list[str], code: int, started: Path) -> None:
    needed = NEEDED.get(arguments[0], [])
    program = (
        "import sys\nfrom search.cli import main\n"
        f"sys.argv = ['cl-search', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        f"    print([n for n in {HEAVY!r} if n in sys.modules], end.code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=started, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == f"{needed} {code}", done.stdout + done.stderr

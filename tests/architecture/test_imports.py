"""Who may know whom: the directions of imports, what loads what, and what stands at the top level."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cl_core", "spaces", "search", "analysis")
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# Contracts set the global generators and take gradients, to see that nothing else does.
RUN_FILES = [p for p in FILES if "testing" not in p.relative_to(ROOT).parts]

OURS: dict[str, set[str]] = {
    "cl_core": {"cl_core"},
    "spaces": {"cl_core", "spaces"},
    "analysis": {"cl_core", "analysis"},
    "search": {"cl_core", "spaces", "search", "analysis"},
}
FOR_ANALYSIS = {
    "cl_core",
    "cl_core.records",
    "cl_core.metrics",
    "cl_core.registry",
    "cl_core.errors",
    "cl_core.hparams",
    "cl_core.aside",
    "cl_core.contract",
    "cl_core.yaml_text",
}
FORBIDDEN: dict[str, set[str]] = {
    "cl_core": {"ray", "optuna", "pydantic", "pandas", "pyarrow", "plotly", "typer", "rich", "duckdb"},
    "spaces": {"ray", "optuna", "pandas", "pyarrow", "plotly", "typer", "rich"},
    "analysis": {"torch", "torchvision", "ray", "optuna", "pydantic", "typer", "safetensors"},
    # The importance of hyperparameters is Optuna's own measure of them, better kept there than written again;
    # it is computed from the tables, and imported only when the view is drawn.
    "analysis/views/importance.py": {"torch", "torchvision", "ray", "pydantic", "typer", "safetensors"},
    "spaces/resolved/run_spec.py": {"ray", "optuna", "pydantic", "plotly", "typer", "rich"},
    "search/lake/rows.py": {"ray", "optuna", "pydantic", "plotly", "typer", "rich"},
    "search/worker/runner.py": {"ray", "optuna", "pydantic", "plotly", "typer", "rich"},
    "search/lake/writer.py": {"ray", "optuna", "pydantic", "plotly", "typer", "rich"},
    "search/cells/queue.py": {"ray"},
    "search/cells/stoppers.py": {"ray"},
}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a file, wherever it stands; `from a import b` is also a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _dotted(node: ast.expr) -> str:
    """The dotted name of an expression such as torch.random.manual_seed, or the part of it that is one."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Call):
            yield node.lineno, _dotted(node.func)


def _is_module(name: str) -> bool:
    stem = ROOT.joinpath(*name.split("."))
    return stem.with_suffix(".py").exists() or (stem / "__init__.py").exists()


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 40
    assert {_name(p).split("/")[0] for p in FILES} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_packages_import_in_one_direction(path: Path) -> None:
    package = _name(path).split("/")[0]
    for line, module in _imports(path):
        top = module.split(".")[0]
        if top in PACKAGES:
            assert top in OURS[package], f"{_name(path)}:{line}: {package} must not know {module}"
        assert top != "tests", f"{_name(path)}:{line}: no package knows its tests"


@pytest.mark.parametrize("path", [p for p in FILES if _name(p).startswith("analysis/")], ids=_name)
def test_analysis_knows_only_the_torch_free_part_of_the_core(path: Path) -> None:
    for line, module in _imports(path):
        if module.split(".")[0] == "cl_core" and _is_module(module):
            assert module in FOR_ANALYSIS, f"{_name(path)}:{line}: {module}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_packages_do_not_know_what_belongs_to_others(path: Path) -> None:
    name = _name(path)
    forbidden = FORBIDDEN.get(name, FORBIDDEN.get(name.split("/")[0], set()))
    for line, module in _imports(path):
        assert module.split(".")[0] not in forbidden, f"{name}:{line}: {module}"


def test_only_the_search_and_the_tests_know_the_search() -> None:
    for path in FILES:
        if not _name(path).startswith("search/"):
            known = [m for _, m in _imports(path) if m.split(".")[0] == "search"]
            assert not known, f"{_name(path)} knows {known}"


@pytest.mark.parametrize("path", FILES + TESTS, ids=_name)
def test_no_import_is_relative(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]


def test_methods_do_not_know_each_other() -> None:
    for path in (ROOT / "cl_core" / "methods").glob("*.py"):
        others = [m for _, m in _imports(path) if m.startswith("cl_core.methods")]
        assert not others, f"{path.name} knows {others}"


@pytest.mark.parametrize("path", RUN_FILES, ids=_name)
def test_nothing_is_unpickled_and_no_global_generator_is_used(path: Path) -> None:
    for line, module in _imports(path):
        top = module.split(".")[0]
        assert top not in {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, f"line {line}"
        if _name(path).startswith("cl_core/"):
            assert top != "random", f"line {line}: draws take a generator from a named stream"
    for line, call in _calls(path):
        assert call not in {"torch.load", "pickle.load", "pickle.loads", "pd.read_pickle"}, f"line {line}"
        assert call not in {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all"}, f"line {line}"
        if call.startswith(("np.random.", "numpy.random.")):
            assert call.rsplit(".", 1)[1] in {"default_rng", "RandomState", "Generator"}, f"line {line}"


def test_the_trainer_owns_the_only_backward() -> None:
    found = [_name(p) for p in RUN_FILES for _, call in _calls(p) if call.endswith(".backward")]
    assert found == ["cl_core/training/trainer.py"]


def test_no_module_is_called_utils() -> None:
    names = {p.stem for p in FILES}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


# What an import loads


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
        ("search.worker.runner, search.lake.writer", "ray optuna pydantic plotly typer rich"),
        (
            "cl_core.training.trainer, cl_core.training.configuration",
            "ray optuna pydantic pandas pyarrow plotly sklearn",
        ),
        ("spaces.study.study, spaces.space.space", "ray optuna pandas pyarrow plotly"),
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


# The top level


def _tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_no_other_folder_stands_at_the_top_level() -> None:
    folders = {path.split("/")[0] for path in _tracked() if "/" in path}
    assert folders <= {*PACKAGES, "tests", ".ci"}


def test_every_package_is_listed_and_every_listed_one_is_there() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in FILES if p.stem == "__init__"}
    assert sorted(listed) == sorted(found)
    folders = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in FILES}
    assert folders == found, "a folder of modules without __init__.py"


def test_the_tests_mirror_the_packages() -> None:
    folders = {
        p.relative_to(ROOT / "tests").parts[0] for p in TESTS if len(p.relative_to(ROOT / "tests").parts) > 1
    }
    assert folders <= {*PACKAGES, "contracts", "architecture", "benchmarks"}
    names = [p.name for p in TESTS if p.name.startswith("test_")]
    assert len(names) == len(set(names)), "two test files of one name"

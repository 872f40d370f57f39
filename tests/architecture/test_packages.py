"""Keep the direction of imports between the packages, and from each package to libraries."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.sources import FILES, MODULES, PACKAGES, ROOT, TESTS, imports, name, tree

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


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 40
    assert {name(p).split("/")[0] for p in FILES} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_packages_import_in_one_direction(path: Path) -> None:
    package = name(path).split("/")[0]
    for line, module, _ in imports(path):
        top = module.split(".")[0]
        if top in PACKAGES:
            assert top in OURS[package], f"{name(path)}:{line}: {package} must not know {module}"
        assert top != "tests", f"{name(path)}:{line}: no package knows its tests"


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("analysis/")], ids=name)
def test_analysis_knows_only_the_torch_free_part_of_the_core(path: Path) -> None:
    for line, module, _ in imports(path):
        if module.split(".")[0] == "cl_core" and module in MODULES:
            assert module in FOR_ANALYSIS, f"{name(path)}:{line}: {module}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_packages_do_not_know_what_belongs_to_others(path: Path) -> None:
    file = name(path)
    forbidden = FORBIDDEN.get(file, FORBIDDEN.get(file.split("/")[0], set()))
    for line, module, _ in imports(path):
        assert module.split(".")[0] not in forbidden, f"{file}:{line}: {module}"


def test_only_the_search_and_the_tests_know_the_search() -> None:
    for path in FILES:
        if not name(path).startswith("search/"):
            known = [m for _, m, _ in imports(path) if m.split(".")[0] == "search"]
            assert not known, f"{name(path)} knows {known}"


@pytest.mark.parametrize("path", FILES + TESTS, ids=name)
def test_no_import_is_relative(path: Path) -> None:
    assert not [n.lineno for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.level]


def test_methods_do_not_know_each_other() -> None:
    for path in (ROOT / "cl_core" / "methods").glob("*.py"):
        others = [m for _, m, _ in imports(path) if m.startswith("cl_core.methods")]
        assert not others, f"{path.name} knows {others}"

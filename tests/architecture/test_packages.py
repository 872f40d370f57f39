"""Keep the direction of imports between the packages, and from each package to libraries."""

from __future__ import annotations

import ast

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
    "cl_core.metric_queries",
    "cl_core.metrics",
    "cl_core.own_code",
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
    "search/cells/search_queue.py": {"ray"},
    "search/cells/stoppers.py": {"ray"},
}


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 40
    assert {name(p).split("/")[0] for p in FILES} == set(PACKAGES)


def test_packages_import_in_one_direction() -> None:
    for path in FILES:
        package = name(path).split("/")[0]
        for line, module, _ in imports(path):
            top = module.split(".")[0]
            if top in PACKAGES:
                assert top in OURS[package], f"{name(path)}:{line}: {package} must not import {module}"
            assert top != "tests", f"{name(path)}:{line}: a package must not import its tests"


def test_analysis_imports_only_the_torch_free_part_of_the_core() -> None:
    for path in FILES:
        for line, module, _ in imports(path) if name(path).startswith("analysis/") else ():
            if module.split(".")[0] == "cl_core" and module in MODULES:
                assert module in FOR_ANALYSIS, f"{name(path)}:{line}: {module}"


def test_packages_import_only_their_own_libraries() -> None:
    for path in FILES:
        file = name(path)
        forbidden = FORBIDDEN.get(file, FORBIDDEN.get(file.split("/")[0], set()))
        for line, module, _ in imports(path):
            assert module.split(".")[0] not in forbidden, f"{file}:{line}: {module}"


def test_no_import_is_relative() -> None:
    for path in FILES + TESTS:
        nodes = (n for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom))
        assert not [n.lineno for n in nodes if n.level], name(path)


def test_methods_do_not_import_each_other() -> None:
    for path in (ROOT / "cl_core" / "methods").glob("*.py"):
        if path.name == "mnemonics.py":  # it wraps the losses of three others
            continue
        others = [m for _, m, _ in imports(path) if m.startswith("cl_core.methods")]
        assert not others, f"{path.name} imports {others}"

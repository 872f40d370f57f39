"""A cell's searched parameters in study.yaml, from which a report rebuilds the space."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.lake.results import Results
from analysis.lake.searched_space import spaces
from cl_core.yaml_text import write_yaml
from spaces.space.method_space import space_of
from spaces.space.plain import plain_parameters


def _read_back(tmp_path: Path, plain: list[dict]) -> tuple:
    cell = {"name": "m@B0-5tasks", "parameters": plain}
    (tmp_path / "study.yaml").write_text(write_yaml({"resolved": {"cells": [cell]}}), encoding="utf-8")
    known = spaces(Results(tmp_path))
    assert known is not None
    return known["m@B0-5tasks"]


@pytest.mark.parametrize(
    "method", ["lwf", "bic", "icarl", "eeil", "lucir", "pass", "praka", "joint", "distill"]
)
def test_a_report_reads_the_space_that_the_study_had(method: str, tmp_path: Path) -> None:
    space = space_of(method, {}, {"epochs": {"int": [1, 5]}, "increment": {"lr": {"float": [0.01, 0.1]}}})
    read = _read_back(tmp_path, plain_parameters(method, space))
    assert [(p.name, p.domain, p.default) for p in read] == [
        (p.name, p.domain, p.default) for p in space.searched
    ]
    assert all(p.whole is not None for p in read)


def test_a_branch_is_stated_where_the_study_leaves_it_open() -> None:
    memory = {"budget": {"choice": ["per_class", "total"]}, "exemplars_total": {"int": [100, 200]}}
    free = {p["name"]: p for p in plain_parameters("replay", space_of("replay", memory))}
    assert free["hp.exemplars_total"]["when"] == {"hp.budget": ["total"]}
    fixed = space_of("replay", {**memory, "budget": "total"})
    assert "when" not in {p["name"]: p for p in plain_parameters("replay", fixed)}["hp.exemplars_total"]


def test_a_narrowed_range_stands_beside_the_methods_own() -> None:
    (weight,) = (
        p
        for p in plain_parameters("lwf", space_of("lwf", {"kd_weight": {"float": [0.1, 2]}}))
        if p["name"] == "hp.kd_weight"
    )
    assert (weight["low"], weight["high"], weight["log"]) == (0.1, 2.0, True)
    assert weight["whole"] == {"kind": "float", "low": 0.02, "high": 8.0, "log": True}


def test_a_recipe_field_names_the_column_that_follows_it() -> None:
    lr = {"float": [0.01, 0.1]}

    def columns(recipe: dict) -> dict[str, str]:
        plain = plain_parameters("finetune", space_of("finetune", {}, recipe))
        return {p["name"]: p["column"] for p in plain}

    assert columns({"lr": lr}) == {"recipe.lr": "recipe.base.lr"}
    assert columns({"lr": lr, "base": {"lr": 0.5}}) == {"recipe.lr": "recipe.increment.lr"}
    assert columns({"increment": {"lr": lr}}) == {"recipe.increment.lr": "recipe.increment.lr"}
    assert columns({"net": {"choice": ["convnet", "convnet-small"]}}) == {"recipe.net": "net"}

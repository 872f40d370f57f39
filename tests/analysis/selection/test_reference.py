"""References: of the same recipe, or none and why; in the leaderboard, the survey and the sanity checks."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from analysis.lake.open import open_results
from analysis.report.section import VIEWS
from analysis.selection.reference import other_recipe, reference
from analysis.selection.sanity import checks
from analysis.selection.selection import cells
from analysis.survey.references import recipe_remarks
from analysis.survey.roles import TEN, Roles
from tests.analysis.planted_effects import Planted, plant

SCENARIO = {"B0-3tasks": (2, 2, 2)}


def recipe(lr, **more):
    """A recipe with one learning rate for base and increments, of SGD with steps."""
    one = {
        "optimizer": "sgd",
        "lr": lr,
        "momentum": 0.9,
        "schedule": "step",
        "milestones": "0.5,0.75",
        **more,
    }
    return {f"{part}.{name}": value for part in ("base", "increment") for name, value in one.items()}


COMMON, PAPER = recipe(0.01), recipe(0.1)


def survey_like(folder):
    """Two recipes with their references, as in the preset: lwf-paper lies .105 above its own fine-tuning."""
    planted = [
        Planted("finetune-common", "finetune", 0.2, newest=0.95, recipe=COMMON),
        Planted("joint-common", "joint", 0.9, recipe=COMMON),
        Planted("lwf-common", "lwf", 0.3, recipe=COMMON),
        Planted("finetune-paper", "finetune", 0.1, newest=0.95, recipe=PAPER),
        Planted("joint-paper", "joint", 0.8, recipe=PAPER),
        Planted("lwf-paper", "lwf", 0.5, recipe=PAPER),
        Planted("icarl-paper", "icarl", 0.6, recipe=recipe(2.0)),
    ]
    return open_results(plant(folder, planted, SCENARIO, orders=3, noise=0.0))


def test_every_row_is_measured_against_the_reference_of_its_own_recipe_or_none(tmp_path):
    results = survey_like(tmp_path / "run")
    board = VIEWS["leaderboard"](results)
    frame = board.table.set_index("label")
    last = frame["last accuracy"]
    for name in ("common", "paper"):
        for title, method in (("to joint", "joint"), ("to fine-tuning", "finetune")):
            gap = last[f"lwf-{name}"] - last[f"{method}-{name}"]
            assert frame.loc[f"lwf-{name}", title] == pytest.approx(gap)
    assert frame.loc["icarl-paper", ["to joint", "to fine-tuning"]].isna().all()
    (table,) = (t.frame.set_index("label") for t in board.tables if t.title == "References")
    assert list(table.loc["lwf-paper", ["joint", "fine-tuning"]]) == ["joint-paper", "finetune-paper"]
    why = table.loc["icarl-paper", "no reference, since"]
    assert why.startswith("joint-common has another recipe: lr (2 / 0.01)")


def test_the_survey_and_the_checks_take_the_same_references(tmp_path):
    results = survey_like(tmp_path / "run")
    roles = Roles(results)
    for place in roles.places:
        for method in ("finetune", "joint"):
            found = roles.find(place, ("reference", method))
            assert found.cell.label == f"{method}-{place.recipe}"
    (said,) = recipe_remarks(roles)
    assert said.startswith("digits · B0-3tasks · paper: own recipes: icarl. Fine-tuning and joint")
    names = [row["scenario"] for row in checks(results)]
    assert names == [f"B0-3tasks: finetune-{x}, joint-{x}" for x in ("common", "paper")]
    apart = [
        Planted("finetune", "finetune", 0.1, recipe=COMMON),
        Planted("joint", "joint", 0.9, recipe=PAPER),
    ]
    rows = checks(open_results(plant(tmp_path / "apart", apart, SCENARIO, orders=1)))
    assert [(row["finetune"], row["joint"]) for row in rows] == [
        ("NOT OK", "none of this recipe"),
        ("none of this recipe", "OK"),
    ]


def test_a_reference_of_another_recipe_serves_no_column_of_the_survey(tmp_path):
    planted = [
        Planted("finetune", "finetune", 0.1, newest=0.9, recipe=COMMON),
        Planted("joint", "joint", 0.9, recipe=COMMON),
        *(Planted(f"{m}-common", m, 0.5, recipe=COMMON) for m in TEN),
        *(Planted(f"{m}-paper", m, 0.5, recipe=PAPER) for m in TEN),
    ]
    roles = Roles(open_results(plant(tmp_path / "run", planted, SCENARIO, orders=1)))
    found = {
        place.recipe: roles.find(place, ("reference", "joint")) for place in roles.places if place.recipe
    }
    assert found["common"].cell.label == "joint"
    assert found["paper"] is None


def test_fields_that_do_not_act_make_no_other_recipe(tmp_path):
    cosine = recipe(0.1, schedule="cosine", period=1.0)
    planted = [
        Planted("joint", "joint", 0.9, recipe=cosine),
        Planted("lwf", "lwf", 0.5, recipe={**cosine, "increment.milestones": "0.45,0.9"}),
        Planted("bic", "bic", 0.5, recipe={**cosine, "base.period": 0.5}),
        Planted("icarl", "icarl", 0.5, recipe={**cosine, "increment.lr": 0.02}),
        Planted("adam", "eeil", 0.5, recipe={**cosine, "base.optimizer": "adam", "base.momentum": 0.0}),
    ]
    results = open_results(plant(tmp_path / "run", planted, SCENARIO, orders=1))
    by = {cell.label: cell for cell in cells(results)}
    assert reference(results, by["lwf"], "joint").cell.name == by["joint"].name
    assert other_recipe(results, by["bic"], by["joint"]) == ["period (0.5 / 1)"]
    # Joint training has no increments.
    assert reference(results, by["icarl"], "joint").cell.name == by["joint"].name
    assert other_recipe(results, by["icarl"], by["lwf"]) == ["lr (0.02 / 0.1)"]
    assert other_recipe(results, by["adam"], by["joint"]) == ["optimizer (adam / sgd)"]
    assert reference(results, by["bic"], "finetune").lack == "no completed finetune in B0-3tasks"
    assert reference(results, by["joint"], "joint").cell is None


@pytest.mark.parametrize(("high", "same"), [(0.2, True), (0.3, False)])
def test_a_field_that_both_search_over_one_range_is_the_same_recipe(tmp_path, high, same):
    """Each then stands at the learning rate that suits it."""
    planted = [
        Planted("joint", "joint", 0.9, recipe=recipe(0.1)),
        Planted("lwf", "lwf", 0.5, recipe=recipe(0.02)),
    ]
    folder = plant(tmp_path / "run", planted, SCENARIO, orders=1)
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    ranges = {"joint": 0.2, "lwf": high}
    study["resolved"]["cells"] = [
        {
            "name": f"{label}@B0-3tasks",
            "parameters": [
                {
                    "name": "recipe.lr",
                    "column": "recipe.base.lr",
                    "kind": "float",
                    "low": 0.01,
                    "high": top,
                    "log": True,
                    "default": 0.1,
                }
            ],
        }
        for label, top in ranges.items()
    ]
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    results = open_results(folder)
    (lwf,) = (cell for cell in cells(results) if cell.label == "lwf")
    found = reference(results, lwf, "joint")
    assert (found.cell is not None) == same
    assert found.lack == ("" if same else "joint has another recipe: lr ([0.01, 0.3] log / [0.01, 0.2] log)")


def test_networks_that_begin_from_other_weights_have_another_recipe(tmp_path):
    planted = [Planted(name, name, 0.5) for name in ("joint", "lwf")]
    folders = [plant(tmp_path / name, planted, SCENARIO, orders=1, identity=name) for name in ("a", "b")]
    study = yaml.safe_load((folders[0] / "study.yaml").read_text(encoding="utf-8"))
    study["methods"]["lwf"]["recipe"] = {"init": "w.safetensors"}
    (folders[0] / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    lack = "joint has another recipe: init (w.safetensors / drawn)"
    for given, expected in ((folders[0], [lack]), (folders, [lack, ""])):  # of two runs, each its own
        results = open_results(given)
        lwf = [cell for cell in cells(results) if cell.method == "lwf"]
        assert [reference(results, cell, "joint").lack for cell in lwf] == expected
    study["recipe"] = {"init": "w.safetensors"}  # all begin from them
    (folders[0] / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    results = open_results(folders[0])
    (lwf,) = (cell for cell in cells(results) if cell.method == "lwf")
    assert reference(results, lwf, "joint").cell.label == "joint"


def test_one_recipe_for_all_needs_no_table_of_references(tmp_path):
    planted = [Planted(name, name, 0.5) for name in ("finetune", "joint", "lwf")]
    board = VIEWS["leaderboard"](open_results(plant(tmp_path / "run", planted, SCENARIO, orders=1)))
    assert not board.tables
    assert pd.isna(board.table.set_index("label").loc["joint", "to joint"])

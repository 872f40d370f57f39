"""The contracts of every view, whatever the lake holds."""

from __future__ import annotations

import functools
import json

import pandas as pd
import pytest

from analysis.lake.open import open_results
from analysis.report.section import ROWS, VIEWS
from analysis.testing import (
    VIEW_CONTRACTS,
    it_gives_a_whole_section,
    of_an_empty_run_it_says_so_and_shows_nothing,
)
from analysis.views.hyperparameters import searched
from cl_core.metrics import METRICS
from tests.analysis.planted import Plan, write
from tests.analysis.planted_effects import Planted, plant

LAKES = {
    "fixture": Plan(trials=3, rows=8, splits=("val", "test")),
    "empty": Plan(trials=0),
    "one trial": Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 2)),), trials=1),
    "one task": Plan(labels=("icarl",), scenarios=(("B0-1tasks", (4,)),), trials=2),
    "failed and stopped": Plan(trials=3, rows=8, failed=(1,), stopped=(2,)),
    "all failed": Plan(labels=("joint", "lwf"), trials=2, failed=(0, 1)),
    "orders": Plan(labels=("finetune", "icarl"), trials=2, orders=2, rows=8),
    "evaluated": Plan(
        labels=("finetune", "joint", "lwf", "icarl"),
        scenarios=(("B0-3tasks", (2, 2, 1)),),
        trials=3,
        orders=3,
        evaluated=True,
    ),
}
SURVEY = (
    Planted("finetune", "finetune", 0.1, newest=0.9),
    Planted("joint", "joint", 0.9),
    *(Planted(f"{m}-common", m, 0.5) for m in ("lwf", "lwm", "pass", "bic")),
    Planted("lwf-without-common", "lwf", 0.4, hp={"distill": False}),
    *(Planted(f"alone-{x}", "distill", 0.4, hp={"loss": x}) for x in ("none", "kl")),
)
NAMES = [*LAKES, "survey"]


@pytest.fixture(scope="module")
def lakes(tmp_path_factory):
    """Every lake of LAKES, written once."""
    folder = tmp_path_factory.mktemp("lakes")
    out = {name: write(folder / name.replace(" ", "-"), plan) for name, plan in LAKES.items()}
    return {**out, "survey": plant(folder / "survey", SURVEY, orders=2)}


@pytest.fixture(scope="module")
def opened(lakes):
    """The results of every lake."""
    return {name: open_results(folder) for name, folder in lakes.items()}


@pytest.fixture(scope="module")
def show(opened):
    """A view's section over a lake, computed once."""
    return functools.cache(lambda view, lake: VIEWS[view](opened[lake]))


@pytest.mark.parametrize("contract", VIEW_CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("name", VIEWS.names())
def test_a_view_keeps_its_contracts(name, contract, opened):
    contract(name, opened["failed and stopped"])


@pytest.mark.parametrize("lake", NAMES)
@pytest.mark.parametrize("name", VIEWS.names())
def test_a_view_gives_a_whole_section_for_any_lake(name, lake, opened):
    it_gives_a_whole_section(name, opened[lake])


@pytest.mark.parametrize("name", VIEWS.names())
def test_an_empty_lake_gives_a_sentence_and_nothing_to_look_at(name, opened):
    of_an_empty_run_it_says_so_and_shows_nothing(name, opened["empty"])


@pytest.mark.parametrize("name", VIEWS.names())
def test_the_fixture_lake_gives_a_figure_over_every_cell(name, lakes, show):
    results = open_results(lakes["fixture"])
    found = show(name, "fixture")
    if found.optional:  # it has a question of its own, that this lake does not answer
        assert found.bare
        return
    assert found.figure is not None
    cells = set(results.runs["cell"])
    shown = {
        f"{label}@{scenario}"
        for label, scenario in zip(found.table["label"], found.table["scenario"], strict=True)
    }
    assert shown == cells


BOTH = {"selection_gap"}  # from validation rows to test rows, as its heading says
BY_SEARCH = {
    *("pareto_front", "hyperparameters", "importance", "range_edges", "best_of_n", "winner_stability"),
    *("class_orders", "worth"),
}
BY_FINAL_RUNS = {
    *("leaderboard", "final", "survey", "accuracy_curves", "forgetting", "recency_bias", "task_confusion"),
    *("stability_plasticity", "old_and_new_errors", "task_and_class", "task_curves", "class_drilldown"),
}


def otherwise(folder, split):
    """A lake whose rows of one split were answered otherwise, better ones still being better."""
    results = open_results(folder)
    confusion = results.confusion.copy()
    right = confusion["true_class"] == confusion["predicted_class"]
    confusion.loc[(confusion["split"] == split) & right, "count"] *= 2
    trials = results.runs.copy()
    mine = trials["split"] == split
    metrics = ["objective", *(name for name in METRICS if name in trials)]
    trials.loc[mine, metrics] = trials.loc[mine, metrics] * 0.9 + 0.01
    results.__dict__.update(confusion=confusion, runs=trials)
    return results


def numbers(found):
    """Everything that a section shows in figures and tables."""
    tables = [] if found.table is None else [found.table]
    figure = None if found.figure is None else json.loads(found.figure.to_json())
    return figure, [frame.to_dict("list") for frame in (*tables, *(one.frame for one in found.tables))]


@pytest.mark.parametrize("name", VIEWS.names())
def test_a_section_stands_on_one_split_and_names_it_in_its_heading(name, lakes, show):
    """A figure on validation rows stood beside a table on test rows, and said the opposite."""
    found = show(name, "evaluated")
    if found.bare:
        return
    same = {
        split: repr(numbers(VIEWS[name](otherwise(lakes["evaluated"], split)))) for split in ("val", "test")
    }
    moved = {split for split, text in same.items() if text != repr(numbers(found))}
    if name in BOTH:
        assert moved == {"val", "test"}
        assert "test rows" in found.title
        return
    assert moved == ({found.split} if found.split else set())
    assert found.rows == {"": "", **ROWS}[found.split]
    if name in BY_SEARCH:
        assert found.split == "val"
    elif name in BY_FINAL_RUNS:
        assert found.split == "test"


def test_each_classifier_is_shown_apart(show):
    for name in ("accuracy_curves", "forgetting", "recency_bias", "task_confusion"):
        frame = show(name, "fixture").table
        mine = frame[(frame["label"] == "icarl") & (frame["scenario"] == "B4-inc2")]
        assert set(mine["classifier"]) == {"nearest-mean", "head"}
        assert mine.iloc[0, 3:].tolist() != mine.iloc[1, 3:].tolist()


def test_a_recipe_field_searched_for_base_and_increments_at_once_is_one_panel():
    points = pd.DataFrame(
        {"recipe.base.lr": [0.1, 0.2], "recipe.increment.lr": [0.1, 0.2], "hp.kd_weight": [1.0, 1.0]}
    )
    assert searched(points) == ["recipe.increment.lr"]
    points["recipe.increment.lr"] = [0.3, 0.4]
    assert searched(points) == ["recipe.base.lr", "recipe.increment.lr"]


def test_a_label_has_one_colour_in_every_figure(show):
    seen: dict[str, set[str]] = {}
    for name in ("accuracy_curves", "recency_bias", "weight_norms"):
        for trace in show(name, "fixture").figure.data:
            if trace.name and trace.line.color:
                seen.setdefault(trace.name.split(" ")[0], set()).add(trace.line.color)
    assert set(seen) == {"finetune", "joint", "lwf", "icarl"}
    assert all(len(colours) == 1 for colours in seen.values())
    assert len(set.union(*seen.values())) == 4

"""The share of a result that is due to the class order: planted values, hand-computed figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from analysis.lake.open import open_results
from analysis.report.page import checks, render
from analysis.selection.selection import cells, order_searches
from analysis.views.class_orders import class_orders
from analysis.views.leaderboard import leaderboard
from cl_core.records import ClassRow, RunRow, as_dict
from tests.analysis.planted import Plan, write
from tests.analysis.planted_tables import put, schema

SIZES = (2, 2)
NATURAL, MIXED, TURNED = "list:0-1-2-3", "list:0-2-1-3", "list:2-3-0-1"
HARD = {"name": "B0-2tasks-hardest", "base": 0, "tasks": 2, "class_order": "hardest"}


def lake(folder: Path, runs: list[dict[str, Any]], **search: Any) -> Any:
    """A run's folder of bare `trials` rows: label, scenario, number, order, seed, value, hp."""
    study = {
        "study": "orders",
        "data": {"name": "digits"},
        "scenarios": ["B0-2tasks", HARD],
        "methods": list(dict.fromkeys(run["label"] for run in runs)),
        "search": {
            "objective": {"average_incremental_accuracy": "max"},
            "start_from": ["paper"],
            "sampler": "tpe",
            "sampler_args": {"n_startup_trials": 2},
            **search,
        },
        "resolved": {"identity": "orders"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    for table in ("runs", "tasks", "phases", "classes", "confusion"):
        put(folder, table, "schema", [])
    for run in runs:
        _write(folder, run)
    return open_results(folder)


def _write(folder: Path, run: Mapping[str, Any]) -> None:
    label, scenario = run["label"], run.get("scenario", "B0-2tasks")
    number, seed, order = run.get("trial", 0), run.get("seed", 0), run["order"]
    cell = f"{label}@{scenario}"
    name = f"{cell}/{number}/{order}/s{seed}"
    row = RunRow(
        cell=cell,
        label=label,
        method=label,
        run=name,
        trial_digest=f"{run.get('kd', 1.0)}{order}",
        trial=number,
        purpose="search",
        dataset="digits",
        scenario=scenario,
        base=2,
        increments="2",
        class_order=order,
        seed=seed,
        net="convnet-small",
        status="completed",
        split="val",
        tasks=2,
        tasks_done=2,
        objective=run["value"],
        average_incremental_accuracy=run["value"],
        seconds=1.0,
    )
    stem = name.replace("/", "--").replace(":", "-")
    assert "hp.kd_weight" in schema("runs").names
    put(folder, "runs", stem, [{**as_dict(row), "hp.kd_weight": run.get("kd", 1.0)}])
    arrival = [0, 1, 2, 3] if order == "natural" else [int(c) for c in order[5:].split("-")]
    rows = [
        ClassRow(
            cell=cell,
            label=label,
            method=label,
            run=name,
            split="val",
            after_task=1,
            classifier="head",
            primary=True,
            class_=place,
            class_name="abcd"[c],
            task=place // 2,
            n=10,
            correct=5,
            correct_within_task=5,
            predicted=10,
        )
        for place, c in enumerate(arrival)
    ]
    put(folder, "classes", stem, [as_dict(one) for one in rows])


def hard(label: str, values: Mapping[str, float]) -> list[dict[str, Any]]:
    """A search that tried some orders, from number 0 on."""
    return [
        {"label": label, "scenario": HARD["name"], "trial": n, "order": order, "value": value}
        for n, (order, value) in enumerate(values.items())
    ]


def test_orders_of_ordinary_cells_and_of_searches_come_together(tmp_path: Path) -> None:
    runs = [
        {"label": "lwf", "order": "natural", "value": 0.50},
        {"label": "lwf", "order": TURNED, "value": 0.60},
        *hard("lwf", {NATURAL: 0.50, MIXED: 0.40, "list:1-2-0-3": 0.30}),
    ]
    (row,) = class_orders(lake(tmp_path, runs)).table.to_dict("records")
    # Drawn: natural, the given one, and of the search the two that came before it learnt.
    assert (row["split"], row["label"], row["natural"], row["drawn"]) == ("2+2", "lwf", 0.5, 3)
    assert row["mean"] == pytest.approx(0.5)
    assert row["sd"] == pytest.approx(0.1)
    assert (row["orders tried"], row["searched for"]) == (4, "hardest")
    assert (row["hardest"], row["easiest"], row["range"]) == (0.3, 0.6, pytest.approx(0.3))
    assert row["sd of seeds"] is None


@pytest.mark.parametrize(
    ("search", "drawn"),
    [({"sampler": "random"}, 3), ({"start_from": ["paper", "runs/other"]}, 1), ({}, 2)],
)
def test_what_a_search_looked_for_is_not_drawn(search: dict[str, Any], drawn: int, tmp_path: Path) -> None:
    runs = hard("lwf", {NATURAL: 0.5, MIXED: 0.4, TURNED: 0.3})
    (row,) = class_orders(lake(tmp_path, runs, **search)).table.to_dict("records")
    assert (row["drawn"], row["orders tried"]) == (drawn, 3)


def test_the_range_is_set_against_what_seeds_alone_would_give(tmp_path: Path) -> None:
    values = {("natural", 0): 0.5, ("natural", 1): 0.6, (TURNED, 0): 0.7, (TURNED, 1): 0.6}
    runs = [{"label": "lwf", "order": o, "seed": s, "value": v} for (o, s), v in values.items()]
    (row,) = class_orders(lake(tmp_path, runs)).table.to_dict("records")
    assert row["range"] == pytest.approx(0.1)
    assert row["sd of seeds"] == pytest.approx(math.sqrt(0.005))
    # Two normal values lie 2 / sqrt(pi) of their sd apart on average; each is the mean of two seeds.
    assert row["range of noise"] == pytest.approx(2 / math.sqrt(math.pi) * math.sqrt(0.005) / math.sqrt(2))


def test_one_setting_of_the_hyperparameters_stands_for_a_label(tmp_path: Path) -> None:
    runs = [
        {"label": "lwf", "trial": n, "order": order, "value": value, "kd": kd}
        for n, kd, (order, value) in (
            (0, 1.0, ("natural", 0.5)),
            (0, 1.0, (MIXED, 0.6)),
            (1, 2.0, ("natural", 0.1)),
            (1, 2.0, (MIXED, 0.9)),
        )
    ]
    (row,) = class_orders(lake(tmp_path, runs)).table.to_dict("records")
    assert (row["hardest"], row["easiest"]) == (0.5, 0.6)  # of as many orders, the first trial


def test_pairs_that_swap_and_pairs_that_overlap_are_counted(tmp_path: Path) -> None:
    values = {"lwf": (0.50, 0.70), "icarl": (0.60, 0.65), "joint": (0.90, 0.95)}
    runs = [
        {"label": label, "order": order, "value": value}
        for label, pair in values.items()
        for order, value in zip(("natural", MIXED), pair, strict=True)
    ]
    found = class_orders(lake(tmp_path, runs))
    against, _, pairs = (table.frame for table in found.tables)
    (row,) = against.to_dict("records")
    assert (row["pairs that swap"], row["pairs that overlap"]) == ("1 of 3", "1 of 3")
    assert row["swaps by chance"] == "1.5 of 3"  # of two orders, half of the pairs without any difference
    assert row["distance of labels"] == pytest.approx(0.1)  # lwf and icarl; joint is no method
    assert row["mean range over orders"] == pytest.approx((0.2 + 0.05 + 0.05) / 3)
    assert (row["largest"], row["of"]) == (pytest.approx(0.2), "lwf")
    assert list(pairs["swap"]) == ["yes", "no", "no"]
    assert pairs["smallest a − b"][0] == pytest.approx(-0.1)


def test_the_ends_are_written_in_class_names(tmp_path: Path) -> None:
    found = class_orders(lake(tmp_path, hard("lwf", {NATURAL: 0.5, TURNED: 0.3})))
    ends = found.tables[1].frame
    assert list(ends["order"]) == ["hardest", "easiest"]
    assert list(ends["classes by task"]) == ["c, d | a, b", "a, b | c, d"]


def test_a_search_for_an_order_is_no_cell_that_methods_are_compared_in(tmp_path: Path) -> None:
    runs = [{"label": "lwf", "order": "natural", "value": 0.5}, *hard("lwf", {NATURAL: 0.5, MIXED: 0.2})]
    results = lake(tmp_path / "a", runs)
    assert [cell.name for cell in cells(results)] == ["lwf@B0-2tasks"]
    (search,) = order_searches(results)
    assert (search.seeks, list(search.ranking["trial"])) == ("hardest", [1, 0])
    assert "Searches for the hardest or easiest class order are no cells" in leaderboard(results).text
    assert [row["scenario"] for row in checks(results)] == ["B0-2tasks"]
    both = open_results([lake(tmp_path / "b", hard("icarl", {NATURAL: 0.5})).folder, results.folder])
    assert [cell.name for cell in cells(both)] == ["lwf@B0-2tasks"]
    alone = open_results(tmp_path / "b")
    assert leaderboard(alone).text.startswith("No run of a cell that compares methods")
    assert "No run of a cell that compares methods has ended yet." in render(alone)


def test_one_order_alone_says_nothing(tmp_path: Path) -> None:
    found = class_orders(lake(tmp_path, [{"label": "lwf", "order": "natural", "value": 0.5}]))
    assert found.bare
    assert found.optional
    assert isinstance(found.table, pd.DataFrame) is False


def test_seeds_that_agree_do_not_make_every_difference_one_of_class_orders(tmp_path: Path) -> None:
    plan = Plan(labels=("lwf",), scenarios=(("B0-2tasks", SIZES),), trials=1, orders=3)
    results = open_results(write(tmp_path / "run", plan))
    for table in ("runs", "classes", "confusion"):
        frame = getattr(results, table)
        again = frame.assign(run=frame["run"] + "/again")
        again = again.assign(seed=1) if table == "runs" else again
        results.__dict__[table] = pd.concat([frame, again], ignore_index=True)
    row = class_orders(results).table.iloc[0]
    assert row["sd of seeds"] == 0
    # 40 and 80 rows at an accuracy of about .7: an error of about .06, over sqrt(2) seeds, times 1.69
    assert 0.04 < row["range of noise"] < 0.1

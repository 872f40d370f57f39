"""The worth of buffer, weight, temperature and split: planted gains are found."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.report.section import VIEWS
from analysis.selection.levels import leveled
from analysis.selection.split_gains import BASE, LARGER, split_weights
from tests.analysis.hand_counts import class_rows
from tests.analysis.planted_search import chosen_from, ranged, search

SPLITS = {"B0-inc2": (2, "2,2,2,2"), "B0-inc5": (5, "5"), "B4-inc2": (4, "2,2,2"), "B4-inc6": (4, "6")}
STEPS = {"B0-inc2": 0.0, "B0-inc5": 0.1, "B4-inc2": 0.04, "B4-inc6": 0.2}
EXEMPLARS = {2: 0.0, 8: 0.1, 32: 0.16}  # low, medium and high of 2..32 in logarithms
WEIGHTS = {0.1: 0.0, 1.0: 0.05, 10.0: 0.02}
BYTES = 640  # of an exemplar of each of ten classes


def planted(
    folder: Path,
    noise: float = 0.0,
    trials: int = 9,
    weights: Sequence[float] = tuple(WEIGHTS),
    splits: Sequence[str] = tuple(SPLITS),
    confirmed: bool = False,
) -> Results:
    """A study of two labels: icarl with buffer and weight, lwf with a weight alone.

    With `confirmed`, a run of each label confirms a trial on another class order.
    """
    points, cells = [], []
    draw = np.random.default_rng(0)
    parameters = {
        "icarl": [ranged("kd_weight", 0.1, 10.0, log=True), chosen_from("exemplars_per_class", 2, 8, 32)],
        "lwf": [ranged("kd_weight", 0.1, 10.0, log=True)],
    }
    for label, split in itertools.product(parameters, splits):
        base, increments = SPLITS[split]
        cells.append({"name": f"{label}@{split}", "parameters": parameters[label]})
        values = list(itertools.product(EXEMPLARS, weights))[:trials]
        for trial, (exemplars, weight) in enumerate(values):
            buffer = EXEMPLARS[exemplars] if label == "icarl" else 0.0
            value = 0.3 + STEPS[split] + buffer + WEIGHTS[weight] + noise * draw.standard_normal()
            place = {"cell": f"{label}@{split}", "label": label, "method": label, "scenario": split}
            where = {
                "base": base,
                "increments": increments,
                "run": f"{label}@{split}/{trial}",
                "trial": trial,
            }
            kept = BYTES * exemplars if label == "icarl" else 0
            found = {"last_accuracy": value, "objective": value, "kept_bytes": kept}
            points.append(
                place | where | found | {"hp.kd_weight": weight, "hp.exemplars_per_class": float(exemplars)}
            )
    if confirmed:
        for point in (points[0], points[-1]):
            name = f"{point['cell']}/0/confirm"
            points.append({**point, "run": name, "purpose": "confirm", "class_order": "seed:2001"})
    study: dict[str, Any] = {
        "scenarios": [{"name": name, "base": 4 if name.startswith("B4") else 0} for name in SPLITS],
        "methods": {label: {"method": label} for label in parameters},
        "search": {"objective": {"last_accuracy": "max", "kept_bytes": "min"}},
        "resolved": {"cells": cells},
    }
    results = open_results(search(folder, points, None, **study))
    names = ["run", "split", "classifier", "primary", "after_task", "true_class", "predicted_class", "count"]
    results.__dict__["confusion"] = pd.DataFrame(columns=names).astype({"primary": bool})
    results.__dict__["classes"] = class_rows(results.confusion, [])
    return results


def table(results: Results) -> pd.DataFrame:
    found = VIEWS["worth"](results).table
    assert found is not None
    return found.set_index(("", "label"))


def test_planted_gains_are_found(tmp_path: Path) -> None:
    frame = table(planted(tmp_path / "run"))
    icarl = frame.loc["icarl"]
    assert icarl["buffer"][["low → medium", "medium → high"]].tolist() == pytest.approx([0.1, 0.06])
    for label in ("icarl", "lwf"):
        weight = frame.loc[label]["distillation weight"]
        assert weight[["low → medium", "medium → high"]].tolist() == pytest.approx([0.05, -0.03])
        # Base task: (.04 + .2 - 0 - .1) / 2; larger increments: (.1 + .16) / 2.
        assert frame.loc[label]["split"][[BASE, LARGER]].tolist() == pytest.approx([0.07, 0.13])
    assert frame.loc["lwf"]["buffer"].isna().all()  # it searches none
    assert "temperature" not in frame.columns.get_level_values(0)


def test_a_buffer_is_worth_its_gain_over_further_bytes_and_exemplars(tmp_path: Path) -> None:
    (buffers, _) = VIEWS["worth"](planted(tmp_path / "run")).tables
    frame = buffers.frame.set_index("step")
    assert set(frame["label"]) == {"icarl"}  # lwf keeps nothing
    # 6 and 24 further exemplars of 640 bytes. The largest buffer has 20.48 kB, so 10 kB is the amount.
    assert frame["further exemplars"].tolist() == [6, 24]
    assert frame["further kept bytes"].tolist() == [3840, 15360]
    assert frame["gain per 10 kB"].tolist() == pytest.approx([0.1 / 0.384, 0.06 / 1.536])
    assert frame["gain per exemplar"].tolist() == pytest.approx([0.1 / 6, 0.06 / 24])


def test_the_first_sentence_ranks_the_gains_and_counts_the_firm_ones(tmp_path: Path) -> None:
    first = VIEWS["worth"](planted(tmp_path / "run")).answer
    assert first.split(": ", 1)[1].split(". Clear")[0].split("; ") == [
        "a large buffer instead of a small one +0.160 (clear for 1 of 1 label)",  # icarl alone has one
        "large increments instead of small ones +0.130 (clear for 2 of 2 labels)",
        "a base task instead of none +0.070 (clear for 2 of 2 labels)",
        "a high distillation weight instead of a low one +0.020 (clear for 2 of 2 labels)",
    ]
    # Two points of the weight are lost where trials scatter by ten.
    loud = VIEWS["worth"](planted(tmp_path / "loud", noise=0.1)).answer
    assert loud.split("weight instead of a low one")[1].split(")")[0].endswith("for 0 of 2 labels")


def test_the_columns_of_a_group_stand_side_by_side(tmp_path: Path) -> None:
    groups = list(table(planted(tmp_path / "run")).columns.get_level_values(0))
    assert groups == sorted(groups, key=groups.index)


def test_levels_are_thirds_of_the_searched_range(tmp_path: Path) -> None:
    icarl, lwf = leveled(planted(tmp_path / "run"))
    assert (icarl.factors, lwf.factors) == (("buffer", "weight"), ("weight",))
    pairs = set(zip(icarl.trials["weight: value"], icarl.trials["weight"], strict=True))
    assert pairs == {(0.1, "low"), (1.0, "medium"), (10.0, "high")}
    assert len(icarl.trials) == 36


def test_a_study_without_a_base_task_or_with_one_size_has_no_such_gain(tmp_path: Path) -> None:
    results = planted(tmp_path / "run")
    assert split_weights(results, ["B0-inc2", "B0-inc5"]) == {LARGER: {"B0-inc2": -1, "B0-inc5": 1}}
    assert split_weights(results, ["B0-inc2", "B4-inc2"]) == {BASE: {"B0-inc2": -1, "B4-inc2": 1}}
    assert split_weights(results, ["B0-inc2"]) == {}


def test_a_split_whose_references_are_missing_is_warned_of(tmp_path: Path) -> None:
    text = VIEWS["worth"](planted(tmp_path / "run")).warnings[-1]
    assert text.startswith("Warning: a split counts only if fine-tuning forgets and joint training learns.")
    assert "B4-inc6 (finetune: not in the study, joint: not in the study)" in text


def test_too_few_trials_show_nothing(tmp_path: Path) -> None:
    found = VIEWS["worth"](planted(tmp_path / "run", trials=1))
    assert found.bare
    assert found.optional


def test_two_levels_without_one_between_are_one_step(tmp_path: Path) -> None:
    frame = table(planted(tmp_path / "run", weights=(0.1, 10.0)))
    weight = frame.loc["icarl"]["distillation weight"]
    assert weight.index.tolist() == ["low → high", "low → high ±"]
    assert weight["low → high"] == pytest.approx(0.02)
    assert "low → high" not in frame["buffer"]  # its steps are shown one by one


def test_a_label_whose_trials_have_one_level_and_one_split_is_not_shown(tmp_path: Path) -> None:
    """lwf varies its weight alone, and all of its trials have the same."""
    one = {"weights": (1.0,) * 4, "trials": 12}
    assert table(planted(tmp_path / "one", splits=("B0-inc2",), **one)).index.tolist() == ["icarl"]
    frame = table(planted(tmp_path / "two", splits=("B0-inc2", "B0-inc5"), **one))
    assert frame.loc["lwf"]["split"][LARGER] == pytest.approx(0.1)


def test_class_orders_that_confirm_are_not_those_of_the_search(tmp_path: Path) -> None:
    for confirmed in (False, True):
        results = planted(tmp_path / str(confirmed), confirmed=confirmed)
        assert "There is one class order" in VIEWS["worth"](results).text

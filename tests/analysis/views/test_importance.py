"""The view of importance: hyperparameters that decide, branches, and chance."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from analysis.lake.open import open_results
from analysis.lake.searched_space import spaces
from analysis.report.section import VIEWS
from analysis.selection.selection import cells
from cl_core.errors import BadRequest
from tests.analysis.planted_search import chosen_from, ranged, search

THREE = (ranged("x", 0.0, 1.0), ranged("y", 0.01, 1.0, log=True), chosen_from("z", 1, 2, 4))


def _points(n: int, value, seed: int = 0) -> list[dict]:
    """n random trials of THREE; `value` gives the objective."""
    draw = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        point = {"hp.x": float(draw.random()), "hp.y": float(10 ** -(2 * draw.random()))}
        point["hp.z"] = int(draw.choice([1, 2, 4]))
        out.append({**point, "objective": value(point)})
    return out


def test_the_hyperparameter_that_decides_everything_is_named_first(tmp_path):
    points = _points(60, lambda p: -((math.log10(p["hp.y"]) + 1) ** 2))
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE)))
    frame = found.table.set_index("hyperparameter")
    assert found.table["hyperparameter"].iloc[0] == "y"
    assert frame.loc["y", "importance"] > 0.8
    assert frame.loc["y", "importance"] > frame.loc["y", "chance"]
    assert frame.loc["y", "first"] == 1.0
    assert (frame.loc[["x", "z"], "importance"] < frame.loc[["x", "z"], "chance"]).all()
    assert frame["importance"].sum() == pytest.approx(1)
    assert (frame["trials"] == 60).all()


def test_values_dealt_out_at_random_stay_below_chance(tmp_path):
    noise = np.random.default_rng(3)
    points = _points(60, lambda p: float(noise.random()))
    frame = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE))).table
    assert (frame["importance"] < frame["chance"]).all()


def test_a_hyperparameter_of_a_branch_is_compared_within_it(tmp_path):
    space = (
        chosen_from("loss", "kl", "none"),
        ranged("weight", 0.0, 1.0, when={"hp.loss": ["kl"]}),
        ranged("rate", 0.0, 1.0),
    )
    draw = np.random.default_rng(1)
    points = []
    for _ in range(80):
        loss = str(draw.choice(["kl", "none"]))
        point = {"hp.loss": loss, "hp.weight": float(draw.random()), "hp.rate": float(draw.random())}
        # The tables hold a weight where it does not act as well; it must not count there.
        value = 1 - abs(point["hp.weight"] - 0.3) if loss == "kl" else 0.2 * point["hp.weight"]
        points.append({**point, "objective": value})
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, space)))
    frame = found.table.set_index("hyperparameter")
    assert found.table["hyperparameter"].iloc[0] == "weight"
    assert frame.loc["weight", "only where"] == "loss = kl"
    assert frame.loc["weight", "trials"] == sum(p["hp.loss"] == "kl" for p in points) < 80
    assert frame.loc["loss", "importance"] > frame.loc["rate", "importance"]
    assert "within the trials of that branch" in found.text


def test_stopped_trials_count_as_worse_and_failed_ones_not_at_all(tmp_path):
    points = _points(40, lambda p: p["hp.x"])
    for point in points:
        if point["hp.x"] < 0.5:
            point["status"] = "stopped"
            point["objective"] = 5.0  # over fewer tasks: better than any, and worth nothing
    points[0]["status"] = "failed"
    points[0]["objective"] = None
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE)))
    assert found.table["hyperparameter"].iloc[0] == "x"
    assert (found.table["trials"] == 39).all()
    assert "Stopped trials count as tried" in found.text


def test_too_few_trials_give_their_number_and_no_figure(tmp_path):
    points = _points(19, lambda p: p["hp.x"])
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE)))
    assert found.bare
    assert not found.optional
    assert "needs 20 trials" in found.text
    assert "lwf@B0-3tasks 19" in found.text


def test_a_run_of_an_earlier_version_says_that_its_space_is_unknown(tmp_path):
    results = open_results(search(tmp_path / "run", _points(20, lambda p: p["hp.x"]), None))
    assert spaces(results) is None
    found = VIEWS["importance"](results)
    assert found.bare
    assert "earlier version" in found.text
    assert VIEWS["range_edges"](results).bare


def test_runs_read_as_one_keep_their_spaces_under_their_new_names(tmp_path):
    points = _points(20, lambda p: p["hp.x"])
    folders = [
        search(tmp_path / name, points, THREE, resolved={"cells": [{"name": "lwf@B0-3tasks"}]})
        for name in "ab"
    ]
    both = open_results(folders)
    known = spaces(both)
    assert known is not None
    assert set(known) == {cell.name for cell in cells(both)}
    assert len(known) == 2
    assert set(VIEWS["importance"](both).table["trials"]) == {20}


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "float", "low": 2.0, "high": 1.0},
        {"kind": "int", "low": "a"},
        {"kind": "word"},
        {"low": -1.0, "log": True},
        {"column": 3},
        {"when": 3},
        {"default": []},
        {"kind": "choice", "choices": 3},
    ],
)
def test_a_damaged_space_is_one_line(tmp_path, broken):
    points = [{"hp.x": 0.5, "objective": 0.5}]
    results = open_results(search(tmp_path / "run", points, [{**ranged("x", 0.5, 1.0), **broken}]))
    with pytest.raises(
        BadRequest, match=r"study\.yaml is damaged: the parameters of cell lwf@B0-3tasks"
    ) as error:
        spaces(results)
    assert "\n" not in str(error.value)


def test_neither_optuna_nor_torch_is_loaded(tmp_path):
    code = (
        "import sys\nfrom analysis.lake.open import open_results\nfrom analysis.report.section import VIEWS\n"
        "run = open_results(sys.argv[1])\nassert VIEWS['importance'](run).figure\nVIEWS['best_of_n'](run)\n"
        "print('optuna' in sys.modules, 'torch' in sys.modules)\n"
    )
    folder = search(tmp_path / "run", _points(20, lambda p: p["hp.x"]), THREE)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False"]
    assert done.stderr == ""

"""Two runs, paired: differences by hand, and what makes a comparison wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import Results, compare
from analysis.lake.study import study_record
from cl_core.errors import BadRequest
from tests.analysis.planted_effects import Planted, plant

STUDY: dict[str, Any] = {
    "study": "a",
    "data": {"name": "digits", "root": None},
    "scenarios": [{"name": "B0-2tasks"}],
    "methods": {"lwf": {"method": "lwf"}, "icarl": {"method": "icarl"}},
    "recipe": {"epochs": 2},
    "search": {"objective": {"last_accuracy": "max"}, "trials": 4},
    "protocol": {"validation": 0.1},
    "resolved": {"fingerprint": "f" * 64},
}


def made(
    name: str, cells: Mapping[str, Mapping[tuple[str, int], float]], final: bool = False, **study: Any
) -> Results:
    """Results whose runs have a last accuracy for each (class order, seed) of a label."""
    rows = []
    for label, values in cells.items():
        for (order, seed), value in values.items():
            rows += [
                {
                    "cell": f"{label}@B0-2tasks",
                    "label": label,
                    "method": label,
                    "run": f"{label}@B0-2tasks/0/{order}/s{seed}{purpose}",
                    "trial_digest": "c",
                    "trial": 0,
                    "purpose": purpose,
                    "scenario": "B0-2tasks",
                    "dataset": "digits",
                    "base": 5,
                    "increments": "5",
                    "class_order": order,
                    "seed": seed,
                    "status": "completed",
                    "split": "val" if purpose == "search" else "test",
                    "objective": value,
                    "last_accuracy": value if purpose == "search" else value / 2,
                    "forgetting": 1 - value,
                }
                for purpose in (("search", "final") if final else ("search",))
            ]
    results = Results(Path(name))
    results.__dict__["runs"] = pd.DataFrame(rows)
    results.__dict__["study"] = study_record({**STUDY, **study})
    return results


def orders(*values: float) -> dict[tuple[str, int], float]:
    return {("natural" if k == 0 else f"seed:{k}", 0): value for k, value in enumerate(values)}


def test_differences_are_paired_on_the_class_order() -> None:
    found = compare(made("a", {"lwf": orders(0.5, 0.6, 0.7)}), made("b", {"lwf": orders(0.6, 0.6, 0.9)}))
    (cell,) = found.cells
    assert (cell.cell, cell.split, found.metric) == ("lwf@B0-2tasks", "val", "last_accuracy")
    # Differences 0.1, 0, 0.2: mean 0.1, deviation 0.1, t = sqrt(3) with 2 degrees of freedom.
    assert cell.difference.value == pytest.approx(0.1)
    assert cell.difference.half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert cell.p == pytest.approx(0.225403, rel=1e-5)
    assert cell.adjusted == cell.p
    assert found.warnings == ()
    json.dumps(found.to_dict(), allow_nan=False)


def test_seeds_are_averaged_within_an_order_and_partners_are_needed() -> None:
    a = {("natural", 0): 0.5, ("natural", 1): 0.7, ("seed:1", 0): 0.4, ("seed:2", 0): 0.9}
    b = {("natural", 0): 0.6, ("natural", 1): 0.6, ("seed:1", 0): 0.6, ("seed:3", 0): 0.1}
    (cell,) = compare(made("a", {"lwf": a}), made("b", {"lwf": b})).cells
    assert cell.difference.n == 2
    assert cell.difference.value == pytest.approx((0.0 + 0.2) / 2)
    assert (cell.a.value, cell.b.value) == (pytest.approx(0.5), pytest.approx(0.6))
    assert cell.left_out == 2


def test_several_cells_are_corrected_by_holm() -> None:
    a = made("a", {"lwf": orders(0.5, 0.6, 0.7), "icarl": orders(0.5, 0.6, 0.7)})
    b = made("b", {"lwf": orders(0.6, 0.6, 0.9), "icarl": orders(0.6, 0.7001, 0.7999)})
    lwf, icarl = compare(a, b).cells
    assert icarl.adjusted == pytest.approx(2 * icarl.p)
    assert lwf.adjusted == pytest.approx(lwf.p)


def test_final_runs_stand_only_where_both_have_them() -> None:
    values = orders(0.4, 0.6)
    both = compare(made("a", {"lwf": values}, final=True), made("b", {"lwf": values}, final=True)).cells[0]
    assert (both.split, both.a.value) == ("test", pytest.approx(0.25))
    one = compare(made("a", {"lwf": values}, final=True), made("b", {"lwf": values})).cells[0]
    assert (one.split, one.a.value) == ("val", pytest.approx(0.5))


def test_values_that_chose_are_told_from_final_ones_and_an_oracle_s_are_labelled() -> None:
    values = orders(0.4, 0.6)
    plain, final = (made("a", {"lwf": values}, final=f) for f in (False, True))
    assert any(
        line.startswith("val: trials were selected on these rows") for line in compare(plain, plain).lines()
    )
    assert not any(line.startswith("val") for line in compare(final, final).lines())
    oracle = made("b", {"lwf": values}, protocol={"select_on": "oracle-test", "validation": 0.1})
    oracle.runs["split"] = "test"
    assert [compare(a, oracle).cells[0].split for a in (plain, oracle)] == ["val / test", "test"]
    assert "B: selected on the test split (oracle-test)" in compare(plain, oracle).warnings


def test_what_is_in_one_run_alone_is_named() -> None:
    a, b = made("a", {"lwf": orders(0.5)}), made("b", {"lwf": orders(0.6), "icarl": orders(0.7)})
    found = compare(a, b)
    assert found.only_a == ()
    assert found.only_b == ("icarl@B0-2tasks",)
    assert found.cells[0].p is None
    assert found.warnings == (
        "too few class orders (n = 1) for a p-value: set protocol.orders or final.orders to 5",
    )


def test_without_an_interval_nothing_is_said_of_one_and_a_missing_metric_is_named() -> None:
    for values, said in ((orders(0.5), 0), (orders(0.5, 0.6), 1)):
        a, b = (made(name, {"lwf": values}) for name in "ab")
        for side in (a, b):  # two trials, of which the first is the better one
            more = side.runs.assign(trial=1, trial_digest="d", objective=0.1, run=side.runs["run"] + "x")
            side.__dict__["runs"] = pd.concat([side.runs, more], ignore_index=True)
            side.runs["seconds"] = float("nan")
        found = compare(a, b)
        assert found.cells[0].among == 2
        assert (
            sum("allow for the luck of the best of up to 2 trials" in line for line in found.lines()) == said
        )
        missing = compare(a, b, "seconds").warnings
        assert missing[0].startswith("lwf@B0-2tasks: no class order and seed has seconds in both runs")


def test_keys_that_differ_are_named_and_unfair_ones_warned_of() -> None:
    a = made("a", {"lwf": orders(0.5, 0.6, 0.7)}, data={"name": "digits", "root": "here"})
    b = made(
        "b",
        {"lwf": orders(0.5, 0.6, 0.7)},
        data={"name": "digits", "root": "there"},
        recipe={"epochs": 3, "increment": {"lr": 0.1}},
        search={"objective": {"last_accuracy": "max"}, "trials": 8},
        methods={"lwf": {"method": "lwf", "kd_weight": 2}, "bic": {"method": "bic", "beta_l2": 0.2}},
    )
    found = compare(a, b)
    (warning,) = found.warnings
    assert "recipe.epochs (2 / 3); recipe.increment.lr (not set / 0.1)" in warning
    assert "data" not in warning
    assert found.differing == ("search.trials (4 / 8)", "methods.lwf.kd_weight (not set / 2)")


def test_trials_selected_from_different_numbers_of_trials_are_no_comparison_of_methods() -> None:
    a, b = (made(name, {"lwf": orders(0.5, 0.6, 0.7)}) for name in "ab")
    another = b.runs.assign(
        trial=1, run=b.runs["run"].str.replace("/0/", "/1/"), last_accuracy=0.1, objective=0.1
    )
    b.__dict__["runs"] = pd.concat([b.runs, another], ignore_index=True)
    (warning,) = compare(a, b).warnings
    assert warning.startswith("lwf@B0-2tasks: selected from 1 trial in A and from 2 in B")
    assert warning.endswith(": set search.trials to the same")
    again = a.runs.assign(purpose="confirm", class_order="seed:2001", run=a.runs["run"] + "/confirm")
    a.__dict__["runs"] = pd.concat([a.runs, again], ignore_index=True)
    a.memo.clear()
    (warning,) = compare(a, b).warnings
    assert warning.endswith(": set search.trials and protocol.confirm to the same")
    assert any(
        line.startswith("compared are the two selected trials, not the methods")
        for line in compare(a, a).lines()
    )


def test_another_metric_can_be_asked_for_and_its_direction_is_told() -> None:
    runs = made("a", {"lwf": orders(0.5, 0.6)}), made("b", {"lwf": orders(0.6, 0.8)})
    found = compare(*runs, "forgetting")
    assert found.cells[0].difference.value == pytest.approx(-0.15)
    assert "below 0: B is better" in found.lines()[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resolved": {"fingerprint": "e" * 64}}, "other images"),
        ({"tasks": "3,2"}, "has tasks of 5, then 5 classes in one run and of 5, then 3,2 in the other"),
        ({"label": "icarl"}, "no cell has a selected trial in both"),
        ({"status": "failed"}, "no cell has a selected trial in both"),
        ({"metric": "last_acuracy"}, "did you mean 'last_accuracy'"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_refused_in_one_line(change: dict[str, Any], says: str) -> None:
    a = made("a", {"lwf": orders(0.5, 0.6)})
    study = {"resolved": change["resolved"]} if "resolved" in change else {}
    b = made("b", {change.get("label", "lwf"): orders(0.5, 0.6)}, **study)
    if "tasks" in change:
        b.runs["increments"] = change["tasks"]
    if "status" in change:
        b.runs["status"] = change["status"]
    with pytest.raises(BadRequest, match=says) as caught:
        compare(a, b, change.get("metric"))
    assert "\n" not in str(caught.value)


def test_the_same_row_more_in_every_class_order_is_no_certain_difference(tmp_path: Path) -> None:
    """142 rows, one more right in each of three class orders: no spread, and p was 0."""
    for name, newest in (("a", 64 / 71), ("b", 65 / 71)):
        label = Planted("lwf", "lwf", 64 / 71, newest=newest)
        plant(tmp_path / name, [label], {"B0-2tasks": (1, 1)}, orders=3, noise=0.0, rows=71)
    (cell,) = compare(tmp_path / "a", tmp_path / "b", "last_accuracy").cells
    assert cell.difference.value == pytest.approx(1 / 142)
    assert cell.difference.half == pytest.approx(0.039, abs=0.001)
    assert cell.p == pytest.approx(0.727, abs=0.001)
    assert cell.adjusted == cell.p

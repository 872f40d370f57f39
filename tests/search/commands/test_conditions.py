"""`export --at`: the best trial under conditions, and one line where none fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import open_results
from analysis.selection.selection import cells
from cl_core.errors import BadRequest
from search.commands.conditions import Fit, Lack, best_under, conditions
from tests.analysis.planted import Plan, write
from tests.analysis.planted_search import search

# Trials 0 to 4: accuracy by the search, and kilobytes kept.
SEARCHED = ((0.60, 2.0), (0.90, 9.0), (0.80, 4.0), (0.75, 1.0), (0.70, 0.5))


def points(*confirmed: tuple[int, float]) -> list[dict[str, Any]]:
    """The rows of the search, and those of confirming runs (trial, accuracy)."""
    rows = [row(trial, value, kept) for trial, (value, kept) in enumerate(SEARCHED)]
    for trial, value in confirmed:
        again = {"run": f"lwf@B0-3tasks/{trial}/confirm/seed:1/s0", "purpose": "confirm", "trial": trial}
        again["trial_digest"] = f"{trial:020d}"
        rows.append(row(trial, value, SEARCHED[trial][1]) | again)
    return rows


def row(trial: int, value: float, kept: float) -> dict[str, Any]:
    forgetting = 1 - value
    shown = {"objective": value, "average_incremental_accuracy": value, "forgetting": forgetting}
    sizes = {"kept_bytes": round(1000 * kept), "parameters": round(1e6 * kept)}
    return shown | sizes | {"seconds": 10.0 * (trial + 1)}


def found(
    folder: Path, *texts: str, confirmed: tuple[tuple[int, float], ...] = (), **study: Any
) -> Fit | Lack:
    results = open_results(search(folder, points(*confirmed), None, **study))
    (cell,) = cells(results)
    return best_under(results, cell, conditions(texts))


def picked(
    folder: Path, *texts: str, confirmed: tuple[tuple[int, float], ...] = (), **study: Any
) -> tuple[int, str]:
    fit = found(folder, *texts, confirmed=confirmed, **study)
    assert isinstance(fit, Fit)
    (run,) = fit.cell.selected["run"]
    return int(run.split("/")[1]), fit.why


@pytest.mark.parametrize("text", ["1.001kB", "1001", "1234564", "1.234567891MB"])
def test_a_limit_is_exact_and_reads_the_same_as_it_is_shown(text: str) -> None:
    (bound,) = conditions([f"kept_bytes<={text}"])
    assert bound.limit in (1001, 1_234_564, 1_234_567.891)
    assert conditions([str(bound)]) == [bound]


@pytest.mark.parametrize(
    ("texts", "trial"),
    [
        (["kept_bytes<=4kB"], 2),
        (["kept_bytes<=0.004 MB"], 2),
        (["kept_bytes<=3999"], 3),
        (["parameters<=4M"], 2),
        (["parameters<=3999000"], 3),
        (["kept_bytes<=1kB, forgetting<=.27"], 3),
        (["kept_bytes<=1kB", "seconds>=50s"], 4),
        (["seconds<=.5min", "average_incremental_accuracy>=.6"], 1),
        (["forgetting>=.3"], 4),
        (["seconds<=0.003h"], 0),
    ],
)
def test_the_best_trial_under_conditions_is_picked(texts: list[str], trial: int, tmp_path: Path) -> None:
    assert picked(tmp_path / "run", *texts)[0] == trial


def test_the_pick_says_under_what_and_by_which_runs(tmp_path: Path) -> None:
    assert picked(tmp_path / "run", "kept_bytes<=4kB", "forgetting<=.5") == (
        2,
        "kept_bytes <= 4 kB and forgetting <= 0.5, by the search, not confirmed",
    )


@pytest.mark.parametrize("text", ["kept_bytes<=1234567", "parameters<=3.9999999M", "seconds<=2.3h"])
def test_a_condition_is_said_as_it_can_be_given_again(text: str) -> None:
    (bound,) = conditions([text])
    assert conditions([str(bound).replace(" ", "")]) == [bound]


def test_confirmed_values_decide_where_a_candidate_has_them(tmp_path: Path) -> None:
    # Trial 2 is better by the search, 3 when confirmed; 4 was not confirmed, 1 does not fit.
    confirmed = ((0, 0.55), (1, 0.80), (2, 0.60), (3, 0.65))
    assert picked(tmp_path / "a", "kept_bytes<=4kB", confirmed=confirmed)[0] == 3
    # The condition itself is on the confirmed value, too: 2 has .60 now.
    assert picked(tmp_path / "b", "average_incremental_accuracy<=.62", confirmed=confirmed)[0] == 2
    # The default confirmed worse than it was searched: the candidate stays, and the other way round.
    assert picked(tmp_path / "c", "kept_bytes<=4kB", confirmed=((0, 0.7), (2, 0.6)))[0] == 0
    assert "by confirming runs" in picked(tmp_path / "d", "kept_bytes<=4kB", confirmed=confirmed)[1]


def test_the_search_decides_where_no_candidate_that_fits_is_confirmed(tmp_path: Path) -> None:
    trial, why = picked(tmp_path / "run", "kept_bytes<=2kB", confirmed=((0, 0.55), (1, 0.80)))
    assert trial == 3  # .75 by the search, where the default has .60
    assert why.endswith("by the search, not confirmed")


def test_a_default_that_confirmation_kept_stays_where_it_fits(tmp_path: Path) -> None:
    trial, why = picked(tmp_path / "run", "kept_bytes<=2kB", confirmed=((0, 0.99), (1, 0.80)))
    assert (trial, why) == (0, "kept_bytes <= 2 kB, by confirming runs")


def test_stored_images_are_a_condition(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", Plan(labels=("icarl", "lwf"), trials=2, confirmed=(1,)))
    results = open_results(folder)
    fits = [best_under(results, cell, conditions(["stored_images<=199"])) for cell in cells(results)]
    # icarl keeps 20 exemplars of each of ten classes, lwf none
    assert [isinstance(fit, Fit) for fit in fits] == [cell.label == "lwf" for cell in cells(results)]


def test_trial_0_is_a_candidate_where_the_search_does_not_start_from_the_default(tmp_path: Path) -> None:
    confirmed = ((0, 0.55), (1, 0.80))
    assert picked(tmp_path / "paper", "kept_bytes<=2kB", confirmed=confirmed)[0] == 3
    start = {"search": {"sampler": "random", "start_from": []}}
    trial, why = picked(tmp_path / "none", "kept_bytes<=2kB", confirmed=confirmed, **start)
    assert (trial, why) == (0, "kept_bytes <= 2 kB, by confirming runs")


def test_the_nearest_trial_is_named_where_none_fits(tmp_path: Path) -> None:
    lack = found(tmp_path / "run", "kept_bytes<=400B", "average_incremental_accuracy>=.7")
    assert lack == Lack(
        "no trial of lwf@B0-3tasks has kept_bytes <= 400 B and average_incremental_accuracy >= 0.7: the "
        "nearest, trial 4, has kept_bytes 500 B and average_incremental_accuracy 0.7",
        0.25,  # 100 of 400 bytes
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kept_bytes", "must be a name, <= or >=, and a number, not 'kept_bytes'"),
        ("kept_bytes<2MB", "must be a name, <= or >="),
        ("bytes<=2MB", "unknown objective or cost in --at 'bytes'"),
        ("kept_bytes<=2min", "kept_bytes takes B, kB, MB, GB, not 'min'"),
        ("parameters<=2MB", "parameters takes k, M, not 'MB'"),
        ("last_accuracy>=60s", "last_accuracy is a fraction and takes no unit, not 's'"),
        ("kept_bytes<=1..2kB", "'1..2' in 'kept_bytes<=1..2kB' must be a number"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        conditions([text])
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)

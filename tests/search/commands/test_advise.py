"""`advise`: the best trials under constraints, the price of each, and the command that trains them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import open_results
from analysis.selection.selection import cells
from cl_core.errors import BadRequest
from search.commands.advise import Advice, Constraints, advise, lines_of
from search.commands.conditions import Fit, best_under, conditions
from tests.analysis.planted import Plan, write
from tests.search.terminal import call, refused


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fine-tuning, joint training, LwF and iCaRL, two trials each, on five and on four tasks."""
    return write(tmp_path_factory.mktemp("advise") / "run", Plan(trials=2, rows=40))


@pytest.fixture(scope="module")
def free(lake: Path) -> Advice:
    return advise(lake, Constraints())


def cells_of(found: Advice) -> list[str]:
    return [one.cell for scenario in found.scenarios for one in scenario.advised]


def test_every_scenario_has_the_best_trial_of_each_cell_the_most_probable_first(free: Advice) -> None:
    five, four = free.scenarios
    assert (five.scenario, five.tasks, four.scenario, four.tasks) == ("B0-5tasks", 5, "B4-inc2", 4)
    assert five.trials == 6
    assert five.advised[0].cell == "icarl@B0-5tasks"
    assert {one.cell for one in five.advised} == {f"{x}@B0-5tasks" for x in ("finetune", "lwf", "icarl")}
    assert sum(one.p_best for one in five.advised) == pytest.approx(1)
    assert five.advised[0].p_best > 0.9
    assert all(one.high < 0 for one in five.advised[1:])
    # 20 exemplars of 64 bytes for each of ten classes; five tasks of 1.5 s and the trial's number
    first = five.advised[0]
    assert first.costs["stored_images"] == 200
    assert first.costs["kept_bytes"] == 12_800
    assert first.costs["seconds"] == 5 * (1.5 + first.trial)
    assert five.prices == ()


def test_a_constraint_has_a_price_and_excludes_trials(lake: Path, free: Advice) -> None:
    found = advise(lake, Constraints(no_stored_images=True, min_tasks=5))
    (five,) = found.scenarios
    assert found.left_out == ("B4-inc2",)
    assert five.lacking == ("icarl@B0-5tasks",)
    (price,) = five.prices
    assert (price.constraint, price.cell, price.excludes) == ("--no-stored-images", "icarl@B0-5tasks", 2)
    before = {one.cell: one for one in free.scenarios[0].advised}
    assert price.difference == pytest.approx(-before[five.advised[0].cell].difference, abs=0.01)
    assert price.low > 0
    lines = lines_of(five)
    assert lines[1].startswith("--no-stored-images: excludes 2 of 6 trials; without it, icarl")
    assert lines[-1].endswith("--cell lwf@B0-5tasks --at 'stored_images<=0'")


def test_a_constraint_that_the_best_trial_meets_costs_nothing(lake: Path) -> None:
    found = advise(lake, Constraints(max_bytes="12.8kB", max_seconds="1h"))
    five = found.scenarios[0]
    assert five.advised[0].cell == "icarl@B0-5tasks"
    assert [price.difference for price in five.prices] == [0.0, 0.0]
    assert lines_of(five)[1] == "--max-bytes 12.8kB costs nothing: excludes 0 of 6 trials"


def test_constraints_that_exclude_the_same_trials_do_not_call_them_worse(lake: Path) -> None:
    five = advise(lake, Constraints(max_bytes="1B", no_stored_images=True)).scenarios[0]
    assert lines_of(five)[2] == (  # iCaRL's two are better, but keep bytes
        "--no-stored-images costs nothing: excludes 2 of 6 trials, and none of them that meets the other "
        "constraints is better"
    )


def test_a_scenario_without_a_trial_that_fits_is_named(lake: Path) -> None:
    found = advise(lake, Constraints(max_seconds="6"))  # four tasks of 1.5 s; five take 7.5 s
    assert [one.scenario for one in found.scenarios] == ["B4-inc2"]
    assert (found.lacking, found.left_out) == (("B0-5tasks",), ())


def test_impossible_constraints_are_refused_with_how_many_each_excludes(lake: Path) -> None:
    with pytest.raises(BadRequest) as refusal:
        advise(lake, Constraints(max_bytes="1GB", max_seconds="5", min_tasks=5))
    # Of 12 trials, 6 have four tasks: 6 s and 10 s. The others take 7.5 s and 12.5 s.
    assert str(refusal.value) == (
        "no trial meets all constraints: of 12 completed trials, --max-bytes 1GB excludes 0, --max-seconds 5 "
        "excludes 12, --min-tasks 5 excludes 6; loosen the one that excludes most, or search more trials"
    )


def test_the_command_of_the_advice_exports_that_trial(lake: Path, tmp_path: Path) -> None:
    (five,) = advise(lake, Constraints(no_stored_images=True, max_seconds="10", min_tasks=5)).scenarios
    words = shlex.split(five.advised[0].command)
    assert words[:2] == ["cl-search", "export"]
    at = [words[k + 1] for k, word in enumerate(words) if word == "--at"]
    assert at == ["stored_images<=0", "seconds<=10s"]
    (cell,) = [one for one in cells(open_results(lake)) if one.name == words[4]]
    fit = best_under(open_results(lake), cell, conditions(at))
    assert isinstance(fit, Fit)
    assert fit.cell.selected["trial"].iloc[0] == five.advised[0].trial == 0  # trial 1 takes 12.5 s


def test_the_verb_prints_a_table_and_json(lake: Path) -> None:
    shown = call("advise", lake, "--no-stored-images", "--min-tasks", "5")
    assert shown.exit_code == 0, shown.output
    assert "lwf@B0-5tasks" in shown.stdout
    assert "P(best)" in shown.stdout
    assert "left out, fewer than 5 tasks: B4-inc2" in shown.stdout
    unknown = refused("advise", lake, "--max-parameters", "5M")
    assert "--max-parameters 5M excludes 12 (12 without recorded parameters)" in unknown
    plain = json.loads(call("advise", lake, "--json").stdout)
    assert plain["scenarios"][0]["advised"][0]["command"].startswith("cl-search export")
    assert "--max-bytes: kept_bytes takes B, kB, MB, GB" in refused("advise", lake, "--max-bytes", "2min")


def test_advice_needs_neither_torch_nor_ray() -> None:
    code = "import sys, search.commands.advise; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

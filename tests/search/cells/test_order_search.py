"""The search for the hardest and the easiest class order, without training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from analysis import open_results
from analysis.lake.run_folder import JOURNAL
from analysis.lake.run_rows import run_rows
from analysis.selection.selection import order_searches
from cl_core.errors import BadRequest
from search.cells.cell_progress import read_progress
from search.cells.search_queue import SearchQueue
from search.cells.warm_start import observations
from search.commands.status import show, status
from search.display.cells import cell_table
from search.display.live import Live
from search.lake.writer import start_tables
from search.storage.journal import read_file
from spaces.resolved.run_spec import RunSpec
from spaces.resolved.study_yaml import study_yaml
from tests.search.simulation import SCHEMAS, Driver, Ending, images, made, told, trials_of

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

SPLIT = {"base": 0, "tasks": 5}
BOTH = ({**SPLIT, "class_order": "hardest"}, {**SPLIT, "class_order": "easiest"})
HARD, EASY = "lwf@B0-5tasks-hardest", "lwf@B0-5tasks-easiest"


def order(spec: RunSpec) -> tuple[int, ...]:
    return spec.configuration.order(10)


def planted(spec: RunSpec) -> Ending:
    """Worth more, the later class 0 and the earlier class 9 arrive; a seed adds a little."""
    found = order(spec)
    return "completed", 0.5 + 0.03 * (found.index(0) - found.index(9)) + 0.001 * spec.configuration.seed


def searched(folder: Path, **search: Any) -> Any:
    """A study of both searches in a folder of its own."""
    protocol = search.pop("protocol", None)
    resolved = made(images(), {"lwf": None}, search.pop("scenarios", BOTH), protocol, **search)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(study_yaml(resolved))
    start_tables(folder, SCHEMAS)
    return resolved


def carried_out(resolved: Any, folder: Path, jobs: int | None = None, **how: Any) -> Driver:
    with SearchQueue(resolved, folder, bases=False, **how) as cells:
        return Driver(cells, folder).run(jobs, ending=planted)


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "gp"])
def test_every_sampler_searches_from_the_natural_order_on(sampler: str, tmp_path: Path) -> None:
    args = {} if sampler == "random" else {"n_startup_trials": 2}
    args = {"population_size": 3} if sampler == "nsga2" else args
    resolved = searched(tmp_path, sampler=sampler, sampler_args=args, trials=5)
    driver = carried_out(resolved, tmp_path)
    assert driver.cells.finished
    hard, easy = (told(tmp_path, name) for name in (HARD, EASY))
    first = 0.5 + 0.03 * (0 - 9)
    assert hard[0][2] == easy[0][2] == pytest.approx(first)
    orders = {row["class_order"] for row in run_rows(tmp_path).values()}
    assert len(orders) == 9  # the natural one is in both
    assert {state for found in (hard, easy) for _, state, _ in found} == {"COMPLETE"}
    storage = read_file(tmp_path / JOURNAL)
    assert storage is not None
    ways = [optuna.load_study(study_name=name, storage=storage).direction.name for name in (HARD, EASY)]
    assert ways == ["MINIMIZE", "MAXIMIZE"]


def test_each_search_goes_its_own_way(tmp_path: Path) -> None:
    # The natural order is the hardest that there is: beside it, TPE keeps class 0 early and class 9 late.
    resolved = searched(tmp_path, trials=40)
    carried_out(resolved, tmp_path)
    late = {
        name: [value for number, _, value in told(tmp_path, name) if number >= 25 and value is not None]
        for name in (HARD, EASY)
    }
    assert sum(late[HARD]) / 15 < 0.45 < 0.55 < sum(late[EASY]) / 15


def test_rows_hold_the_order_with_the_classes_of_a_task_sorted(tmp_path: Path) -> None:
    resolved = searched(tmp_path, trials=4, protocol={"seeds": 2})
    carried_out(resolved, tmp_path)
    rows = run_rows(tmp_path)
    assert rows[f"{HARD}/0"]["class_order"] == "list:0-1-2-3-4-5-6-7-8-9"
    assert rows[f"{HARD}/3"]["class_order"] == rows[f"{HARD}/3/hardest/s1"]["class_order"]
    assert len(rows) == 16
    for row in rows.values():
        found = [int(c) for c in row["class_order"].removeprefix("list:").split("-")]
        assert all(found[i] < found[i + 1] for i in range(0, 10, 2))
        assert not any(name.startswith("order") for name in row)


@pytest.mark.parametrize("jobs", [1, 7, 13])
def test_a_killed_search_asks_what_an_undisturbed_one_asks(jobs: int, tmp_path: Path) -> None:
    search = {"trials": 8, "sampler_args": {"n_startup_trials": 3}}
    straight = carried_out(searched(tmp_path / "straight", **search), tmp_path / "straight")
    resolved = searched(tmp_path / "killed", **search)
    first = carried_out(resolved, tmp_path / "killed", jobs)
    second = carried_out(resolved, tmp_path / "killed")
    assert trials_of(first.order)[:-1] + trials_of(second.order) == trials_of(straight.order)
    for name in (HARD, EASY):
        assert told(tmp_path / "killed", name) == told(tmp_path / "straight", name)


def test_more_trials_and_more_of_a_grid_extend_it(tmp_path: Path) -> None:
    carried_out(searched(tmp_path, trials=4), tmp_path)
    before = [told(tmp_path, name) for name in (HARD, EASY)]
    grid = {"grid": {"increment": [2, 5], "class_order": ["natural", "hardest"]}}
    resolved = searched(tmp_path, trials=6, scenarios=(*BOTH, grid))
    carried_out(resolved, tmp_path)
    assert [told(tmp_path, name)[:4] for name in (HARD, EASY)] == before
    assert [cell.cell for cell in read_progress(tmp_path)] == [
        *(HARD, EASY, "lwf@B0-inc2", "lwf@B0-inc2-hardest", "lwf@B0-inc5", "lwf@B0-inc5-hardest")
    ]
    assert {cell.completed for cell in read_progress(tmp_path)} == {6}


def test_a_search_learns_from_another_runs_orders(tmp_path: Path) -> None:
    other, folder = tmp_path / "other", tmp_path / "here"
    carried_out(searched(other, trials=5), other)
    resolved = searched(folder, trials=3, start_from=["paper", str(other)])
    found = observations(resolved, str(other))
    assert [len(found[name]) for name in (HARD, EASY)] == [5, 5]
    rows = run_rows(other)
    for name, cell in zip((HARD, EASY), resolved.cells, strict=True):
        for number, seen in enumerate(found[name]):
            again = resolved.configuration(cell, seen.values, "natural", 0)
            assert again.class_order == rows[f"{name}/{number}"]["class_order"]
    carried_out(resolved, folder, known={str(other): found})
    assert len(told(folder, HARD)) == 3


def test_no_stopper_acts_and_the_hardest_order_is_nobodys_best(tmp_path: Path) -> None:
    scenarios = ("B0-5tasks", BOTH[0])
    resolved = searched(tmp_path, trials=9, scenarios=scenarios, stopper="asha", sampler="random")
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        Driver(cells, tmp_path).run(ending=planted)
        plain, hard = cells.progress()
        line = Live(cells.progress, tmp_path).line()
    assert (plain.cell, plain.seeks, hard.seeks) == ("lwf@B0-5tasks", "", "hardest")
    assert hard.stopped == 0
    assert hard.best == min(value for _, _, value in told(tmp_path, HARD) if value is not None)
    assert read_progress(tmp_path) == [plain, hard]
    best = status(tmp_path)["best"]
    assert best is not None
    assert best["cell"] == "lwf@B0-5tasks"
    assert f"best {plain.best:.4f} (lwf@B0-5tasks)" in line
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(*show(tmp_path), cell_table([hard], 120))
    assert f"{hard.best:.4f} (hardest order)" in console.export_text()


def test_another_space_of_orders_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    carried_out(searched(other, trials=2, scenarios=({**SPLIT, "class_order": "hardest"},)), other)
    narrowed = made(images(), {"lwf": {"kd_weight": 2.0}}, BOTH, start_from=["paper", str(other)], trials=3)
    with pytest.raises(BadRequest, match=r"hp\.kd_weight"):
        observations(narrowed, str(other))


def test_no_class_order_is_put_on_the_scale_of_another_where_other_cells_take_them_in_turn(
    tmp_path: Path,
) -> None:
    protocol = {"spread": 3, "confirm": {"top": 1, "orders": 1}}
    carried_out(searched(tmp_path, sampler="random", trials=8, protocol=protocol), tmp_path)
    measured = run_rows(tmp_path)
    for cell in order_searches(open_results(tmp_path)):
        ranked = {n: measured[f"{cell.name}/{n}"]["objective"] for n in cell.ranking["trial"]}
        assert list(cell.ranking["objective"]) == pytest.approx(list(ranked.values()))

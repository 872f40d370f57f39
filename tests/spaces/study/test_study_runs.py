"""The cells of a study, the runs of a trial, and how a trial reaches the trainer."""

from __future__ import annotations

import pytest

from cl_core.images.dataset import Data
from spaces.resolved.resolve import resolve
from spaces.resolved.warnings import warnings_of
from tests.spaces.study.small_study import study


def test_cells_stand_in_study_order(data: Data) -> None:
    resolved = resolve(study(methods=["lwf", "bic"], scenarios=["B0-5tasks", "B4-inc2"]), data)
    assert [cell.name for cell in resolved.cells] == [
        "lwf@B0-5tasks",
        "lwf@B4-inc2",
        "bic@B0-5tasks",
        "bic@B4-inc2",
    ]
    assert resolved.cells[1].sizes == (4, 2, 2, 2)


def test_a_cell_without_anything_to_search_runs_once_and_a_small_grid_runs_out(data: Data) -> None:
    assert [c.budget for c in resolve(study("search.trials=9"), data).cells] == [1, 9]
    grid = resolve(
        study(
            search={"sampler": "grid", "trials": 9},
            methods={
                "few": {"method": "lwf", "kd_weight": {"choice": [1, 2]}, "temperature": {"choice": [1, 2]}},
                "many": {
                    "method": "lwf",
                    "kd_weight": 1,
                    "temperature": {"choice": [1 + i / 8 for i in range(20)]},
                },
            },
        ),
        data,
    )
    assert [c.budget for c in grid.cells] == [4, 9]
    assert [row["budget"] for row in grid.table()] == ["4 (the whole grid)", "9"]
    assert resolve(study(), data).table()[0]["budget"] == "1 (nothing to search)"


@pytest.mark.parametrize(
    ("order", "orders", "seeds", "runs"),
    [
        ("natural", 1, 1, [("natural", 0)]),
        ("natural", 2, 2, [("natural", 0), ("natural", 1), ("seed:1", 0), ("seed:1", 1)]),
        ("seed:1", 3, 1, [("seed:1", 0), ("seed:2", 0), ("seed:3", 0)]),
        ("numpy-1993", 2, 1, [("numpy-1993", 0), ("seed:1", 0)]),
    ],
)
def test_a_trial_has_a_run_for_each_class_order_and_seed(
    order: str, orders: int, seeds: int, runs: list[tuple[str, int]], data: Data
) -> None:
    resolved = resolve(
        study(
            protocol={"orders": orders, "seeds": seeds},
            scenarios=[{"base": 0, "tasks": 5, "class_order": order}],
        ),
        data,
    )
    assert resolved.runs(resolved.cells[0]) == runs


def test_the_runs_of_a_trial_share_its_digest_and_differ_in_name(data: Data) -> None:
    resolved = resolve(study(protocol={"orders": 2, "seeds": 2}), data)
    cell = resolved.cells[1]
    specs = resolved.run_specs(cell, 3, cell.space.defaults())
    assert [spec.run for spec in specs] == [
        "lwf@B0-5tasks/3",
        "lwf@B0-5tasks/3/natural/s1",
        "lwf@B0-5tasks/3/seed:1/s0",
        "lwf@B0-5tasks/3/seed:1/s1",
    ]
    assert len({spec.trial_digest for spec in specs}) == 1
    first = specs[3].configuration
    assert (first.class_order, first.seed, first.hp["kd_weight"]) == ("seed:1", 1, 0.25)


def test_a_sampled_trial_reaches_the_trainer_in_its_parts(data: Data) -> None:
    resolved = resolve(
        study(
            methods={"lwf": {"recipe": {"epochs": 2, "increment": {"lr": 0.02}}}},
            recipe={
                "net": "convnet-small",
                "epochs": 9,
                "base": {"lr": 0.3},
                "increment": {"lr": 0.5, "batch": 16},
            },
            resources={"cpu": 2},
        ),
        data,
    )
    cell = resolved.cells[0]
    made = resolved.configuration(cell, cell.space.defaults(), "natural", 0)
    assert made.recipe == {"epochs": 2, "base": {"lr": 0.3}, "increment": {"lr": 0.02, "batch": 16}}
    assert (made.net, made.threads, made.validation) == ("convnet-small", 2, 0.1)


def test_a_method_that_restarts_has_nothing_to_search_in_the_increments_recipe(data: Data) -> None:
    resolved = resolve(
        study(
            methods=["finetune", "joint"],
            recipe={"epochs": 3, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
            search={"trials": 9},
        ),
        data,
    )
    finetune, joint = resolved.cells
    assert [p.name for p in finetune.space.searched] == ["recipe.increment.lr"]
    assert (finetune.budget, joint.budget, joint.note) == (9, 1, "nothing to search")
    assert joint.space.defaults() == {"recipe.epochs": 3}
    assert warnings_of(resolved) == []

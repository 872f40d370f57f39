"""Before a run: what is counted is exact, what is timed lies near, and what was spent stands beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from analysis import open_results
from analysis.lake.spending import against, in_words, planned, spent
from analysis.report.page import render
from analysis.views.planned_and_spent import planned_and_spent
from cl_core.errors import BadRequest
from cl_core.method import Phase
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.trainer import Training
from search.commands.run import run_study
from search.cost.dry_run import rehearse
from search.cost.forecast import forecast, write
from search.preparation.prepared import prepare
from tests import tiny
from tests.search.terminal import call, refused

STUDY: dict[str, Any] = {
    "study": "small",
    "data": {"name": "digits", "per_class": 30},
    "scenarios": ["B0-5tasks", "B4-inc3"],
    "methods": {"lwf": {}, "eeil": {}, "icarl": {"exemplars_per_class": 4}, "joint": {}},
    "recipe": {"net": "convnet-small", "epochs": 2, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
    "search": {"trials": 2},
    "protocol": {"orders": 2},
}


@pytest.mark.parametrize(("method", "hp"), tiny.variants())
def test_a_rehearsal_counts_what_a_run_does(method: str, hp: str) -> None:
    run = tiny.run(method, json.loads(hp))
    counts = rehearse(run.training.configuration, tiny.data())
    assert [count.images for count in counts] == [result.images for result in run.results]
    assert [count.exemplars for count in counts] == [result.exemplars for result in run.results]
    for count, result in zip(counts, run.results, strict=True):
        assert count.epochs == len({(p.phase, p.epoch) for p in result.phases})
    assert counts[0].evaluated == 3 * (tiny.VAL + tiny.TEST)
    teacher = 2 * 3 * tiny.VAL if run.results[1].teacher_agreement is not None else 0
    assert counts[1].evaluated == 5 * (tiny.VAL + tiny.TEST) + teacher


@pytest.mark.parametrize("method", ["lwf", "bic", "ss_il"])
@pytest.mark.parametrize(("last_batch", "first"), [("keep", 2 * 42), ("complete", 2 * 48), ("drop", 2 * 32)])
def test_a_rehearsal_counts_image_steps_whatever_becomes_of_the_last_batch(
    method: str, last_batch: str, first: int
) -> None:
    steps: list[int] = []
    run = tiny.configuration(method, recipe={"last_batch": last_batch})
    training = Training(run, tiny.data())

    def counting(phase: Phase) -> Phase:
        def loss(s: State, b: Batch, t: Task) -> dict[str, Term]:
            steps.append(len(b.y))
            return phase.loss(s, b, t)

        return dataclasses.replace(phase, loss=loss)

    training.learner = dataclasses.replace(training.learner, adapt=counting)
    counts = rehearse(run, tiny.data())
    for count in counts:
        steps.clear()
        training.next_task()
        assert count.images == sum(steps)
    assert counts[0].images == first


@pytest.mark.parametrize("method", ["lwf", "icarl", "pass", "joint"])
@pytest.mark.parametrize(
    "protocol",
    [
        {"until": 2},
        {"shared_base": True},
        {"chf": {"lrs": "0.5,1", "attempts": 1}},
        {"chf": {"lrs": "0.5,1", "attempts": 1}, "shared_base": True, "until": 2, "unsealed": False},
    ],
    ids=str,
)
def test_a_rehearsal_follows_the_protocol(method: str, protocol: dict[str, Any]) -> None:
    run = tiny.train(tiny.configuration(method, **protocol))
    counts = rehearse(run.training.configuration, tiny.data())
    assert [count.images for count in counts] == [result.images for result in run.results]
    assert [count.exemplars for count in counts] == [result.exemplars for result in run.results]
    for count, result in zip(counts, run.results, strict=True):
        assert count.epochs == len({(p.phase, p.epoch) for p in result.phases})
    assert counts[0].evaluated == 3 * (tiny.VAL + (tiny.TEST if protocol.get("unsealed", True) else 0))


def test_a_rehearsal_of_chf_is_an_upper_bound() -> None:
    lax = tiny.configuration("lwf", chf={"lrs": "0.5,1,2", "drop": 0.99, "attempts": 4})
    counts = rehearse(lax, tiny.data())
    # 28 new rows for 2 epochs: with 3 rates and in 4 attempts.
    assert counts[1].images == (3 + 4) * 2 * 28
    assert counts[1].images >= tiny.train(lax).results[1].images
    fixed = tiny.configuration("lwf", {"kd_weight": 1.0}, chf={"lrs": "0.5,1,2", "attempts": 4})
    assert rehearse(fixed, tiny.data())[1].images == (3 + 1) * 2 * 28  # nothing is relaxed


def test_classes_that_the_probe_cuts_are_as_large_as_the_method_needs(tmp_path: Path) -> None:
    # Later tasks have next to no rows in a probe, and half of them are held out.
    study = {**STUDY, "methods": ["bic"], "scenarios": ["B0-inc1"], "protocol": {"validation": 0.5}}
    assert forecast(prepare(study, tmp_path, local=True), 0.1).total["runs"] == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was planned, and then run."""
    folder = tmp_path_factory.mktemp("plan") / "run"
    prepared = prepare(STUDY, folder, local=True)
    path = write(forecast(prepared, 1.0), folder)
    assert [p.name for p in folder.iterdir()] == [path.name]
    run_study(STUDY, folder, local=True)
    return folder


def test_runs_and_tasks_are_foreseen_exactly(finished: Path) -> None:
    plan, now = planned(finished), spent(open_results(finished))
    assert plan is not None
    # lwf, eeil, icarl: 2 configurations x 2 orders; joint has nothing to search: 1 x 2. Tasks: 5 and 3.
    assert plan["total"]["runs"] == now["runs"] == 2 * (3 * 4 + 2)
    # First tasks, for each class order and size: one plain and one of iCaRL's sigmoids.
    first = 2 * 2 * 2
    assert plan["total"]["tasks_trained"] == now["tasks_trained"] == 14 * (4 + 2) + first
    assert plan["total"]["tasks_shared"] == now["tasks_shared"] == 28 - first
    assert now["tasks_saved"] == 0
    assert plan["saved"] == pytest.approx((28 - first) / (14 * 8))
    assert plan["total"]["gpu_hours"] is None


def test_bytes_are_foreseen_nearly(finished: Path) -> None:
    table = against(planned(finished) or {}, spent(open_results(finished))).set_index("quantity")
    ratio = table["spent / planned"]
    assert ratio["bytes of checkpoints"] == pytest.approx(1, abs=0.05)
    assert 0.2 < ratio["bytes of tables"] < 1.5
    assert ratio["time of one worker"] > 0


def test_what_a_method_keeps_is_foreseen(finished: Path) -> None:
    plan = planned(finished) or {}
    kept = {cell["cell"]: cell["kept_bytes"] for cell in plan["cells"]}
    trials = open_results(finished).runs
    for cell in kept:
        (bytes_kept,) = set(trials[trials["cell"] == cell]["kept_bytes"])
        assert kept[cell] == bytes_kept


def test_a_plan_of_what_has_run_counts_nothing_that_stands_already(finished: Path) -> None:
    again = forecast(prepare(STUDY, finished, local=True), 0.1)
    # Checkpoints belong to machines of one kind and one number of threads: here all stand.
    assert sum(cell.base_tasks for cell in again.cells) == 0


def test_a_first_task_that_is_not_shared_is_trained_by_every_run(tmp_path: Path) -> None:
    study = {**STUDY, "methods": ["finetune"], "storage": {"share": False}}
    plan = forecast(prepare(study, tmp_path, local=True), 0.1)
    assert plan.total["tasks_shared"] == 0
    assert plan.total["tasks_trained"] == 4 * (5 + 3)
    assert plan.total["checkpoint_bytes"] == 0


def test_a_bounded_store_is_foreseen_with_its_bound(tmp_path: Path) -> None:
    study = {**STUDY, "methods": ["finetune"], "storage": {"checkpoint_bytes": "100kB"}}
    plan = forecast(prepare(study, tmp_path, local=True), 0.1)
    assert plan.cells[0].checkpoint_bytes > 100_000
    assert plan.total["checkpoint_bytes"] == 100_000


def test_searched_first_tasks_are_counted_one_by_one(tmp_path: Path) -> None:
    recipe = {"net": "convnet-small", "epochs": 1, "lr": {"float": [0.01, 0.2], "log": True}}
    study = {**STUDY, "methods": ["finetune"], "scenarios": ["B0-5tasks"], "recipe": recipe}
    plan = forecast(prepare(study, tmp_path, local=True), 0.1)
    assert plan.cells[0].base_tasks == 4  # 2 learning rates x 2 orders


def test_a_sampler_that_learns_nothing_is_told(tmp_path: Path) -> None:
    study = {**STUDY, "methods": ["lwf"], "search": {"trials": 10}}
    notes = forecast(prepare(study, tmp_path, local=True), 0.1).notes
    assert any("begins with 10 random trials a cell" in note for note in notes)


@pytest.mark.parametrize(
    ("protocol", "tasks"),
    [
        ({"select_on": "first-k", "first": 3}, 6),
        ({"select_on": "gtep"}, 10),
        ({"select_on": "chf", "chf": {"attempts": 2}}, 5),
        ({"select_on": "oracle-test"}, 10),
        ({"select_on": "shared-base"}, 10),
    ],
    ids=lambda value: value["select_on"] if isinstance(value, dict) else "",
)
def test_every_protocol_can_be_planned(protocol: dict[str, Any], tasks: int, tmp_path: Path) -> None:
    study = {**STUDY, "methods": ["icarl"], "scenarios": ["B0-5tasks"], "protocol": protocol}
    plan = forecast(prepare(study, tmp_path / "run", local=True), 0.1)
    assert plan.cells[0].tasks == tasks
    assert plan.cells[0].base_tasks == 1
    assert any("chf learns a task with 4" in note for note in plan.notes) == ("chf" in protocol)
    run_study(study, tmp_path / "run", local=True)
    now = spent(open_results(tmp_path / "run"))
    assert plan.total["tasks_trained"] == now["tasks_trained"]
    assert 0.2 < now["table_bytes"] / plan.total["table_bytes"] < 1.5


def test_the_report_sets_planned_against_spent(finished: Path) -> None:
    found = planned_and_spent(open_results(finished))
    assert found.table is not None
    row = found.table.set_index("quantity").loc["tasks trained"]
    assert (row["planned"], row["spent"], row["spent / planned"]) == ("92", "92", 1)
    hours = found.table.set_index("quantity").loc["time of one worker"]
    assert all(text.endswith(" s") and float(text[:-2]) > 0 for text in hours[["planned", "spent"]])
    assert found.n == "n = 28 ended runs of the search"
    assert "Planned and spent" in render(open_results(finished))


@pytest.mark.parametrize(
    ("title", "value", "said"),
    [
        ("time of one worker", 0.01, "36 s"),
        ("GPU-hours", 1.25, "1.2 h"),
        ("time by the clock", 1204.0, "1,204 h"),
        ("bytes of checkpoints", 5_702_798, "5.7 MB"),
        ("bytes of checkpoints", 999_600, "1 MB"),
        ("runs", 1204, "1,204"),
        ("GPU-hours", None, "–"),
    ],
)
def test_a_quantity_is_told_in_its_own_unit(title: str, value: float | None, said: str) -> None:
    assert in_words(title, value) == said


def test_the_verb_plans_and_then_compares(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps({**STUDY, "methods": ["lwf"]}))
    out = tmp_path / "run"
    result = call("plan", path, "--out", out, "--probe-seconds", "0.1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["total"]["runs"] == 8
    assert sorted(p.name for p in out.iterdir()) == ["plan.json"]
    before = call("plan", out)
    assert "nothing has run yet" in before.stdout
    after = call("plan", finished)
    assert after.exit_code == 0, after.output
    assert "tasks trained" in after.stdout
    both = json.loads(call("plan", finished, "--json").stdout)
    assert both["planned"]["runs"] == both["spent"]["runs"] == 28


def test_a_plan_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(STUDY))
    out = tmp_path / "out"
    assert "--probe-seconds must be above 0" in refused("plan", path, "--out", out, "--probe-seconds", "0")
    assert "did you mean 'lwf'" in refused("plan", path, "--set", "methods=[lfw]", "--out", out)
    assert "holds no run and no forecast" in refused("plan", tmp_path)
    assert not out.exists()
    out.mkdir()
    (out / "plan.json").write_text("[1]")
    assert "is no plan, or is damaged" in refused("plan", out)
    (out / "plan.json").write_text('{"total": {"runs": "many"}}')
    with pytest.raises(BadRequest, match="is no plan"):
        planned(out)


def test_cells_that_draw_for_themselves_share_no_first_task_by_accident(tmp_path: Path) -> None:
    searched = {"net": "convnet-small", "epochs": 1, "lr": {"float": [0.01, 0.2], "log": True}}
    study = {
        **STUDY,
        "methods": {"lwf": {}, "again": {"method": "lwf"}},
        "scenarios": ["B0-5tasks"],
        "recipe": searched,
    }
    plan = forecast(prepare({**study, "search": {"trials": 4}}, tmp_path / "run", local=True), 0.1)
    # Both begin with the published rate, under 2 orders; the 3 rates after it are each cell's own.
    assert [cell.base_tasks for cell in plan.cells] == [4 * 2, 3 * 2]

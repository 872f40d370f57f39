"""The first screen: the answer, what is sure, and what to run next; pages of folders that hold little."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from analysis.lake.open import open_results
from analysis.report.figure import embedded
from analysis.report.first_screen import first_screen
from analysis.report.next_steps import next_steps
from analysis.report.page import render, section
from tests.analysis.planted import Plan, write
from tests.analysis.planted_search import ranged
from tests.analysis.planted_tables import lake_with


def test_the_answer_names_the_best_method_its_distance_and_its_cost(tmp_path):
    plan = Plan(labels=("finetune", "joint", "lwf", "icarl"), scenarios=(("B0-3tasks", (2, 2, 1)),), orders=4)
    found = first_screen(open_results(write(tmp_path / "run", plan)))
    (lead,) = found.leads
    assert lead.text.startswith("B0-3tasks: icarl has the highest average incremental accuracy, 0.")
    assert "lwf follows, 0." in lead.text
    assert "over 4" not in lead.text
    assert "(p " in lead.text
    assert lead.text.endswith("Trial 0 is selected; it keeps 6.4 kB of the past and trains 4.5 s a run.")
    assert found.table["label"].tolist()[0] == "joint"
    values = found.table["average incremental accuracy"].tolist()
    assert values == sorted(values, reverse=True)
    assert {"forgetting", "forgetting ±", "bytes kept", "s a run"} <= set(found.table)


def test_the_only_method_is_compared_with_no_reference(kept_lake):
    (lead,) = first_screen(open_results(kept_lake)).leads
    assert "icarl reaches average incremental accuracy" in lead.text
    assert "follows" not in lead.text


def test_steps_name_what_is_missing_each_with_its_command(kept_lake):
    steps = next_steps(open_results(kept_lake))
    commands = [shlex.split(step.command) for step in steps]
    assert [words[:2] for words in commands] == [["cl-search", "run"], ["cl-search", "evaluate"]]
    assert commands[0][-1] == "protocol.confirm={top: 3, orders: 3}"
    assert "3 of 3 selections are not confirmed" in steps[0].reason
    assert "3 of 3 selected trials have not been measured on test rows" in steps[1].reason


def test_failed_runs_come_first_and_missing_references_are_added(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), trials=2, failed=(1,)))
    first, second, third, *_ = next_steps(open_results(folder))
    assert first.command == f"cl-search logs {folder} lwf@B0-5tasks/1"
    assert second.command.endswith("--retry-failed")
    assert third.command.endswith("--set 'methods.finetune={}' --set 'methods.joint={}'")


@pytest.mark.parametrize(
    ("value", "log", "expected"),
    [(0.9, True, "{float: [0.1, 8], log: true}"), (0.98, False, "{float: [0.1, 1.9]}"), (0.11, True, None)],
)
def test_a_range_is_widened_by_a_step_within_the_methods_own(tmp_path, value, log, expected):
    whole = {"kind": "float", "low": 0.1, "high": 8.0, "log": log}
    space = [ranged("kd_weight", 0.1, 1.0, log=log, whole=whole)]
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=2))
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["resolved"]["cells"] = [{"name": "lwf@B0-3tasks", "parameters": space}]
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    changes = {0: {"hp.kd_weight": value, "objective": 0.9}, 1: {"hp.kd_weight": 0.4, "objective": 0.1}}
    results, _ = lake_with(folder, changes)
    wide = [step.command for step in next_steps(results) if "-wide" in step.command]
    assert len(wide) == (expected is not None)
    if expected:
        assert f"'methods.lwf.kd_weight={expected}'" in wide[0]


SMALL = (("B0-3tasks", (2, 2, 1)),)


def changed(folder, change):
    """Change a folder's study file in place, and return the folder."""
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    change(study)
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return folder


def commands(results):
    """The commands of the next steps."""
    return [step.command for step in next_steps(results)]


def test_labels_of_equal_value_do_not_follow_each_other(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf", "icarl"), scenarios=SMALL, trials=1))
    results = open_results(folder)
    known = results.confusions
    results.confusions = lambda run, *of: known(run.replace("icarl", "lwf"), *of)
    (lead,) = first_screen(results).leads
    assert "icarl has the same value, over 1 class order: fewer than 3 decide nothing." in lead.text


def test_a_cost_is_said_in_its_unit_and_stands_in_one_column(tmp_path):
    plan = Plan(labels=("lwf", "icarl"), scenarios=SMALL, trials=2, orders=3)
    folder = write(tmp_path / "run", plan)
    names = {"kept_bytes": "bytes kept", "seconds": "s a run"}
    found = {}
    for name in names:
        changed(folder, lambda study, name=name: study["search"].update(objective={name: "min"}))
        results = open_results(folder)
        results.runs["objective"] = results.runs[name]
        found[name] = first_screen(results)
        assert names[name] not in found[name].table
    assert "lwf has the lowest kept bytes, 0 ± 0 bytes (n = 3). icarl follows, 6,400 ± 0 bytes behind" in (
        found["kept_bytes"].leads[0].text
    )
    assert "icarl has the lowest training time, 4.5 ± 0.0 s (n = 3)." in found["seconds"].leads[0].text


def test_an_objective_without_a_value_is_no_answer(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=1))
    changed(folder, lambda study: study["search"].update(objective={"parameters": "min"}))
    (lead,) = first_screen(open_results(folder)).leads
    assert lead.text == "The objective, parameters, is known of no selected trial."


def test_a_search_for_class_orders_alone_has_completed_runs(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=2))
    hardest = [{"name": "B0-3tasks", "class_order": "hardest"}]
    found = first_screen(open_results(changed(folder, lambda study: study.update(scenarios=hardest))))
    assert found.leads[0].text.startswith("Only searches of class orders have completed runs")


def test_a_damaged_space_leaves_the_sections_standing(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=2))
    cells = [{"name": "lwf@B0-3tasks", "parameters": [{"name": 5}]}]
    page = render(open_results(changed(folder, lambda study: study["resolved"].update(cells=cells))))
    assert re.search(r'class="lead"[^>]*>This view failed: .* is damaged: the parameters of cell', page)
    assert "Which label is best" in page


def test_a_reference_that_is_still_to_run_is_not_missing(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=1))
    later = {"joint": None, "below": {"method": "finetune"}}
    results = open_results(changed(folder, lambda study: study["methods"].update(later)))
    assert not [command for command in commands(results) if "methods." in command]


def test_without_a_study_file_no_command_is_named(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=2))
    (folder / "study.yaml").unlink()
    assert commands(open_results(folder)) == []


def test_code_that_the_study_names_is_permitted_in_every_command_that_trains(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=2, failed=(1,)))
    changed(folder, lambda study: study["methods"]["lwf"].update(method="mine:Mine"))
    for command in commands(open_results(folder)):
        assert command.endswith(" --own-code") == (" logs " not in command)


def test_a_trial_ends_with_its_last_run(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=3, orders=2))
    for table in ("runs", "tasks"):
        (folder / f"tables/{table}/lwf@B0-3tasks--2--seed-1--s0.parquet").unlink()
    budget = [{"name": "lwf@B0-3tasks", "budget": 3}]
    changed(
        folder, lambda study: (study["protocol"].update(orders=2), study["resolved"].update(cells=budget))
    )
    assert next_steps(open_results(folder))[0].reason.startswith("1 of 3 trials have not ended.")


def test_failed_runs_of_an_evaluation_are_trained_again_by_one(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=2, evaluated=True))
    results = open_results(folder)
    results.runs.loc[results.runs["purpose"] == "final", "status"] = "failed"
    assert commands(results)[1] == f"cl-search evaluate {folder} --retry-failed"


def test_an_evaluation_is_no_first_look_where_the_test_rows_selected(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=2, splits=("test",)))
    changed(folder, lambda study: study["protocol"].update(select_on="oracle-test"))
    assert not [one for one in next_steps(open_results(folder)) if "measured on test rows" in one.reason]


def test_a_range_of_integers_is_widened_to_integers(tmp_path):
    whole = {"kind": "int", "low": 1, "high": 5_000_000, "log": True}
    folder = write(tmp_path / "run", Plan(labels=("icarl",), scenarios=SMALL, trials=2))
    known = {"name": "hp.exemplars_per_class", "column": "hp.exemplars_per_class", "default": 20}
    for low, high, value, expected in ((5, 60, 5, "[1, 60]"), (30, 1_234_567, 1_200_000, "[30, 5000000]")):
        space = [{**known, "kind": "int", "low": low, "high": high, "log": True, "whole": whole}]
        cells = [{"name": "icarl@B0-3tasks", "parameters": space}]
        changed(folder, lambda study, cells=cells: study["resolved"].update(cells=cells))
        best = {"hp.exemplars_per_class": value, "objective": 0.9}
        results, _ = lake_with(folder, {0: best, 1: {"hp.exemplars_per_class": 50, "objective": 0.1}})
        (wide,) = [command for command in commands(results) if "-wide" in command]
        assert f"'methods.icarl.exemplars_per_class={{int: {expected}, log: true}}'" in wide


def test_a_recipe_of_the_label_is_widened_under_the_label(tmp_path):
    whole = {"kind": "float", "low": 1e-7, "high": 100.0, "log": True}
    folder = write(tmp_path / "run", Plan(labels=("lwf", "icarl"), scenarios=SMALL, trials=2))
    known = {"name": "recipe.increment.lr", "column": "recipe.increment.lr", "default": 0.1}
    space = [{**known, "kind": "float", "low": 0.001, "high": 0.1, "log": True, "whole": whole}]
    cells = [{"name": f"{label}@B0-3tasks", "parameters": space} for label in ("lwf", "icarl")]
    changed(folder, lambda study: study["resolved"].update(cells=cells))
    (wide,) = [command for command in commands(open_results(folder)) if "-wide" in command]
    assert wide.endswith("--set 'recipe.increment.lr={float: [0.001, 1], log: true}'")  # one for both labels
    own = {"recipe": {"increment": {"lr": {"float": [0.001, 0.1]}}}}
    changed(folder, lambda study: study["methods"]["lwf"].update(own))
    wide = [command for command in commands(open_results(folder)) if "-wide" in command]
    assert any("--set 'methods.lwf.recipe.increment.lr={" in one for one in wide)
    assert any("--set 'recipe.increment.lr={" in one for one in wide)


def test_a_field_of_the_recipe_has_one_name_in_all_sections(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=SMALL, trials=4))
    assert "increment.lr" in section(open_results(folder), "hyperparameters").table["hyperparameter"].tolist()


def emptied(folder, statuses=()):
    """Keep only runs of some statuses in every table."""
    runs = pq.read_table(folder / "tables/runs").to_pandas()
    for path in (folder / "tables").glob("*/*.parquet"):
        if (
            path.name != "schema.parquet"
            and not runs[runs["status"].isin(statuses)]["run"]
            .str.replace("/", "--")
            .str.replace(":", "-")
            .eq(path.stem)
            .any()
        ):
            path.unlink()
    return folder


def test_a_folder_without_runs_has_a_clear_page(tmp_path):
    folder = emptied(write(tmp_path / "run", Plan(labels=("lwf",), trials=1)))
    page = render(open_results(folder))
    assert "No run has completed yet, so there is no answer." in page
    assert "This view failed" not in page
    assert 'id="plotly"' not in page


def test_one_trial_has_a_clear_page(tmp_path):
    page = render(open_results(write(tmp_path / "run", Plan(labels=("lwf",), trials=1))))
    assert "lwf reaches average incremental accuracy" in page
    assert "This view failed" not in page


def test_failures_alone_have_a_clear_page(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), trials=2, failed=(0, 1)))
    page = render(open_results(folder))
    assert "No run has completed yet, so there is no answer." in page
    assert "4 failed" in page
    assert "cl-search logs" in page
    assert "This view failed" not in page


def test_a_running_sweep_is_told_to_go_on(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=2))
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["resolved"]["cells"] = [{"name": "lwf@B0-3tasks", "budget": 5}]
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    first = next_steps(open_results(folder))[0]
    assert first.reason.startswith("3 of 5 trials have not ended")
    assert first.command == f"cl-search run {folder}/study.yaml --out {folder}"


def test_a_label_that_is_markup_is_shown_as_text(tmp_path):
    results = open_results(write(tmp_path / "run", Plan(labels=("finetune", "lwf"), trials=2)))
    evil = "</script><script>alert(1)</script>"
    results.runs["label"] = results.runs["label"].replace({"lwf": evil})
    page = render(results)
    assert "<script>alert" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_the_panels_of_ten_thousand_trials_stay_small(tmp_path):
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=2))
    results = open_results(folder)
    rng = np.random.default_rng(0)
    many = results.runs.iloc[np.zeros(10_000, dtype=int)].reset_index(drop=True)
    numbers = range(len(many))
    many["trial"], many["trial_digest"] = numbers, [f"d{i}" for i in numbers]
    many["run"] = [f"lwf@B0-3tasks/{i}" for i in numbers]
    many["hp.kd_weight"], many["objective"] = rng.uniform(0.1, 8, len(many)), rng.uniform(0, 1, len(many))
    results.runs = many
    found = section(results, "hyperparameters")
    assert "a panel shows the best 100 and 300 others" in found.text
    assert found.table["trials"].tolist() == [10_000]
    assert len(embedded(found.figure)) < 30_000
    drawn = [len(trace.x) for trace in found.figure.data]
    assert sorted(drawn) == [1, 400]

"""The run that a row of the tables stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis import open_results
from cl_core.errors import BadRequest
from cl_core.records import OWN_DEFAULT, SEARCHING
from cl_core.scenarios.scenarios import ScenarioSpec
from cl_core.training.configuration import Configuration
from search.preparation.single_run import SPEC, asked_of
from spaces.resolved.run_spec import RunSpec, evaluated, searched
from spaces.study.study_file import RESOLVED, standing_study


def recorded_spec(folder: Path, row: Mapping[str, Any]) -> RunSpec:
    """Return the run of a row of the table `runs`; values that the row lacks come from the folder."""
    if (folder / SPEC).exists():
        spec = asked_of(folder)
        return replace(spec, configuration=replace(spec.configuration, threads=row["threads"]))
    results = open_results(folder)
    study = standing_study(results.study.plain)
    if not row["tasks"]:
        raise BadRequest(
            f"{row['run']} failed before it began ({row['error']}): there is nothing to run again"
        )
    hp = {name[3:]: value for name, value in row.items() if name.startswith("hp.") and value is not None}
    entry = study.methods.get(row["label"])
    if entry:
        hp = {name: value for name, value in hp.items() if not study.left_to_chf(row["label"], name)}
    recipe: dict[str, dict[str, Any]] = {"base": {}, "increment": {}}
    for name, value in row.items():
        if name.startswith("recipe.") and value is not None:
            _, part, key = name.split(".", 2)
            recipe[part][key] = value
    increments = tuple(int(size) for size in row["increments"].split(",") if size)
    scenario = (
        ScenarioSpec(row["scenario"], row["base"], increments=increments)
        if increments
        else ScenarioSpec(row["scenario"], 0, tasks=1)
    )
    init = {**study.recipe, **(entry.recipe if entry else {})}.get("init")
    configuration = Configuration(
        method=row["method"],
        data=study.tuning_data,
        scenario=scenario,
        hp=hp,
        recipe=recipe,
        net=row["net"],
        class_order=row["class_order"],
        seed=row["seed"],
        validation=study.protocol.held_out,
        device=row["device"] or "auto",
        precision=row["precision"] or "auto",
        threads=row["threads"],
        init=init,
    )
    proposer = None if row["trial"] == OWN_DEFAULT else _proposer(results.study.plain, row["cell"])
    configuration = searched(configuration, study.protocol, proposer)
    if row["purpose"] not in SEARCHING:
        configuration = evaluated(configuration, row["purpose"], study.judging_data)
    so_far = row["tasks"] if row["tasks"] <= len(increments) else None
    splits = results.read("classes", [row["run"]])["split"].unique()
    configuration = replace(configuration, until=so_far, unsealed="test" in splits)
    known = {name: row[name] for name in ("run", "cell", "label", "trial", "purpose", "trial_digest")}
    objectives = tuple(study.search.objective)
    return RunSpec(**known, configuration=configuration, objectives=objectives, split=row["split"])


def _proposer(study: Mapping[str, Any], cell: str) -> Mapping[str, Any] | None:
    """Return what proposes values at every task of a cell, from study.yaml; None for other protocols."""
    cells = (study.get(RESOLVED) or {}).get("cells") or ()
    return next((one.get("proposer") for one in cells if one["name"] == cell), None)

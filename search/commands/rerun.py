"""One recorded run again: `rerun`, and the run that a row of the tables stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_core.errors import BadRequest
from cl_core.own_code import only
from search.commands.train import SPEC, asked_of, line_of
from search.storage.scratch import scratch
from search.worker.logs import checked_run, log_file, named_run, recorded

if TYPE_CHECKING:
    from analysis import Comparison
    from spaces.resolved.run_spec import RunSpec


def rerun(
    folder: Path, trial: str, say: Callable[[str], None] = lambda line: None, own_code: bool = False
) -> Comparison:
    """Run a recorded trial again in a folder of its own and compare every row that must be equal.

    Code that the folder names as module:attribute is imported only with `own_code`. Raises BadRequest when
    there is no such trial, or when its data cannot be found.
    """
    with only(None if own_code else ()):
        return _rerun(folder, trial, say)


def _rerun(folder: Path, trial: str, say: Callable[[str], None]) -> Comparison:
    from analysis import equal, open_results
    from analysis.lake.checksums import read_sealed
    from cl_core.records import TABLES
    from search.lake.writer import SCHEMA, start_tables
    from search.lake.writer import recorded as rows_of
    from search.storage.code_record import told_of_run
    from search.worker.runner import Runner

    checked_run(trial)
    rows = rows_of(folder) if (folder / "tables").is_dir() else {}
    if trial not in rows:
        if not folder.is_dir():
            raise BadRequest(f"no folder {folder}: name the folder of a run, such as runs/quickstart")
        trial = named_run(trial, rows)
    row = rows[trial]
    spec = recorded_spec(folder, row)
    for name in TABLES:  # what cannot be compared shows here, not when all is trained
        open_results(folder).read(name, [trial])
    schemas = {name: read_sealed(folder / "tables" / name / SCHEMA).schema for name in TABLES}
    with scratch() as again:
        start_tables(again, schemas)
        log = log_file(again, trial)
        with recorded(log):
            runner = Runner(spec, again, again / "checkpoints", schemas=schemas)
        for note in told_of_run(folder, row, spec.configuration.data.name):
            say(note)
        while True:
            with recorded(log):
                progress = runner.step()
                if row["status"] == "stopped" and progress.task + 1 == row["tasks_done"]:
                    progress = runner.stop()
            say(line_of(progress, spec.objectives[0]))
            if progress.done:
                break
        return equal(folder, again, trials=[trial])


def recorded_spec(folder: Path, row: Mapping[str, Any]) -> RunSpec:
    """The run of a `trials` row, from the row itself and, for what it does not hold, the folder."""
    from cl_core.scenarios.scenarios import ScenarioSpec
    from cl_core.training.configuration import Configuration
    from spaces.resolved.run_spec import RunSpec, evaluated, searched
    from spaces.study.study_file import standing_study

    if (folder / SPEC).exists():
        spec = asked_of(folder)
        return replace(spec, configuration=replace(spec.configuration, threads=row["threads"]))
    from analysis import open_results

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
        validation=study.protocol.validation,
        device=row["device"] or "auto",
        precision=row["precision"] or "auto",
        threads=row["threads"],
        init=init,
    )
    configuration = searched(configuration, study.protocol)
    if row["purpose"] != "search":
        configuration = evaluated(configuration, row["purpose"], study.judging_data)
    so_far = row["tasks"] if row["tasks"] <= len(increments) else None
    splits = results.read("classes", [row["run"]])["split"].unique()
    configuration = replace(configuration, until=so_far, unsealed="test" in splits)
    known = {name: row[name] for name in ("run", "cell", "label", "trial", "purpose", "trial_digest")}
    objectives = tuple(study.search.objective)
    return RunSpec(**known, configuration=configuration, objectives=objectives, split=row["split"])

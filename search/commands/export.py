"""What a run has chosen, to take away: `export`. Per cell a study file that trains the choice again exactly,
and a model of it that was trained as for the final evaluation, on all tasks and on all training rows of the
images that choices are judged on.

Nothing is measured on the way: the test split stays sealed, and no row is held out but those that chf chooses
by inside the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from analysis import Results, open_results
from analysis.selection.selection import Cell, cells
from cl_core.aside import aside
from cl_core.errors import BadRequest, unknown
from cl_core.hparams import hparams
from cl_core.images.dataset import Data
from cl_core.method import METHODS
from cl_core.model.model import read_card, save_model
from cl_core.own_code import check, only
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.code import code_digest
from cl_core.training.configuration import Configuration
from cl_core.training.trainer import Training
from cl_core.yaml_text import write_yaml
from search.lake.rows import versions
from search.preparation.recorded_run import recorded_spec
from search.storage.code_record import told_of_run
from search.storage.places import check_writable
from search.worker.runner import cached_data
from spaces.resolved.run_spec import evaluated
from spaces.study.study import Study
from spaces.study.study_file import parse_study, standing_study

STUDY_FILE, MODEL = "best.yaml", "model.safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9._-]*")
_PARTS = ("base", "increment")


@dataclass(frozen=True)
class Exported:
    """What was written for one cell: the choice's number, and where its files lie."""

    cell: str
    trial: int
    study: Path
    model: Path | None


def export(
    folder: Path,
    cells: Sequence[str] = (),
    out: Path | None = None,
    model: bool = True,
    say: Callable[[str], None] = lambda line: None,
    own_code: bool = False,
) -> list[Exported]:
    """Write `<out>/<cell>/best.yaml`, and with `model` `<out>/<cell>/model.safetensors`, for the choice of
    `cells`, or of every cell that has one. `out` is `export/` in the run's folder unless said.

    A model that stands there and is of the same choice is not trained again; one that was interrupted goes on
    after its last finished task. Code that the folder names as module:attribute is imported only with
    `own_code`. Raises BadRequest before any work, RunError where training fails.
    """
    with only(None if own_code else ()):
        return _export(folder, cells, out, model, say)


def _export(
    folder: Path, cells: Sequence[str], out: Path | None, model: bool, say: Callable[[str], None]
) -> list[Exported]:
    results = open_results(folder)
    if not results.study.plain:
        raise BadRequest(f"{folder} holds a single trial and no study: export takes the folder of a `run`")
    study = standing_study(results.study.plain)
    chosen = _chosen(results, cells)
    for cell in chosen:  # before a folder is made
        check("method", run_to_export(cell)["method"])
        if model:
            check("net", run_to_export(cell)["net"])
    place = out if out is not None else folder / "export"
    check_writable(place, "--out")
    data = _data(results, study) if model else None
    done = []
    with _alone(place):
        files = [_write_study(results, study, cell, place) for cell in chosen]
        for cell, path in zip(chosen, files, strict=True):
            made = None
            if data is not None:
                made = _model(results, study, cell, data, path.with_name(MODEL), say)
            done.append(Exported(cell.name, run_to_export(cell)["trial"], path, made))
    return done


def _chosen(results: Results, wanted: Sequence[str]) -> list[Cell]:
    """The cells to export, each with a choice and a name that makes one folder."""
    known = {cell.name: cell for cell in cells(results)}
    for name in wanted:
        if name not in known:
            raise unknown("cell with an ended run", name, known)
    chosen = [known[name] for name in dict.fromkeys(wanted)] if wanted else list(known.values())
    for cell in chosen:
        if wanted and cell.selected.empty:
            raise BadRequest(f"no run of {cell.name} has completed, so nothing is chosen: run it first")
        if not _NAME.fullmatch(cell.name):
            raise BadRequest(
                f"{cell.name!r} in the tables of {results.folder} is no cell's name: it is damaged"
            )
    chosen = [cell for cell in chosen if len(cell.selected)]
    if not chosen:
        raise BadRequest(f"no run in {results.folder} has completed, so nothing is chosen: run it first")
    return chosen


def run_to_export(cell: Cell) -> dict[str, Any]:
    """The run of the choice that comes first: in the scenario's own class order, with the smallest seed."""
    runs = cell.selected.sort_values("run", key=lambda names: names.str.len(), kind="stable")
    return {str(name): _plain(value) for name, value in runs.iloc[0].items()}


def _plain(value: Any) -> Any:
    """A value of a frame as Python has it; None where it is missing."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _data(results: Results, study: Study) -> Data:
    """The images that choices are judged on. Raises BadRequest where those of the search are others now."""
    data = cached_data(study.tuning_data)
    found = results.study.resolved.fingerprint
    if found and found != data.fingerprint:
        raise BadRequest(
            f"the images are not those of {results.folder} ({found[:12]} then, {data.fingerprint[:12]} "
            "now): restore them, or export with --no-model"
        )
    return cached_data(study.judging_data)


# The study file


def _write_study(results: Results, study: Study, cell: Cell, place: Path) -> Path:
    plain = fixed(study, cell.label, cell.scenario, run_to_export(cell))
    parse_study(plain)  # whatever the tables hold, what is written can be read
    path = place / cell.name / STUDY_FILE
    number = run_to_export(cell)["trial"]
    what = "every value fixed" if study.protocol.chf is None else "what chf leaves is chosen again"
    head = f"# The choice of {cell.name}, no. {number} of study {study.study}: {what}.\n"
    head += f"# {study.protocol.label}\n" if study.protocol.label else ""
    try:
        with aside(path) as hidden:
            hidden.write_text(head + write_yaml(plain), encoding="utf-8")
    except OSError as error:
        raise BadRequest(
            f"--out must be writable: {path}: {error.strerror or error}; name another"
        ) from error
    return path


def fixed(study: Study, label: str, scenario: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A study file of one cell with one configuration: that of a row of the `trials` table.

    What may be left to a default is written out: every hyperparameter that acts (under chf, which chooses the
    others again, those that the study fixes), every recipe field for the first task and for the others, net,
    class order and threads. Protocol and data are the study's.
    """
    specs = {spec.name: spec for spec in study.specs()}
    if scenario not in specs or label not in study.methods:
        raise BadRequest(f"study.yaml knows no cell {label}@{scenario}: restore it from a copy")
    method, plain = row["method"], study.to_plain()
    values = {name[3:]: value for name, value in row.items() if name.startswith("hp.") and value is not None}
    known = hparams(METHODS[method].HP)
    acting = {
        name: param.domain.check(name, values[name])  # a frame holds whole numbers as others where some lack
        for name, param in known.items()
        if name in values and param.active(values) and not study.left_to_chf(label, name)
    }
    recipe: dict[str, Any] = {"net": row["net"]}
    init = {**study.recipe, **study.methods[label].recipe}.get("init")
    if init is not None:
        recipe["init"] = init
    for part in _PARTS:
        stem = f"recipe.{part}."
        fields = {n[len(stem) :]: v for n, v in row.items() if n.startswith(stem) and v is not None}
        recipe[part] = fields
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{study.study}-{label}-{scenario}-{row['trial']}")
    resources = {"cpu": row["threads"] or study.resources.cpu, "gpu": study.resources.gpu}
    return {
        "study": name,
        "data": plain["data"],
        "scenarios": [specs[scenario].to_dict()],
        "methods": {label: {"method": method, **acting}},
        "recipe": recipe,
        "search": {
            "sampler": "random",
            "trials": 1,
            "objective": plain["search"]["objective"],
            "start_from": ["paper"],
        },
        "protocol": plain["protocol"],
        "final": plain["final"],
        "resources": resources,
    }


# The model


def _model(
    results: Results,
    study: Study,
    cell: Cell,
    data: Data,
    path: Path,
    say: Callable[[str], None],
) -> Path:
    row = run_to_export(cell)
    configuration = _everything(results.folder, study, cell, row)
    origin = {
        "study": study.study,
        "identity": results.study.resolved.identity or None,
        "cell": cell.name,
        "trial": row["trial"],
        "trial_digest": row["trial_digest"],
        f"{'test' if study.protocol.label else 'validation'} objective": row["objective"],
        **({"label": study.protocol.label} if study.protocol.label else {}),
        "trained on": "train" if configuration.validation else "train + validation",
        "class order": configuration.class_order,
        "seed": configuration.seed,
        "configuration": configuration.digest(data),
        "code": code_digest(*configuration.parts(data)),
        "versions": versions(),
    }
    for note in told_of_run(results.folder, row, study.tuning_data.name):
        say(note)
    if path.exists():
        try:
            if read_card(path).origin == origin:
                return path
        except BadRequest:
            pass  # it is written anew
    store = CheckpointStore(path.parent / "checkpoints")
    training = Training(
        configuration, data, None, ResumeCheckpoints(store, f"export/{cell.name}"), share=False, measure=False
    )
    if training.done:
        say(f"{cell.name}: goes on after task {training.done} of {training.tasks}")
    while not training.finished:
        result = training.next_task()
        training.keep_resume_checkpoint()
        say(f"{cell.name}: task {result.task + 1} of {training.tasks}, {result.seconds:.1f} s")
    save_model(path, training, origin)
    training.forget_resume_checkpoints()
    with contextlib.suppress(OSError):
        store.root.rmdir()
    return path


def _everything(folder: Path, study: Study, cell: Cell, row: Mapping[str, Any]) -> Configuration:
    """The choice trained as for the final evaluation, with the test split sealed: in the scenario's class
    order, on whatever device is here.
    """
    spec = {spec.name: spec for spec in study.specs()}[cell.scenario]
    return dataclasses.replace(
        evaluated(recorded_spec(folder, row).configuration, "final", study.judging_data),
        scenario=spec,
        class_order=spec.class_order,
        unsealed=False,
        device="auto",
        precision="auto",
    )


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep a second export out of the same folder."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock", blocking=False):
            yield
    except Timeout:
        raise BadRequest(
            f"another export is writing into {place}: wait for it, or name another --out"
        ) from None

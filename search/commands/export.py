"""`export`: each cell's selected trial as a study file and as a model.

The model is trained as for the final evaluation: on all tasks and all training rows. Nothing is measured, the
test split stays sealed, and no row is held out except those that chf and adaptive need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from analysis import Results, open_results
from analysis.selection.selection import Cell, cells
from cl_core.errors import BadRequest, unknown
from cl_core.images.dataset import Data
from cl_core.model.model import read_card, save_model
from cl_core.own_code import check_own_code, only
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.code import code_digest
from cl_core.training.configuration import Configuration
from cl_core.training.trainer import Training
from search.commands.best_study import run_to_export, write_best_study
from search.commands.conditions import Condition, Fit, Lack, best_under, conditions
from search.commands.none_completed import none_completed
from search.preparation.recorded_run import recorded_spec
from search.storage.code_record import note_on_run
from search.storage.places import check_writable
from search.worker.runner import cached_data, proposer_of
from spaces.resolved.environment import versions
from spaces.resolved.run_spec import evaluated
from spaces.study.study import Study
from spaces.study.study_file import standing_study

MODEL = "model.safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Exported:
    """The files of one cell, and the number of the exported trial."""

    cell: str
    trial: int
    study: Path
    model: Path | None
    why: str = ""  # the conditions that it was picked under, and the rows that its values come from


def export(
    folder: Path,
    cells: Sequence[str] = (),
    out: Path | None = None,
    model: bool = True,
    say: Callable[[str], None] = lambda line: None,
    own_code: bool = False,
    at: Sequence[str] = (),
) -> list[Exported]:
    """Write `<out>/<cell>/best.yaml`, and with `model` `<out>/<cell>/model.safetensors`, for each cell.

    `cells` defaults to all with a selected trial, `out` to `export/` in the run folder. `at` holds
    conditions such as "kept_bytes<=2MB": the best trial that meets them all takes the place of the selected
    one, and cells without one are left out unless `cells` names them. An existing model of the same trial is
    not trained again; an interrupted one continues after its last finished task. Code that the folder names
    as module:attribute is imported only with `own_code`. Raises BadRequest before any work, RunError where
    training fails.
    """
    with only(None if own_code else ()):
        return _export(folder, cells, out, model, say, conditions(at))


def _export(
    folder: Path,
    cells: Sequence[str],
    out: Path | None,
    model: bool,
    say: Callable[[str], None],
    bounds: Sequence[Condition],
) -> list[Exported]:
    results = open_results(folder)
    if not results.study.plain:
        raise BadRequest(f"{folder} holds a single run and no study: export takes the folder of a `run`")
    study = standing_study(results.study.plain)
    wanted = _wanted(results, cells)
    picked = [Fit(cell) for cell in wanted]
    if bounds:
        picked = _fitting(results, wanted, bounds, named=bool(cells), say=say)
    chosen = [fit.cell for fit in picked]
    for cell in chosen:  # before a folder is made
        check_own_code("method", run_to_export(cell)["method"])
        if model:
            check_own_code("net", run_to_export(cell)["net"])
    place = out if out is not None else folder / "export"
    check_writable(place, "--out")
    data = _data(results, study) if model else None
    done = []
    with _alone(place):
        files = [write_best_study(study, fit.cell, place, fit.why) for fit in picked]
        for cell, fit, path in zip(chosen, picked, files, strict=True):
            made = None
            if data is not None:
                made = _model(results, study, cell, data, path.with_name(MODEL), say)
            done.append(Exported(cell.name, run_to_export(cell)["trial"], path, made, fit.why))
    return done


def _fitting(
    results: Results,
    cells: Sequence[Cell],
    bounds: Sequence[Condition],
    named: bool,
    say: Callable[[str], None],
) -> list[Fit]:
    """Return the best trial of each cell under conditions.

    Raises BadRequest where a cell that was `named` has none, or all of them lack one.
    """
    found = [best_under(results, cell, bounds) for cell in cells]
    lacking = [one for one in found if isinstance(one, Lack)]
    if lacking and (named or len(lacking) == len(found)):
        nearest = min(lacking, key=lambda one: one.distance)
        raise BadRequest(f"{nearest.text}; loosen --at, or search more trials")
    for one in lacking:
        say(f"left out: {one.text}")
    return [one for one in found if isinstance(one, Fit)]


def _wanted(results: Results, wanted: Sequence[str]) -> list[Cell]:
    """Return the cells to export, each with a selected trial and a name that makes one folder."""
    known = {cell.name: cell for cell in cells(results)}
    for name in wanted:
        if name not in known:
            raise unknown("cell with an ended run", name, known)
    chosen = [known[name] for name in dict.fromkeys(wanted)] if wanted else list(known.values())
    for cell in chosen:
        if wanted and cell.selected.empty:
            raise none_completed(results, "no trial is selected", cell.name)
        if not _NAME.fullmatch(cell.name):
            raise BadRequest(
                f"{cell.name!r} in the tables of {results.folder} is no cell's name: it is damaged"
            )
    chosen = [cell for cell in chosen if len(cell.selected)]
    if not chosen:
        raise none_completed(results, "no trial is selected")
    return chosen


def _data(results: Results, study: Study) -> Data:
    """Return the images to train on. Raises BadRequest where those of the search have changed."""
    data = cached_data(study.tuning_data)
    found = results.study.resolved.fingerprint
    if found and found != data.fingerprint:
        raise BadRequest(
            f"the images are not those of {results.folder} ({found[:12]} then, {data.fingerprint[:12]} "
            "now): restore them, or export with --no-model"
        )
    return cached_data(study.judging_data)


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
        f"{'test' if study.protocol.split == 'test' else 'validation'} objective": row["objective"],
        **({"label": study.protocol.label} if study.protocol.label else {}),
        "trained on": "train" if configuration.validation else "train + validation",
        "class order": configuration.class_order,
        "seed": configuration.seed,
        "configuration": configuration.digest(data),
        "code": code_digest(*configuration.parts(data)),
        "versions": versions(),
    }
    for note in note_on_run(results.folder, row, study.tuning_data.name):
        say(note)
    if path.exists():
        try:
            if read_card(path).origin == origin:
                return path
        except BadRequest:
            pass  # a damaged file is written again
    store = CheckpointStore(path.parent / "checkpoints")
    resume = ResumeCheckpoints(store, f"export/{cell.name}")
    proposer = proposer_of(configuration)
    training = Training(configuration, data, None, resume, share=False, measure=False, proposer=proposer)
    if training.done:
        say(f"{cell.name}: continues after task {training.done} of {training.tasks}")
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
    """Return the final evaluation's configuration in the scenario's class order, the test split sealed."""
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

"""Warm start: a search begins with the completed trials of another study, read from its tables.

They count only if they mean the same: the same images, held-out rows and protocol, the same objectives over
the same class orders and seeds, a cell of the same name, and every value within this cell's space. Anything
else is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.lake.run_folder import STUDY, has_runs
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from cl_core.hparams import to_dict
from cl_core.method import METHODS
from search.cells.class_order_effect import effect
from search.cells.trials import aggregated, finite
from spaces.resolved.cell import Cell
from spaces.resolved.run_spec import trial_digest
from spaces.resolved.study import ResolvedStudy
from spaces.space.scenario_axis import keys_of
from spaces.space.space import Values
from spaces.study.protocol import ProtocolPart
from spaces.study.study_file import RESOLVED, existing_study, standing_study


@dataclass(frozen=True)
class Observation:
    """A completed trial of another study, with its objectives there."""

    run: str  # its first run
    values: Values
    objectives: tuple[float, ...]


def observations(
    study: ResolvedStudy, source: str, cells: Collection[str] | None = None
) -> dict[str, list[Observation]]:
    """Return the completed trials in the run folder `source`, by cell of this study.

    `cells` names the cells that need them, if the others have learnt from this folder before. Raises
    BadRequest if there is no run folder, or if its trials mean something else.
    """
    folder = Path(source).expanduser()
    where = f"search.start_from {source}"
    there = existing_study(folder / STUDY) if folder.is_dir() else None
    if there is None or not has_runs(folder):
        raise BadRequest(f"{where} must be a run folder: it is not. Name another.")
    other = standing_study(there)
    fingerprint = (there.get(RESOLVED) or {}).get("fingerprint")
    for what, theirs, ours in (
        ("images", fingerprint, study.data.fingerprint),
        ("objectives", list(other.search.objective), list(study.objectives)),
        ("protocol.spread", other.protocol.turns, study.study.protocol.turns),
        ("protocol.validation", other.protocol.validation, study.study.protocol.validation),
        ("protocol", *(_judged_by(part) for part in (other.protocol, study.study.protocol))),
    ):
        if theirs != ours:
            raise BadRequest(
                f"{where} must have the same {what}: it has {theirs}, this study has {ours}. Leave it out."
            )
    rows = run_rows(folder)
    asking = [cell for cell in study.cells if cells is None or cell.name in cells]
    found = {cell.name: _of_cell(study, cell, rows, where) for cell in asking}
    if cells is None and not any(found.values()):
        names = sorted({str(row["cell"]) for row in rows.values()})
        raise BadRequest(
            f"{where} has no completed trial of a cell of this study (it has {', '.join(names) or 'none'}): "
            "leave it out"
        )
    return found


def _judged_by(protocol: ProtocolPart) -> str:
    """Describe what decides the objectives of one run."""
    fixed = protocol.fixed()
    deciding = {key: fixed[key] for key in ("first", "chf", "adaptive") if key in fixed}
    return " ".join([protocol.select_on, *(f"{key} {value}" for key, value in deciding.items())])


def left_out(source: str, found: Mapping[str, Sequence[Observation]]) -> list[str]:
    """Return a note that names the cells for which a source has no trial."""
    cold = [cell for cell, seen in found.items() if not seen]
    return (
        [f"search.start_from {source} has no completed trial of {', '.join(cold)}: they begin without it"]
        if cold
        else []
    )


def _of_cell(
    study: ResolvedStudy, cell: Cell, rows: Mapping[str, Mapping[str, Any]], where: str
) -> list[Observation]:
    """Return the trials with every run that this study would make: same class orders, same seeds."""
    groups: dict[int, dict[tuple[str, int], Mapping[str, Any]]] = {}
    for row in rows.values():
        if row["cell"] == cell.name and row["purpose"] == "search" and row["status"] == "completed":
            runs = groups.setdefault(int(row["trial"]), {})
            # Where class orders are searched, a run's own order belongs to the trial's values.
            order = cell.scenario.class_order if cell.seeks else str(row["class_order"])
            runs[order, int(row["seed"])] = row
    ran = set().union(*groups.values())
    missing = [run for run in study.all_runs(cell) if run not in ran]
    if groups and missing:
        order, seed = missing[0]
        raise BadRequest(
            f"{where} has no run of {cell.name} with class order {order} and seed {seed}: use its class "
            "orders and seeds, or leave it out"
        )
    worst = study.study.protocol.aggregate == "worst"
    measured: dict[int, tuple[float, ...]] = {}
    for number, runs in groups.items():
        mine = [runs.get(run) for run in study.runs(cell, number)]
        values = [None if row is None else finite([row[name] for name in study.objectives]) for row in mine]
        known = [value for value in values if value is not None]
        if len(known) == len(values):  # all of its class orders and seeds have ended
            measured[number] = aggregated(known, study.objectives, worst)
    out = []
    for number in sorted(measured):
        first = groups[number][study.runs(cell, number)[0]]
        by_order = effect(number, measured.get, study.turns(cell), study.objectives)
        objectives = tuple(value - of for value, of in zip(measured[number], by_order, strict=True))
        out.append(Observation(str(first["run"]), _values(study, cell, first, where), objectives))
    return out


def sampled_values(study: ResolvedStudy, cell: Cell, row: Mapping[str, Any]) -> Values | None:
    """Return the values of a trial of this study, as sampled, from a row; None if the row lacks them."""
    try:
        values = _values(study, cell, row, "the run")
    except BadRequest:
        return None
    return values if trial_digest(values) == row["trial_digest"] else None


def _values(study: ResolvedStudy, cell: Cell, row: Mapping[str, Any], where: str) -> Values:
    """Return the values of a row in this cell's space. Raises BadRequest if they are not in it."""
    given: Values = {}
    keys = keys_of(str(row["class_order"]), study.data.num_classes) if cell.seeks else {}
    for p in cell.space.parameters:
        if cell.space.active(p, given):
            given[p.name] = keys[p.name] if p.name in keys else _value(p.name, row)
    other = f"{where} has another space: {row['run']}"
    if row["method"] != cell.method:
        raise BadRequest(f"{other} is of method {row['method']}, not {cell.method}: leave it out")
    try:
        values = cell.space.validate(given)
    except BadRequest as error:
        raise BadRequest(f"{other}: {error}; or leave it out") from None
    order, seed = study.runs(cell, int(row["trial"]))[0]
    made = study.configuration(cell, values, order, seed)
    method = METHODS[made.method](made.hp)
    wanted: dict[str, Any] = {f"hp.{name}": value for name, value in method.values().items()}
    for part, recipe in zip(("base", "increment"), made.recipes(study.data, method), strict=True):
        wanted |= {f"recipe.{part}.{name}": value for name, value in to_dict(recipe).items()}
    wanted |= {
        "net": made.net or study.data.net,
        "base": cell.sizes[0],
        "increments": ",".join(map(str, cell.sizes[1:])),
        "class_order": made.class_order,
        "seed": seed,
    }
    for name, value in wanted.items():
        if row.get(name) != value:
            raise BadRequest(f"{other} has {name} = {row.get(name)}, here it is {value}: leave it out")
    return values


def _value(name: str, row: Mapping[str, Any]) -> Any:
    """Return the value of a parameter from the row of a run."""
    if name == "recipe.net":
        return row["net"]
    if name.startswith("recipe.") and name.count(".") == 1:
        return row.get(f"recipe.increment.{name.removeprefix('recipe.')}")
    return row.get(name)

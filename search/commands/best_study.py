"""The study file that `export` writes: one cell with its selected trial, every value written out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.selection.selection import Cell
from cl_core.aside import aside
from cl_core.errors import BadRequest
from cl_core.hparams import hparams
from cl_core.method import METHODS
from cl_core.yaml_text import write_yaml
from spaces.study.study import Study
from spaces.study.study_file import parse_study

STUDY_FILE = "best.yaml"
_PARTS = ("base", "increment")
_FIXED = "every value fixed"


def run_to_export(cell: Cell) -> dict[str, Any]:
    """Return the selected trial's first run: in the scenario's own class order, with the smallest seed."""
    runs = cell.selected.sort_values("run", key=lambda names: names.str.len(), kind="stable")
    return {str(name): _plain(value) for name, value in runs.iloc[0].items()}


def _plain(value: Any) -> Any:
    """Return a value of a frame as a Python value; None where it is missing."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def write_best_study(study: Study, cell: Cell, place: Path, why: str = "") -> Path:
    """Write the study file of a cell below `place`; `why` is its trial. Raises BadRequest."""
    plain = fixed(study, cell.label, cell.scenario, run_to_export(cell))
    parse_study(plain)  # the written file must be readable, whatever the tables hold
    path = place / cell.name / STUDY_FILE
    number = run_to_export(cell)["trial"]
    select = study.protocol.select_on
    what = f"{select} chooses again what it chose in the run" if study.protocol.inside_runs else _FIXED
    which = f"best trial of {cell.name} with {why}" if why else f"selected trial of {cell.name}"
    head = f"# The {which}: trial {number} of study {study.study}, {what}.\n"
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
    """Return the study of one cell with one trial: that of a row of the table `runs`.

    Defaults are written out: every hyperparameter that acts (under chf only those that the study fixes),
    every recipe field of base task and increments, net, class order and threads. Protocol and data are the
    study's. Under adaptive values and ranges are the study's as well.
    """
    specs = {spec.name: spec for spec in study.specs()}
    if scenario not in specs or label not in study.methods:
        raise BadRequest(f"study.yaml knows no cell {label}@{scenario}: restore it from a copy")
    method, plain = row["method"], study.to_plain()
    resources = {"cpu": row["threads"] or study.resources.cpu, "gpu": study.resources.gpu}
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{study.study}-{label}-{scenario}-{row['trial']}")
    if study.protocol.adaptive is not None:  # the run searches again, so the ranges stay
        kept = {key: plain[key] for key in ("data", "recipe", "search", "protocol", "final")}
        one = {"scenarios": [specs[scenario].to_dict()], "methods": {label: plain["methods"][label]}}
        return {"study": name, **kept, **one, "resources": resources}
    values = {name[3:]: value for name, value in row.items() if name.startswith("hp.") and value is not None}
    known = hparams(METHODS[method].HP)
    acting = {
        name: param.domain.check(name, values[name])  # a frame with gaps holds whole numbers as floats
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

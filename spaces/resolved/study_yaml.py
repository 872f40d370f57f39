"""The text of study.yaml: the study with every default, and under `resolved` what its run found."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cl_core.yaml_text import write_yaml
from spaces.resolved.cell import Cell
from spaces.resolved.environment import hardware, now, versions
from spaces.resolved.published import deviations
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.warnings import notes_of, warnings_of
from spaces.space.plain import plain_parameters
from spaces.study.study_file import RESOLVED


def study_yaml(study: ResolvedStudy, existing: Mapping[str, Any] | None = None) -> str:
    """Return the text of study.yaml for a run folder.

    `existing` is the study.yaml that the folder has. Its time of creation and its run id are kept; the run
    id tells the folder's studies in a shared Optuna storage from others.
    """
    before = (existing or {}).get(RESOLVED) or {}
    found = {
        "identity": study.identity,
        "threads": study.threads,
        "device": study.device,
        "run": before.get("run") or uuid.uuid4().hex[:12],
        "fingerprint": study.data.fingerprint,
        "created": before.get("created") or now(),
        "written": now(),
        "versions": versions(),
        "hardware": hardware(),
        "direction": study.direction,
        "warnings": [*notes_of(study.data), *warnings_of(study)],
        "causal": study.study.protocol.causal,
        "differs": deviations(study.study),
        "cells": [_cell(study, cell) for cell in study.cells],
    }
    return write_yaml({**study.study.to_plain(), RESOLVED: found})


def _cell(study: ResolvedStudy, cell: Cell) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": cell.name,
        "tasks": list(cell.sizes),
        "runs": [f"{order}/s{seed}" for order, seed in study.all_runs(cell)],
        "budget": cell.budget,
        "reused": cell.reused,
        "confirm": cell.confirm.model_dump() if cell.confirm else None,
        "search": cell.searched,
        "parameters": [] if cell.seeks else plain_parameters(cell.method, cell.space),
    }
    if (proposer := study.proposer(cell)) is not None:
        plain["proposer"] = proposer
    if cell.seeks:
        plain |= {"seeks": cell.seeks, "direction": study.directions(cell)[study.objective]}
    return plain

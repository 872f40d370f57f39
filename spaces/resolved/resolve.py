"""Resolve a study on its data: build its cells, and check them before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.metrics import OBJECTIVES
from spaces.resolved.cell import cell_of
from spaces.resolved.checks import check_init, check_runs, check_shared_base
from spaces.resolved.continuing import grown
from spaces.resolved.study import ResolvedStudy
from spaces.study.search_defaults import check_spread, with_defaults
from spaces.study.study import Study
from spaces.study.study_file import RESOLVED

DEVICES = ("auto", "cpu", "cuda")


def resolve(
    study: Study, data: Data, existing: Mapping[str, Any] | None = None, device: str = "auto"
) -> ResolvedStudy:
    """Resolve `study` on `data`, and check every cell. Raises BadRequest.

    `existing` is the study.yaml of the run folder that is continued: the study grows by what is there, as
    `grown` does. Threads and device stay as the folder has them, because numbers depend on them.
    """
    for objective, direction in study.search.objective.items():
        if direction != OBJECTIVES[objective][0]:
            raise BadRequest(
                f"search.objective.{objective} must be {OBJECTIVES[objective][0]}, not {direction}: "
                f"write {{{objective}: {OBJECTIVES[objective][0]}}}"
            )
    study = study.on(data.num_classes) if existing is not None else with_defaults(study).on(data.num_classes)
    kept: dict[str, Any] = {"threads": max(1, int(study.resources.cpu or 1)), "device": device}
    if existing is not None:
        study = grown(existing, study).on(data.num_classes)
        kept |= _kept(existing.get(RESOLVED) or {}, data)
    check_spread(study, begun=existing is not None)
    cells = tuple(
        cell_of(study, label, entry, scenario, data)
        for label, entry in study.methods.items()
        for scenario in study.specs()
    )
    resolved = replace(ResolvedStudy(study, data, cells), **kept)
    check_runs(resolved)
    check_init(cells, data)
    check_shared_base(resolved)
    return resolved


def _kept(found: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """Return threads and device of the folder. Raises BadRequest for other images than the folder's."""
    fingerprint = found.get("fingerprint")
    if fingerprint and fingerprint != data.fingerprint:
        raise BadRequest(
            f"the images must be those that the folder was begun with ({str(fingerprint)[:12]}), but have "
            f"changed ({data.fingerprint[:12]}): restore them, or use another --out"
        )
    kept = {name: found[name] for name in ("threads", "device") if name in found}
    threads, device = kept.get("threads", 1), kept.get("device", "auto")
    if type(threads) is not int or threads < 1 or device not in DEVICES:
        raise BadRequest(
            f"the folder's study.yaml is damaged under {RESOLVED!r} (threads {threads!r}, device "
            f"{device!r}): restore it from a copy"
        )
    return kept

"""Deviations of a study from the published setting, so that no figure is compared as if they were one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cl_core.scenarios.scenarios import ScenarioSpec
from spaces import presets
from spaces.study.study import Study, flat
from spaces.study.study_file import load_study

DECIDING = ("data", "scenarios", "methods", "recipe", "protocol")
PLACES = ("data.root", "data.download")  # they decide no number


def deviations(study: Study) -> list[str]:
    """Return each setting that differs from the published one, as "key value (published: value)".

    The published setting is the preset with the study's name. A study of another name has only the data set
    of its figures to compare. Further labels and fewer scenarios change no number of the others, so they do
    not count. Empty without published figures.
    """
    if study.published is None:
        return []
    ours, theirs = {"data.name": study.data.name}, {"data.name": study.published.data}
    if study.study in presets.names():
        preset = load_study(study.study)
        said, said_there = _scenarios(study.specs(), preset.specs())
        ours, theirs = _settings(study, said, preset), _settings(preset, said_there, preset) | theirs
    known = dict.fromkeys([*ours, *theirs])
    return [
        f"{key} {_said(ours, key)} (published: {_said(theirs, key)})"
        for key in known
        if ours.get(key) != theirs.get(key)
    ]


def _scenarios(ours: Sequence[ScenarioSpec], theirs: Sequence[ScenarioSpec]) -> tuple[str, str]:
    """Return both in words: equal where each of ours is published, with sizes where no name tells them."""
    if all(spec in theirs for spec in ours):
        return "", ""
    named = {(spec.name, spec.class_order) for spec in theirs}
    sized = all((spec.name, spec.class_order) in named for spec in ours)
    ours_said, theirs_said = (", ".join(_scenario(spec, sized) for spec in specs) for specs in (ours, theirs))
    return ours_said, theirs_said


def _scenario(spec: ScenarioSpec, sized: bool) -> str:
    sizes = {key: value for key, value in spec.to_dict().items() if key not in ("name", "class_order")}
    said = f" ({', '.join(f'{key} {value}' for key, value in sizes.items())})" if sized else ""
    return f"{spec.name}{said} in order {spec.class_order}"


def _settings(study: Study, scenarios: str, preset: Study) -> dict[str, Any]:
    """Return what decides the numbers of the preset's labels in a study, as dotted key -> value."""
    plain = study.to_plain()
    plain["scenarios"] = scenarios
    plain["methods"] = {label: entry for label, entry in plain["methods"].items() if label in preset.methods}
    runs = {"orders": study.protocol.orders, "seeds": study.protocol.seeds}
    plain["protocol"] = study.protocol.fixed() | runs
    found = flat({key: plain[key] for key in DECIDING})
    return {key: value for key, value in found.items() if key not in PLACES and value is not None}


def _said(settings: dict[str, Any], key: str) -> str:
    value = settings.get(key, "not set")
    return str(value).lower() if isinstance(value, bool) else str(value)

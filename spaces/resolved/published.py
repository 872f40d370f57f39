"""Deviations of a study from the published setting, so that no figure is compared as if they were one."""

from __future__ import annotations

from typing import Any

from spaces import presets
from spaces.study.study import Study, flat
from spaces.study.study_file import load_study

DECIDING = ("data", "scenarios", "methods", "recipe", "protocol")
PLACES = ("data.root", "data.download")  # they decide no number


def deviations(study: Study) -> list[str]:
    """Return each setting that differs from the published one, as "key value (published: value)".

    The published setting is the preset with the study's name. A study of another name has only the data set
    of its figures to compare. Empty without published figures.
    """
    if study.published is None:
        return []
    ours, theirs = {"data.name": study.data.name}, {"data.name": study.published.data}
    if study.study in presets.names():
        preset = load_study(study.study)
        ours, theirs = _settings(study), _settings(preset) | theirs
    known = dict.fromkeys([*ours, *theirs])
    return [
        f"{key} {_said(ours, key)} (published: {_said(theirs, key)})"
        for key in known
        if ours.get(key) != theirs.get(key)
    ]


def _settings(study: Study) -> dict[str, Any]:
    """Return what decides the numbers of a study, as dotted key -> value."""
    plain = study.to_plain()
    plain["scenarios"] = ", ".join(f"{spec.name} in order {spec.class_order}" for spec in study.specs())
    runs = {"orders": study.protocol.orders, "seeds": study.protocol.seeds}
    plain["protocol"] = study.protocol.fixed() | runs
    found = flat({key: plain[key] for key in DECIDING})
    return {key: value for key, value in found.items() if key not in PLACES and value is not None}


def _said(settings: dict[str, Any], key: str) -> str:
    value = settings.get(key, "not set")
    return str(value).lower() if isinstance(value, bool) else str(value)

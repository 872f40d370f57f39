"""Read a study from a preset, a YAML file or a mapping, with overrides, and check it.

study = load_study("quickstart", ["search.trials=10"])
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cl_core.errors import BadRequest, unknown
from cl_core.yaml_text import read_value, read_yaml
from spaces import presets
from spaces.study.confirmation import AUTO
from spaces.study.messages import cut, known_keys, one_line
from spaces.study.names import check_names
from spaces.study.study import Study

RESOLVED = "resolved"  # the key of study.yaml under which a run records what it found


def load_study(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Study:
    """Return a study from a preset's name, a YAML file or a mapping; `overrides` are "a.b=value".

    Raises BadRequest, one line, for any error in it.
    """
    name = str(source)
    path = Path(name).expanduser()
    if isinstance(source, Mapping):
        plain = copy.deepcopy(dict(source))
    elif name in presets.names() and not path.suffix:
        plain = _mapping(read_yaml(presets.text(name), f"preset {name}"), name)
    elif path.suffix not in (".yaml", ".yml") and not path.exists():
        raise BadRequest(f"{unknown('preset', name, presets.names())}; or name a study file ending in .yaml")
    else:
        plain = _mapping(read_yaml(_text(path), str(path)), str(path))
        plain.setdefault("study", path.stem)
    plain.pop(RESOLVED, None)
    for override in overrides:
        apply_override(plain, override)
    study = parse_study(plain)
    check_names(study)
    return study


def existing_study(path: Path) -> dict[str, Any] | None:
    """Return the plain values of a run folder's study file, or None. Raises BadRequest if it is damaged."""
    if not path.exists():
        return None
    study = _mapping(read_yaml(_text(path), str(path)), str(path))
    if not isinstance(study.get(RESOLVED, {}), dict):
        raise BadRequest(f"{path} is damaged under {RESOLVED!r}: remove that key, or restore the file")
    return study


def standing_study(existing: Mapping[str, Any]) -> Study:
    """Return the study that a folder's study.yaml describes. Raises BadRequest if it is damaged.

    A folder whose file does not name a confirmation, or over how many class orders its trials are spread,
    was begun before there was one: it has none, and all of its trials train on the same.
    """
    try:
        study = parse_study({k: v for k, v in existing.items() if k != RESOLVED})
        missing = {"confirm": None, "spread": 1}
        return study.with_protocol({k: v for k, v in missing.items() if getattr(study.protocol, k) == AUTO})
    except BadRequest as error:
        raise BadRequest(f"the folder's study.yaml is damaged ({error}): restore it from a copy") from None


def parse_study(plain: Mapping[str, Any]) -> Study:
    """Return a study from plain values. Raises BadRequest, one line, with the dotted key."""
    known_keys(Study, plain)
    try:
        return Study.model_validate(dict(plain))
    except ValidationError as error:
        raise BadRequest(one_line(error)) from None


def apply_override(plain: dict[str, Any], override: str) -> None:
    """Set "a.b=value" in plain values, in place; the value is as `read_value` reads it. Raises BadRequest."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise BadRequest(f"--set must be key=value, not {cut(override)}: write --set search.trials=10")
    if path.strip().startswith("hp."):
        name, labels = path.strip().removeprefix("hp."), plain.get("methods")
        label = next(iter(labels), "lwf") if isinstance(labels, Mapping | list) else "lwf"
        raise BadRequest(
            f"--set {cut(override)}: a hyperparameter must be set under its label: write --set "
            f"methods.{label}.{name}={text}"
        )
    value = read_value(text, f"--set {path}")
    at, rest, done = plain, path.strip(), ""
    while True:
        key, rest = _next_key(at, rest)
        if not key:
            raise BadRequest(
                f"--set {cut(override)}: no part of the key may be empty: write --set search.trials=10"
            )
        if not rest:
            at[key] = value
            return
        done = f"{done}.{key}".strip(".")
        inner = at.get(key)
        if done == "data" and isinstance(inner, str):
            inner = {"name": inner}
        elif done == "methods" and isinstance(inner, list) and all(isinstance(name, str) for name in inner):
            inner = dict.fromkeys(inner)
        elif inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise BadRequest(
                f"--set {cut(override)}: {done} must be a mapping to have {rest}, but is "
                f"{cut(inner)}: set {done}"
            )
        at[key] = at = dict(inner)  # a copy, because a YAML alias puts one mapping in several places


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(presets.names())
        raise BadRequest(
            f"study file {str(path)!r} does not exist: check the path, or use a preset ({known})"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadRequest(f"cannot read the study file {str(path)!r}: {reason}") from None


def _mapping(value: object, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(
            f"{source}: a study file must be a mapping, not {cut(value)}: give it data, scenarios and methods"
        )
    return value


def _next_key(at: Mapping[str, Any], rest: str) -> tuple[str, str]:
    """Return the longest key of `at` that begins `rest`, as labels may hold dots; else its first part."""
    fits = [k for k in at if isinstance(k, str) and (rest == k or rest.startswith(f"{k}."))]
    key = max(fits, key=len) if fits else rest.split(".")[0]
    return key, rest[len(key) + 1 :]

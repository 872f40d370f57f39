"""Every key of the study file with its type, default and meaning, read from the models.

`cl-search describe study` and the table in spaces/README.md show it.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from cl_core.hparams import hparams
from cl_core.recipe import Recipe
from cl_core.training.chf_options import CHF
from spaces.study.part import Part
from spaces.study.strategies import SAMPLERS, STOPPERS
from spaces.study.study import HYPERPARAMETER, Entry, Study

NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "none"}
DECLARED = {"recipe": Recipe, "protocol.chf": CHF}  # mappings whose keys are declared as hyperparameters
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def study_keys() -> list[dict[str, str]]:
    """Return every key of the study file: key, type, default, description."""
    return list(_keys(Study, ""))


def _keys(model: type[Part], prefix: str) -> Iterator[dict[str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = _model_in(field.annotation)
        declared = DECLARED.get(key)
        yield _row(key, field, "mapping" if inner or declared else _type(field))
        if declared:
            for each, param in hparams(declared).items():
                shown = {
                    "type": str(param.domain),
                    "default": _shown(param.default),
                    "description": param.doc,
                }
                yield {"key": f"{key}.{each}", **shown}
        elif key in ("search.sampler_args", "search.stopper_args"):
            yield from _arguments(key, SAMPLERS if "sampler" in key else STOPPERS)
        elif inner is not None and key != "protocol.evaluate_on":  # whose keys are those of `data`
            labelled = typing.get_origin(field.annotation) is dict
            yield from _keys(inner, f"{key}.<label>." if labelled else f"{key}.")
    if model is Entry:
        owned = {"type": "value or range", "default": "the method's", "description": HYPERPARAMETER}
        yield {"key": f"{prefix}<hyperparameter>", **owned}


def _row(key: str, field: FieldInfo, kind: str, before: str = "") -> dict[str, str]:
    default = "required"
    if not field.is_required():
        value = field.get_default(call_default_factory=True)
        default = "" if isinstance(value, Part) else _shown(value)
    return {"key": key, "type": kind, "default": default, "description": before + (field.description or "")}


def _arguments(key: str, known: Mapping[str, type[Part]]) -> Iterator[dict[str, str]]:
    owners: dict[type[Part], list[str]] = {}
    for name, model in known.items():
        owners.setdefault(model, []).append(name)
    for model, names in owners.items():
        for name, field in model.model_fields.items():
            yield _row(f"{key}.{name}", field, _type(field), f"{', '.join(names)}: ")


def _model_in(annotation: Any) -> type[Part] | None:
    for part in (annotation, *typing.get_args(annotation)):
        if inspect.isclass(part) and issubclass(part, Part):
            return part
    return None


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(item, name):,}"
        for item in field.metadata
        for name, sign in BOUNDS.items()
        if hasattr(item, name)
    ]
    return " ".join([_named(field.annotation), ", ".join(bounds)]).strip()


def _named(annotation: Any) -> str:
    if annotation in NAMES:
        return NAMES[annotation]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(map(str, parts))
    if origin is dict:
        return "mapping"
    if origin is list:
        return f"list of {_named(parts[0])}"
    if origin in (typing.Union, types.UnionType):  # "none" stands in the column of defaults
        return " or ".join(_named(part) for part in parts if part is not type(None))
    return str(annotation)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list | tuple) and not value:
        return "empty"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)

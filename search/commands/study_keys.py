"""`describe study`: every key of a study file."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from cl_core.hparams import hparams
from cl_core.recipe import Recipe
from spaces.study.study import Study


def study_keys() -> list[dict[str, str]]:
    """Every key of the study file: name, type, default, description."""
    return _keys(Study, "")


def _keys(model: type[BaseModel], prefix: str) -> list[dict[str, str]]:
    out = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}".replace("<label>.hp", "<label>.<hyperparameter>")
        inner = _model_in(field.annotation)
        default = "required" if field.is_required() else ""
        if inner is None and not field.is_required():
            default = _shown(field.get_default(call_default_factory=True))
        kind = "mapping" if inner is not None else _type(field.annotation)
        out.append({"key": key, "type": kind, "default": default, "description": field.description or ""})
        if key == "recipe":
            out += _recipe_keys()
        if inner is not None:
            origin = typing.get_origin(field.annotation)
            labelled = inspect.isclass(origin) and issubclass(origin, Mapping)
            out += _keys(inner, f"{key}.<label>." if labelled else f"{key}.")
    return out


def _recipe_keys() -> list[dict[str, str]]:
    return [
        {
            "key": f"recipe.{name}",
            "type": str(param.domain),
            "default": _shown(param.default),
            "description": param.doc,
        }
        for name, param in hparams(Recipe).items()
    ]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        if inspect.isclass(part) and issubclass(part, BaseModel):
            return part
    return None


def _type(annotation: Any) -> str:
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return annotation.__name__
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "mapping"
    if inspect.isclass(origin) and origin in (list, tuple):
        return f"list of {_type(parts[0])}" if parts else "list"
    if parts:
        return " | ".join(dict.fromkeys("none" if p is type(None) else _type(p) for p in parts))
    return str(annotation).removeprefix("typing.")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping | list | tuple) and not value:
        return "empty"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    return str(value)

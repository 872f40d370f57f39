"""What there is: `list KIND`, `describe NAME`, `describe study`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cl_core.errors import unknown
from cl_core.hparams import HParam, hparams

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cl_core.registry import Registry

PARADIGMS = ("baseline", "regularisation", "data replay", "feature replay")
"""In the survey's order; a method of one's own may bring another, which comes after them."""


def kinds() -> list[str]:
    """What there are lists of."""
    return list(KINDS)


def listing(kind: str) -> Mapping[str, Any]:
    """Every item of a kind, with a sentence; a method with its taxonomy. Raises BadRequest for a kind that
    is none."""
    if kind not in KINDS:
        raise unknown("list", kind, KINDS)
    return KINDS[kind]()


def taxonomy() -> dict[str, dict[str, str]]:
    """Every method with its place in the survey's taxonomy, by paradigm, then by name."""
    from cl_core.method import METHODS

    def place(name: str) -> tuple[int, str, str]:
        paradigm = METHODS[name].paradigm
        known = PARADIGMS.index(paradigm) if paradigm in PARADIGMS else len(PARADIGMS)
        return known, paradigm, name

    broken = METHODS.broken()
    out = {
        name: {
            "title": cls.title,
            "paradigm": cls.paradigm,
            "level": cls.level,
            "kind": cls.kind,
            "base family": cls().base().family,
            "paper": cls.paper,
        }
        for name, cls in ((name, METHODS[name]) for name in sorted(METHODS, key=place))
    }
    empty = dict.fromkeys(("level", "kind", "base family", "paper"), "-")
    return out | {name: {"title": line, "paradigm": "broken", **empty} for name, line in broken.items()}


def _datasets() -> dict[str, str]:
    from cl_core.images.loading import DATASETS

    return _sentences(DATASETS)


def _nets() -> dict[str, str]:
    from cl_core.nets.network import NETS

    return _sentences(NETS)


def _sentences(registry: Registry[Any]) -> dict[str, str]:
    """Every item's first sentence; of what cannot be used, why."""
    broken = {name: f"broken: {line}" for name, line in registry.broken().items()}
    return {name: _sentence(registry[name]) for name in registry} | broken


def _scenarios() -> dict[str, str]:
    from cl_core.scenarios.scenarios import SCENARIOS

    return dict(SCENARIOS)


def _presets() -> dict[str, str]:
    from spaces import presets

    return {name: presets.summary(name) for name in presets.names()}


def _views() -> dict[str, str]:
    from analysis.report.section import VIEWS

    return _sentences(VIEWS)


KINDS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "methods": taxonomy,
    "datasets": _datasets,
    "nets": _nets,
    "scenarios": _scenarios,
    "presets": _presets,
    "views": _views,
}


def method(name: str) -> dict[str, Any]:
    """A method's card as plain values; its base family and recipes are those of the default
    hyperparameters. Raises BadRequest for a name that is none."""
    from cl_core.method import METHODS

    cls = METHODS[name]
    made = cls()
    base = made.base()
    return {
        "method": cls.name,
        "title": cls.title,
        "paper": cls.paper,
        "equation": cls.equation,
        "paradigm": cls.paradigm,
        "level": cls.level,
        "kind": cls.kind,
        "classifier": made.primary(),
        "base family": base.family,
        "head": base.head,
        "side heads": dict(base.side_heads),
        "last relu": base.last_relu,
        "base parameters": dict(base.parameters),
        "base recipe": dict(base.recipe),
        "increment recipe": dict(base.recipe if cls.restarts else made.recipe()),
        "hyperparameters": {name: _hparam(param) for name, param in hparams(cls.HP).items()},
    }


def _hparam(param: HParam) -> dict[str, Any]:
    when = ", ".join(f"{name} = {' | '.join(map(str, values))}" for name, values in param.when.items())
    return {
        "default": param.default,
        "domain": str(param.domain),
        "searched": param.searched,
        "acts from": param.acts_from,
        "at boundary": param.at_boundary,
        "when": when,
        "doc": param.doc,
    }


def study_keys() -> list[dict[str, str]]:
    """Every key of the study file: name, type, default, description."""
    from spaces.study.study import Study

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
    from cl_core.recipe import Recipe

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
    from pydantic import BaseModel

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


def _sentence(item: object) -> str:
    """The first sentence of a docstring."""
    text = inspect.getdoc(item) or ""
    return " ".join(text.split("\n\n")[0].split())

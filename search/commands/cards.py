"""Cards of the parts that are no method: nets, data sets and views, built in or of your own."""

from __future__ import annotations

import inspect
from typing import Any

from analysis.report.section import VIEWS
from cl_core.errors import BadRequest, defined_at, unknown
from cl_core.hparams import HParam, hparams
from cl_core.images.loading import DATASETS
from cl_core.method import METHODS, Method
from cl_core.nets.network import NETS, sample
from cl_core.registry import Registry

SHAPE = (3, 32, 32)  # of the image that a net's card is made with


def registries() -> dict[str, Registry[Any]]:
    """Return the registries by kind: method, net, data set, view."""
    return {registry.kind: registry for registry in (METHODS, NETS, DATASETS, VIEWS)}


def kind_of(name: str) -> str:
    """Return the kind of the part called `name`: method, net, data set or view.

    Of `module:attribute`, class and signature decide. Raises BadRequest where they fit no kind.
    """
    known = registries()
    if ":" in name:
        item = Registry[object]("part", "", lambda item: None)[name]
        kind = _kind_of_code(item)
        if kind is None:
            raise BadRequest(
                f"{name!r} must be a subclass of Method, a net (shape, last_relu), a data set (root) or a "
                f"view (results), not {type(item).__name__} ({defined_at(item)})"
            )
        return kind
    for kind, registry in known.items():
        if name in registry or name in registry.broken():
            return kind
    everything = [known_name for registry in known.values() for known_name in registry]
    said = str(unknown("name", name, everything)).partition("(known: ")[0]
    raise BadRequest(f"{said}(`cl-search list` names what there is)")


def _kind_of_code(item: object) -> str | None:
    if isinstance(item, type) and issubclass(item, Method):
        return "method"
    if not callable(item) or not (inspect.isfunction(item) or inspect.isclass(item)):
        return None
    signature = inspect.signature(item)
    parameters = list(signature.parameters.values())
    if NETS.fault(item) is None and (DATASETS.fault(item) is not None or "last_relu" in signature.parameters):
        return "net"
    first = f"{parameters[0].name} {parameters[0].annotation}" if parameters else ""
    if "results" in first.lower() or "Section" in str(signature.return_annotation):
        return "view"
    return "data set" if DATASETS.fault(item) is None else None


def card(kind: str, name: str) -> dict[str, Any]:
    """Return the card of a net, a data set or a view as plain values. Raises BadRequest."""
    item = registries()[kind][name]
    out: dict[str, Any] = {
        kind: name,
        "says": " ".join((inspect.getdoc(item) or "").split()),
        "takes": str(inspect.signature(item)),
        "file": defined_at(item),
    }
    if kind == "net":
        features, maps = sample(name, SHAPE, True)
        of = f"{'x'.join(map(str, SHAPE))}"
        out[f"features of {of}"] = features.shape[1]
        out[f"maps of {of}"] = ["x".join(map(str, m.shape[1:])) for m in maps]
    return out


def method_card(name: str) -> dict[str, Any]:
    """Return a method's card as plain values. Raises BadRequest for an unknown name.

    Base family and recipes are those of the default hyperparameters.
    """
    cls = METHODS[name]
    made = cls()
    base = made.base()
    return {
        "method": cls.name,
        "title": cls.title,
        "paper": cls.paper,
        "equation": cls.equation,
        "says": " ".join((inspect.getdoc(cls) or "").split()),
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

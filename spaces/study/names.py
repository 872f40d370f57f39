"""Names in a study file: methods, data sets and nets that exist, checked without loading any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cl_core.errors import unknown
from cl_core.registry import listed
from spaces.study.study import Study

PACKAGES = {"method": "cl_core.methods", "data set": "cl_core.data", "net": "cl_core.nets"}


def check_names(study: Study) -> None:
    """Raise BadRequest for a method, data set or net that does not exist; the nearest name is given."""
    known = {kind: listed(kind, package) for kind, package in PACKAGES.items()}
    for kind, name in _names(study):
        names = known[kind]
        if names is not None and ":" not in name and name not in names:
            raise unknown(kind, name, names)


def _names(study: Study) -> Iterator[tuple[str, str]]:
    for data in (study.data, study.protocol.evaluate_on):
        if data is not None:
            yield "data set", data.name
    for entry in study.methods.values():
        yield "method", entry.method
    for recipe in (study.recipe, *(entry.recipe for entry in study.methods.values())):
        net = recipe.get("net")
        options = net.get("choice") if isinstance(net, Mapping) else [net]
        for option in options if isinstance(options, list) else ():
            if isinstance(option, str):
                yield "net", option

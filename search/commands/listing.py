"""`list`: methods, data sets, nets, scenarios, presets and views, each with a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from analysis.report.section import VIEWS
from cl_core.errors import unknown
from cl_core.images.loading import DATASETS
from cl_core.method import METHODS
from cl_core.nets.network import NETS
from cl_core.registry import Registry
from cl_core.scenarios.scenarios import SCENARIOS
from search.commands.cards import method_card
from search.commands.stored_cards import taxonomy_of
from spaces import presets


def listing(kind: str) -> Mapping[str, Any]:
    """Return the parts of a kind with a sentence each; methods with their taxonomy. Raises BadRequest."""
    if kind not in KINDS:
        raise unknown("list", kind, KINDS)
    return KINDS[kind]()


def taxonomy() -> dict[str, dict[str, str]]:
    """Return every method with its place in the survey's taxonomy, by paradigm, then by name."""

    broken = METHODS.broken()
    out = taxonomy_of({name: method_card(name) for name in METHODS})
    empty = dict.fromkeys(("level", "kind", "base family", "paper"), "-")
    return out | {name: {"title": line, "paradigm": "broken", **empty} for name, line in broken.items()}


def _sentences(registry: Registry[Any]) -> dict[str, str]:
    """Return every part's first sentence; of a broken one, the reason."""
    broken = {name: f"broken: {line}" for name, line in registry.broken().items()}
    return {name: _sentence(registry[name]) for name in registry} | broken


def _sentence(item: object) -> str:
    """Return the first sentence of a docstring."""
    text = inspect.getdoc(item) or ""
    return " ".join(text.split("\n\n")[0].split())


KINDS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "methods": taxonomy,
    "datasets": partial(_sentences, DATASETS),
    "nets": partial(_sentences, NETS),
    "scenarios": lambda: SCENARIOS,
    "presets": lambda: {name: presets.summary(name) for name in presets.names()},
    "views": partial(_sentences, VIEWS),
}

"""Checks of a resolved study on its data: every run, given weights, and what a protocol asks of all cells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cl_core.errors import BadRequest
from cl_core.hparams import Choice, to_dict
from cl_core.images.dataset import Data
from cl_core.method import METHODS
from cl_core.nets.network import build_network
from cl_core.training.checks import check
from cl_core.training.weights import load_init
from spaces.resolved.cell import Cell
from spaces.resolved.run_spec import evaluated
from spaces.resolved.study import ResolvedStudy
from spaces.space.space import Space, Values


def check_runs(study: ResolvedStudy) -> None:
    """Raise BadRequest unless each cell can train its default values, and both ends of every domain."""
    for cell in study.cells:
        with _within(cell):
            for order, seed in study.all_runs(cell):
                check(study.configuration(cell, cell.space.defaults(), order, seed), study.data)
            if cell.seeks:  # every key gives an order
                continue
            for values in corners(cell.space):
                check(study.first_run(cell, values), study.data)


def corners(space: Space) -> Iterator[Values]:
    """Yield values that put one searched parameter at an end of its domain, the others at their defaults.

    A study may allow what cannot be trained, such as a memory too small for the classes. Without this check
    one trial after another would fail.
    """
    for p in space.searched:
        assert p.domain is not None
        ends = p.domain.options if isinstance(p.domain, Choice) else (p.domain.low, p.domain.high)
        for value in dict.fromkeys(ends):
            given = {name: allowed[0] for name, allowed in p.when.items()} | {p.name: value}
            fixed = tuple(
                replace(q, default=given[q.name], domain=None) if q.name in given else q
                for q in space.parameters
            )
            yield replace(space, parameters=fixed).defaults()


def check_init(cells: Sequence[Cell], data: Data) -> None:
    """Raise BadRequest unless the weights of `recipe.init` fit every network of their cells."""
    seen: set[tuple[str, str]] = set()
    for cell in cells:
        base = METHODS[cell.method]().base()
        for net in cell.nets(data):
            if cell.init is None or (net, cell.init) in seen:
                continue
            seen.add((net, cell.init))
            with _within(cell):
                network = build_network(net, data.shape, data.num_classes, base.head, base.last_relu, 0)
                load_init(network, cell.init)


def check_shared_base(study: ResolvedStudy) -> None:
    """Raise BadRequest where shared-base would not have one first task for all labels.

    That is so where something that decides the first task is searched, or differs between labels.
    """
    if study.study.protocol.select_on != "shared-base":
        return
    rule = "protocol.select_on shared-base has one first task for all methods, but"
    known: dict[str, tuple[str, dict[str, Any]]] = {}  # scenario -> a label, and what decides its first task
    for cell in study.cells:
        for p in cell.space.searched:
            kind, part, *_ = p.name.split(".")
            if kind == "recipe" and part != "increment":
                raise BadRequest(
                    f"{rule} {p.name}, which decides it, is searched for {cell.label}: fix it, or search it "
                    "under recipe.increment"
                )
        mine = _first_task(study, cell)
        label, theirs = known.setdefault(cell.scenario.name, (cell.label, mine))
        for name, value in mine.items():
            if theirs[name] != value:
                raise BadRequest(
                    f"{rule} {name} is {theirs[name]} for {label} and {value} for {cell.label}: give both "
                    "the same value, and put differences under recipe.increment"
                )


def check_judged(study: ResolvedStudy, judged: Data) -> None:
    """Raise BadRequest where a cell could not be trained on `judged`, the images of the evaluation."""
    for cell in study.cells:
        if cell.seeks:  # a class order is not selected for other data
            continue
        final = evaluated(study.first_run(cell), "final", study.study.judging_data)
        try:
            check(replace(final, unsealed=False), judged, measured=False)
        except BadRequest as error:
            raise BadRequest(f"{cell.name} on the {judged.num_classes} classes judged on: {error}") from None


def _first_task(study: ResolvedStudy, cell: Cell) -> dict[str, Any]:
    configuration = study.first_run(cell)
    recipe, _ = configuration.recipes(study.data, METHODS[cell.method](configuration.hp))
    plain: dict[str, Any] = {f"recipe.{name}": value for name, value in to_dict(recipe).items()}
    return {**plain, "recipe.net": configuration.net or study.data.net, "recipe.init": configuration.init}


@contextlib.contextmanager
def _within(cell: Cell) -> Iterator[None]:
    """Put the cell's name before the message of a refusal."""
    try:
        yield
    except BadRequest as error:
        raise BadRequest(f"{cell.name}: {error}") from error

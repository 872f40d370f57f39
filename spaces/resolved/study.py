"""A study on its data: every cell with its space and budget, and the runs of each configuration.

    resolved = resolve(study, cl_core.load(study.tuning_data))
    for cell in resolved.cells: ...

A study's identity leaves out where data lies and what may grow (trials, methods, scenarios, class orders,
seeds), so that the same folder can be continued with more of these and with nothing else.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Value, digest
from cl_core.images.dataset import Data
from cl_core.metrics import OBJECTIVES
from cl_core.recipe import PARTS
from cl_core.scenarios.class_orders import shortened
from cl_core.training.checks import check
from cl_core.training.configuration import Configuration
from cl_core.yaml_text import write_yaml
from spaces.resolved.cell import Cell, cell_of, check_init, corners, within
from spaces.resolved.continuing import grown
from spaces.resolved.environment import hardware, now, versions
from spaces.resolved.protocol_checks import check_shared_base, without_effect
from spaces.resolved.run_spec import RunSpec, trial_digest
from spaces.space.plain import plain_parameters
from spaces.space.scenario_axis import (
    KEY,
    as_order,
    directions,
    number_of_splits,
    order_of,
    seeks,
)
from spaces.space.space import Values
from spaces.study.protocol import protocol_warnings, searched, tuning_data
from spaces.study.study import Study
from spaces.study.study_file import RESOLVED

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class ResolvedStudy:
    """A study on its data: checked, with cells in the study's order (labels outside, scenarios inside)."""

    study: Study
    data: Data = field(repr=False)
    cells: tuple[Cell, ...]
    threads: int = 1  # of torch in a run
    device: str = "auto"
    precision: str = "auto"

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study

    @property
    def objective(self) -> str:
        """The first objective: what ranks configurations where one has to be chosen."""
        return next(iter(self.study.search.objective))

    @property
    def objectives(self) -> Mapping[str, str]:
        """What is optimised: name -> max or min."""
        return self.study.search.objective

    @property
    def direction(self) -> str:
        """max or min, of the first objective."""
        return self.study.search.objective[self.objective]

    def directions(self, cell: Cell) -> dict[str, str]:
        """What the search of a cell optimises: max where the study has min for the hardest class order, and
        the other way round."""
        return directions(self.objectives, cell.seeks)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of all labels, each once."""
        return tuple(dict.fromkeys(entry.method for entry in self.study.methods.values()))

    @property
    def folder(self) -> Path:
        """Where the run's folder lies unless said otherwise."""
        return Path(self.study.storage.root).expanduser() / self.name

    def cell(self, name: str) -> Cell:
        """The cell of that name. Raises BadRequest."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise unknown("cell", name, [cell.name for cell in self.cells])

    def runs(self, cell: Cell) -> list[tuple[str, int]]:
        """(class order, seed) of every run of one configuration; the first one is the plain one."""
        protocol = self.study.protocol
        return [(o, s) for o in self.orders(cell, protocol.orders) for s in range(protocol.seeds)]

    def orders(self, cell: Cell, count: int) -> list[str]:
        """So many class orders: the scenario's own, then seed:1, seed:2, ..."""
        first = cell.scenario.class_order
        if cell.seeks:  # the order is the configuration's
            return [first]
        others = (f"seed:{k}" for k in range(1, count + 1))
        return [first, *(order for order in others if order != first)][:count]

    def configuration(self, cell: Cell, config: Mapping[str, Value], order: str, seed: int) -> Configuration:
        """One run of the search of a sampled configuration, as the trainer takes it. Where class orders are
        searched, `order` gives way to the configuration's."""
        hp: Values = {}
        recipe: dict[str, Any] = {}
        net: str | None = None
        if cell.seeks:
            order = order_of(config, cell.sizes)
        for name, value in config.items():
            if name.startswith(KEY):
                continue
            match name.split("."):
                case ["hp", key]:
                    if not self.study.left_to_chf(cell.label, key):
                        hp[key] = value
                case ["recipe", "net"]:
                    net = str(value)
                case ["recipe", key]:
                    recipe[key] = value
                case ["recipe", part, key] if part in PARTS:
                    recipe.setdefault(part, {})[key] = value
                case _:
                    raise ValueError(f"{name!r} is no parameter of a configuration")
        plain = Configuration(
            method=cell.method,
            data=tuning_data(self.study.data, self.study.protocol),
            scenario=cell.scenario,
            hp=hp,
            recipe=recipe,
            net=net,
            class_order=order,
            seed=seed,
            validation=self.study.protocol.validation,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            init=cell.init,
        )
        return searched(plain, self.study.protocol)

    def run_specs(self, cell: Cell, trial: int, values: Mapping[str, Value]) -> list[RunSpec]:
        """Return every run of a trial, in the order in which they are trained."""
        first = f"{cell.name}/{trial}"
        identity = trial_digest(as_order(values, cell.sizes))
        return [
            RunSpec(
                run=first if index == 0 else f"{first}/{short_order(order)}/s{seed}",
                cell=cell.name,
                label=cell.label,
                trial=trial,
                purpose="search",
                trial_digest=identity,
                configuration=self.configuration(cell, values, order, seed),
                objectives=tuple(self.objectives),
                split=self.study.protocol.split,
            )
            for index, (order, seed) in enumerate(self.runs(cell))
        ]

    @cached_property
    def identity(self) -> str:
        """The digest of what may not change when the run is continued."""
        return digest({"study": self.study.fixed_part(), "data": self.data.fingerprint})

    def merge(self, existing: Mapping[str, Any]) -> ResolvedStudy:
        """This study grown by what stands in a folder, whose study.yaml is `existing`.

        Threads and device are those that the folder was begun with: they are part of a number. Raises
        BadRequest for what may not change, as `grown` does, and for other images.
        """
        found = existing.get(RESOLVED) or {}
        merged = grown(existing, self.study)
        fingerprint = found.get("fingerprint")
        if fingerprint and fingerprint != self.data.fingerprint:
            raise BadRequest(
                f"the images are not those that the folder was begun with ({str(fingerprint)[:12]} then, "
                f"{self.data.fingerprint[:12]} now): restore them, or use another --out"
            )
        again = resolve(merged, self.data)
        kept = {name: found.get(name, getattr(self, name)) for name in ("threads", "device")}
        if type(kept["threads"]) is not int or kept["threads"] < 1 or kept["device"] not in DEVICES:
            raise BadRequest(
                f"the folder's study.yaml is damaged under {RESOLVED!r} (threads {kept['threads']!r}, device "
                f"{kept['device']!r}): restore it from a copy"
            )
        return dataclasses.replace(again, **kept, precision=self.precision)

    @property
    def notes(self) -> list[str]:
        """What has to be known of the images; one line each."""
        if self.data.test is not None:
            return [*self.data.notes]
        lacks = f"data set {self.data.name!r} has no test split, which `evaluate` needs"
        return [*self.data.notes, f"{lacks}. Add one now: a run that has begun takes no other images."]

    @property
    def warnings(self) -> list[str]:
        """What is allowed, but hardly meant; one line each."""
        out = protocol_warnings(self.study.protocol, self.study.search.trials) + without_effect(self)
        for cell in self.cells:
            for name, said in self.study.methods[cell.label].hp.items():
                if isinstance(said, Mapping) and self.study.left_to_chf(cell.label, name):
                    out.append(f"{cell.label}: the domain of {name} is not used: chf chooses it task by task")
            for name, branch in cell.space.inert.items():
                out.append(f"{cell.label}: {name} never acts, it does only where {branch}: it is left out")
            if cell.seeks and self.study.search.stopper != "none":
                said = f"{cell.name}: search.stopper {self.study.search.stopper} does not act"
                out.append(f"{said}: an order that falls behind may be the one that is sought")
            splits = number_of_splits(cell.sizes) if cell.seeks else cell.budget
            if splits < cell.budget:
                out.append(
                    f"{cell.name}: {cell.budget} class orders are asked of {splits} splits that differ: some "
                    "are run again"
                )
            memory = [p.name for p in cell.space.searched if p.name.startswith("hp.exemplars_")]
            if "paper" in self.study.search.start_from:
                for name, published, taken in cell.space.moved:
                    out.append(
                        f"{cell.label}: the published {name} = {published} lies outside the space: the first "
                        f"configuration takes {taken}"
                    )
            if self.study.search.sampler == "nsga2" and cell.space.conditional:
                said = f"{cell.label}: {cell.space.conditional[0]} acts only in a branch"
                out.append(f"{said}: nsga2 draws it at random there")
            if memory and all("accuracy" in name for name in self.objectives):
                said = f"{cell.label}: {memory[0]} is searched for accuracy alone"
                out.append(f"{said}: the largest wins by construction")
        return list(dict.fromkeys(out))

    def to_yaml(self, existing: Mapping[str, Any] | None = None) -> str:
        """The text of study.yaml: the study with its defaults, and under `resolved` what it met.

        `existing` is the study.yaml that stood in the folder; the time of its creation and the
        run's id, by which its studies in a shared storage are told from others, are kept.
        """
        before = (existing or {}).get(RESOLVED) or {}
        found = {
            "identity": self.identity,
            "threads": self.threads,
            "device": self.device,
            "run": before.get("run") or uuid.uuid4().hex[:12],
            "fingerprint": self.data.fingerprint,
            "created": before.get("created") or now(),
            "written": now(),
            "versions": versions(),
            "hardware": hardware(),
            "direction": self.direction,
            "warnings": [*self.notes, *self.warnings],
            "causal": self.study.protocol.causal,
            "cells": [
                {
                    "name": cell.name,
                    "tasks": list(cell.sizes),
                    "runs": [f"{order}/s{seed}" for order, seed in self.runs(cell)],
                    "budget": cell.budget,
                    "search": cell.searched,
                    "parameters": [] if seeks(cell.scenario) else plain_parameters(cell.method, cell.space),
                    **self._sought(cell),
                }
                for cell in self.cells
            ],
        }
        plain = {**self.study.to_plain(), RESOLVED: found}
        return write_yaml(plain)

    def _sought(self, cell: Cell) -> dict[str, str]:
        """What study.yaml says of a cell that searches class orders; nothing of any other."""
        if not cell.seeks:
            return {}
        return {"seeks": cell.seeks, "direction": self.directions(cell)[self.objective]}

    def table(self) -> list[dict[str, str]]:
        """One row a cell for a dry run: cell, tasks, configurations and runs asked, what is searched."""
        rows = []
        for cell in self.cells:
            runs = len(self.runs(cell))
            budget = f"{cell.budget}" + (f" ({cell.note})" if cell.note else "")
            rows.append(
                {
                    "cell": cell.name,
                    "tasks": "+".join(map(str, cell.sizes)),
                    "budget": budget,
                    "runs": f"{cell.budget * runs}",
                    "space": cell.searched,
                }
            )
        return rows


def resolve(study: Study, data: Data) -> ResolvedStudy:
    """`study` on `data`: every cell with its space, all checked. Raises BadRequest."""
    for objective, direction in study.search.objective.items():
        if direction != OBJECTIVES[objective][0]:
            raise BadRequest(
                f"search.objective.{objective} must be {OBJECTIVES[objective][0]}, not {direction}: "
                f"write {{{objective}: {OBJECTIVES[objective][0]}}}"
            )
    study = study.on(data.num_classes)
    cells = tuple(
        cell_of(study, label, entry, scenario, data)
        for label, entry in study.methods.items()
        for scenario in study.specs()
    )
    resolved = ResolvedStudy(study, data, cells, threads=max(1, int(study.resources.cpu or 1)))
    for cell in cells:
        first = cell.space.defaults()
        for order, seed in resolved.runs(cell):
            with within(cell):
                check(resolved.configuration(cell, first, order, seed), data)
        order, seed = resolved.runs(cell)[0]
        if cell.seeks:  # every key gives an order
            continue
        with within(cell):
            for config in corners(cell.space):
                check(resolved.configuration(cell, config, order, seed), data)
    check_init(cells, data)
    check_shared_base(resolved)
    return resolved


def short_order(order: str) -> str:
    """A class order as a part of a trial's name."""
    plain = order if order.startswith("seed:") else Path(shortened(order)).stem
    name = re.sub(r"[^A-Za-z0-9._:-]+", "-", plain).strip("-.") or "order"
    # A file seed-1.txt must not have the tables of seed:1, whose colon is a dash in file names.
    return f"file-{name}" if re.fullmatch(r"seed[-:]\d+", name) and name != order else name

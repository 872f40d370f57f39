"""A study on its data: every cell with its space and budget, and the runs of each trial.

    resolved = resolve(study, cl_core.load(study.tuning_data))
    for cell in resolved.cells: ...

The identity of a study leaves out where the data lies and what may grow (trials, methods, scenarios, class
orders, seeds). A run folder can be continued with more of these, and with no other change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cl_core.errors import unknown
from cl_core.hparams import Value, digest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.recipe import PARTS
from cl_core.records import CONFIRM, trained_by
from cl_core.scenarios.class_orders import shortened
from cl_core.training.configuration import Configuration
from spaces.resolved.cell import Cell
from spaces.resolved.run_spec import RunSpec, evaluated, searched, trial_digest
from spaces.space.scenario_axis import KEY, as_order, directions, order_of
from spaces.space.space import Values
from spaces.space.task_space import to_plain
from spaces.study.protocol import MOST_REPEATS
from spaces.study.study import Study


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
        """The first objective, which ranks trials where one has to be selected."""
        return next(iter(self.study.search.objective))

    @property
    def objectives(self) -> Mapping[str, str]:
        """Each objective with its direction, max or min."""
        return self.study.search.objective

    @property
    def direction(self) -> str:
        """The direction of the first objective, max or min."""
        return self.study.search.objective[self.objective]

    def directions(self, cell: Cell) -> dict[str, str]:
        """Return the direction of every objective in a cell; the hardest class order turns them round."""
        return directions(self.objectives, cell.seeks)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of all labels, each once."""
        return tuple(dict.fromkeys(entry.method for entry in self.study.methods.values()))

    @property
    def folder(self) -> Path:
        """The default place of the run folder."""
        return Path(self.study.storage.root).expanduser() / self.name

    @cached_property
    def identity(self) -> str:
        """The digest of what may not change when the run folder is continued."""
        return digest({"study": self.study.fixed_part(), "data": self.data.fingerprint})

    @cached_property
    def _images(self) -> DataSpec:
        return self.study.tuning_data  # checked anew each time, and thousands of runs name it

    def cell(self, name: str) -> Cell:
        """Return the cell of that name. Raises BadRequest."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise unknown("cell", name, [cell.name for cell in self.cells])

    def orders(self, cell: Cell, count: int) -> list[str]:
        """Return `count` class orders: the scenario's own, then seed:1, seed:2, ..."""
        first = cell.scenario.class_order
        if cell.seeks:  # each trial brings its own order
            return [first]
        others = (f"seed:{k}" for k in range(1, count + 1))
        return [first, *(order for order in others if order != first)][:count]

    def turns(self, cell: Cell) -> int:
        """Return the number of class orders that the trials of a cell take in turn."""
        return self.study.protocol.turns if cell.confirm and cell.budget > 1 else 1

    def runs(self, cell: Cell, trial: int = 0) -> list[tuple[str, int]]:
        """Return class order and seed of every run of a trial. Those of trial 0 begin with the scenario's.

        Where trials are spread over class orders, the trial has the one whose turn it is. A reused trial has
        the runs of the one whose training it shares.
        """
        protocol, turns = self.study.protocol, self.turns(cell)
        orders = self.orders(cell, protocol.orders * turns)
        turn = trained_by(trial) % turns
        return [(o, s) for o in orders[turn::turns] for s in range(protocol.seeds)]

    def all_runs(self, cell: Cell) -> list[tuple[str, int]]:
        """Return class order and seed of every run of one trial or, where they are spread, of one on each."""
        return [run for trial in range(self.turns(cell)) for run in self.runs(cell, trial)]

    def first_run(self, cell: Cell, values: Mapping[str, Value] | None = None) -> Configuration:
        """Return the first run of a trial, by default of the trial with the space's default values."""
        order, seed = self.runs(cell)[0]
        return self.configuration(cell, cell.space.defaults() if values is None else values, order, seed)

    def configuration(self, cell: Cell, values: Mapping[str, Value], order: str, seed: int) -> Configuration:
        """Return one run of a trial, as the trainer takes it.

        Where class orders are searched, the order in `values` replaces `order`.
        """
        hp: Values = {}
        recipe: dict[str, Any] = {}
        net: str | None = None
        if cell.seeks:
            order = order_of(values, cell.sizes)
        for name, value in values.items():
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
                    raise ValueError(f"{name!r} is not a parameter of a run")
        plain = Configuration(
            method=cell.method,
            data=self._images,
            scenario=cell.scenario,
            hp=hp,
            recipe=recipe,
            net=net,
            class_order=order,
            seed=seed,
            validation=self.study.protocol.held_out,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            init=cell.init,
        )
        return searched(plain, self.study.protocol, self.proposer(cell))

    def proposer(self, cell: Cell) -> dict[str, Any] | None:
        """Return what proposes values at every task, as plain values; None where nothing is adapted."""
        if not cell.adapted.searched:
            return None
        return {"seed": self.study.search.seed, "parameters": to_plain(cell.adapted)}

    def confirmation_orders(self, cell: Cell) -> list[str]:
        """Return the class orders of a confirmation, which neither the search nor an evaluation trains.

        `orders` gives the scenario's own and seed:1 to seed:1000 at most; here seed:2001 is the first.
        """
        count = cell.confirm.orders if cell.confirm else 0
        fresh = (f"seed:{2 * MOST_REPEATS + k}" for k in range(1, count + 2))
        return [order for order in fresh if order != cell.scenario.class_order][:count]

    def confirmation_specs(self, cell: Cell, trial: int, values: Mapping[str, Value]) -> list[RunSpec]:
        """Return every run that confirms a trial, one for each fresh class order."""
        orders = self.confirmation_orders(cell)
        return [self.run_for(CONFIRM, cell, trial, values, order, 0) for order in orders]

    def run_for(
        self,
        purpose: str,
        cell: Cell,
        trial: int,
        values: Mapping[str, Value],
        order: str,
        seed: int,
        *,
        fixed: bool = False,
    ) -> RunSpec:
        """Return the run of a trial for another `purpose` than the search: confirm, final or reference.

        With `fixed`, the values stay as they are, also where the search adapts them at every task.
        """
        configuration, identity = self.configuration(cell, values, order, seed), dict(values)
        if fixed and cell.adapted.searched:
            configuration, identity = replace(configuration, adaptive=None), {**identity, "adaptive": False}
        if purpose != CONFIRM:
            configuration = evaluated(configuration, purpose, self.study.judging_data)
        name = f"{cell.name}/{trial}/{purpose}/{short_order(order)}/s{seed}"
        return self._run_spec(name, purpose, cell, trial, identity, configuration)

    def run_specs(self, cell: Cell, trial: int, values: Mapping[str, Value]) -> list[RunSpec]:
        """Return every run of a trial, in the order in which they are trained."""
        first = f"{cell.name}/{trial}"
        identity = as_order(values, cell.sizes)
        return [
            self._run_spec(
                first if index == 0 else f"{first}/{short_order(order)}/s{seed}",
                "search",
                cell,
                trial,
                identity,
                self.configuration(cell, values, order, seed),
            )
            for index, (order, seed) in enumerate(self.runs(cell, trial))
        ]

    def _run_spec(
        self,
        run: str,
        purpose: str,
        cell: Cell,
        trial: int,
        identity: Mapping[str, Any],
        configuration: Configuration,
    ) -> RunSpec:
        return RunSpec(
            run=run,
            cell=cell.name,
            label=cell.label,
            trial=trial,
            purpose=purpose,
            trial_digest=trial_digest(identity),
            configuration=configuration,
            objectives=tuple(self.objectives),
            split="test" if purpose == "final" else self.study.protocol.split,
        )

    def most_runs(self, cell: Cell) -> int:
        """Return the number of runs of a cell's trials and of their confirmation, at most."""
        return cell.budget * len(self.runs(cell)) + cell.confirmation_runs

    def table(self) -> list[dict[str, str]]:
        """Return a row for each cell for a dry run: cell, tasks, trials, runs, searched space."""
        return [
            {
                "cell": cell.name,
                "tasks": "+".join(map(str, cell.sizes)),
                "budget": f"{cell.budget}"
                + (f" ({cell.note})" if cell.note else "")
                + (f", {cell.reused} reused beside each" if cell.reused else ""),
                "runs": f"{self.most_runs(cell)}",
                "space": cell.searched,
            }
            for cell in self.cells
        ]


def short_order(order: str) -> str:
    """Return a class order as a part of a run's name."""
    plain = order if order.startswith("seed:") else Path(shortened(order)).stem
    name = re.sub(r"[^A-Za-z0-9._:-]+", "-", plain).strip("-.") or "order"
    # In file names the colon of seed:1 becomes a dash, so a file seed-1.txt needs a name of its own.
    return f"file-{name}" if re.fullmatch(r"seed[-:]\d+", name) and name != order else name

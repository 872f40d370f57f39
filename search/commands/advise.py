"""`advise`: the trials that are best under constraints, what each constraint costs, and how to train them.

Each cell gives its best trial under the constraints, as `export --at` picks it. The trials of a scenario are
compared by draws from one posterior over class orders (`analysis.selection.best_of_cells`). Joint training is
left out, since it stores every image.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import Results, open_results
from analysis.lake.amounts import clock, plural, size
from analysis.selection.best_of_cells import TrialKey, draws_of_worth
from analysis.selection.in_words import searched_values, with_sign
from analysis.selection.posterior import Floats
from analysis.selection.selection import Cell, cells
from cl_core.errors import BadRequest
from cl_core.records import CONFIRM
from search.commands.conditions import STORED_IMAGES, Condition, Fit, best_under, conditions, trial_values
from search.commands.none_completed import none_completed

COSTS = ("kept_bytes", STORED_IMAGES, "parameters", "seconds")
LEFT_OUT = ("joint",)


@dataclass(frozen=True)
class Constraints:
    """The options of the verb; None where an option is not given."""

    max_bytes: str | None = None
    no_stored_images: bool = False
    max_parameters: str | None = None
    max_seconds: str | None = None
    min_tasks: int | None = None

    def bounds(self) -> dict[str, Condition]:
        """Return option as typed -> condition, without that on tasks. Raises BadRequest."""
        given = {
            "--max-bytes": ("kept_bytes", self.max_bytes),
            "--no-stored-images": (STORED_IMAGES, "0" if self.no_stored_images else None),
            "--max-parameters": ("parameters", self.max_parameters),
            "--max-seconds": ("seconds", self.max_seconds),
        }
        out = {}
        for option, (name, limit) in given.items():
            if limit is not None:
                said = option if name == STORED_IMAGES else f"{option} {limit}"
                (out[said],) = conditions([f"{name}<={limit}".replace(",", ";")], option)
        return out


@dataclass(frozen=True)
class Advised:
    """A trial. Differences are those of the first objective from the first trial of its scenario."""

    cell: str
    trial: int
    values: str  # that its search chose
    why: str
    measured: float  # mean of the first objective over its confirming runs, else over those of the search
    runs: int  # behind `measured`
    confirmed: bool
    difference: float
    low: float  # of the 95 % interval
    high: float
    p_best: float  # probability of being the best of its scenario under the constraints
    costs: Mapping[str, float | None]
    command: str


@dataclass(frozen=True)
class Price:
    """Price of a constraint: the best trial without it, but with all others, less the best one with it."""

    constraint: str
    cell: str
    trial: int
    difference: float
    low: float
    high: float
    excludes: int  # completed trials of the scenario


@dataclass(frozen=True)
class Scenario:
    """The advice on one scenario."""

    scenario: str
    tasks: int
    trials: int  # completed
    advised: tuple[Advised, ...]  # the most probable first
    prices: tuple[Price, ...]
    lacking: tuple[str, ...]  # cells without a trial that fits


@dataclass(frozen=True)
class Advice:
    """The advice on a run folder."""

    folder: str
    objective: str
    direction: str
    scenarios: tuple[Scenario, ...]
    left_out: tuple[str, ...]  # scenarios with too few tasks
    lacking: tuple[str, ...]  # scenarios without a trial that fits

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def advise(folder: Path, wanted: Constraints) -> Advice:
    """Return the best trials of each scenario under constraints.

    Raises BadRequest where the folder has no study or no completed trial, and where no trial meets all
    constraints.
    """
    results = open_results(folder)
    if not results.study.plain:
        raise BadRequest(f"{folder} holds a single run and no study: advise takes the folder of a `run`")
    bounds = wanted.bounds()
    every = [cell for cell in cells(results) if len(cell.ranking) and cell.method not in LEFT_OUT]
    if not every:
        raise none_completed(results, "there is nothing to advise")
    long_enough = [cell for cell in every if int(cell.row["tasks"]) >= (wanted.min_tasks or 1)]
    tables = {cell.name: trial_values(results, cell, COSTS) for cell in every}
    found = []
    for scenario in dict.fromkeys(cell.scenario for cell in long_enough):
        here = [cell for cell in long_enough if cell.scenario == scenario]
        if (one := _scenario(results, here, bounds, tables, scenario)) is not None:
            found.append(one)
    if not found:
        raise BadRequest(_impossible(every, long_enough, tables, bounds, wanted))
    left_out = dict.fromkeys(cell.scenario for cell in every if cell not in long_enough)
    name, direction = results.study.objective
    shown = {one.scenario for one in found}
    lacking = dict.fromkeys(cell.scenario for cell in long_enough if cell.scenario not in shown)
    return Advice(results.place, name, direction, tuple(found), tuple(left_out), tuple(lacking))


def _scenario(
    results: Results,
    here: Sequence[Cell],
    bounds: Mapping[str, Condition],
    tables: Mapping[str, pd.DataFrame],
    scenario: str,
) -> Scenario | None:
    """Return the advice on a scenario; None where no trial of it fits."""

    def fits(without: str = "") -> list[Fit]:
        kept = [bound for said, bound in bounds.items() if said != without]
        picked = [best_under(results, cell, kept) for cell in here]
        return [one for one in picked if isinstance(one, Fit)]

    chosen = fits()
    if not chosen:
        return None
    dropped = {said: fits(said) for said in bounds}
    asked = list(dict.fromkeys(_key(fit) for some in (chosen, *dropped.values()) for fit in some))
    worth = draws_of_worth(results, [cell.name for cell in here], asked)
    at = {key: index for index, key in enumerate(asked)}
    places = [at[_key(fit)] for fit in chosen]
    wins = np.bincount(worth[:, places].argmax(axis=1), minlength=len(places)) / len(worth)
    means = worth.mean(axis=0)
    order = sorted(range(len(chosen)), key=lambda k: (-wins[k], -means[places[k]]))
    best = worth[:, places[order[0]]]
    sign = 1.0 if results.study.objective[1] == "max" else -1.0
    advised = [
        _advised(results, chosen[k], tables, sign * (worth[:, places[k]] - best), float(wins[k]), bounds)
        for k in order
    ]
    rows = pd.concat([tables[cell.name] for cell in here])
    prices = []
    for said, some in dropped.items():
        top = max(some, key=lambda fit: means[at[_key(fit)]])
        if means[at[_key(top)]] < means[places[order[0]]]:
            top = chosen[order[0]]
        excludes = int((rows[bounds[said].name].map(bounds[said].miss) > 0).sum())
        gain = sign * (worth[:, at[_key(top)]] - best)
        prices.append(Price(said, top.cell.name, _number(top), *_interval(gain), excludes))
    lacking = [cell.name for cell in here if cell.name not in {fit.cell.name for fit in chosen}]
    tasks = int(here[0].row["tasks"])
    return Scenario(scenario, tasks, len(rows), tuple(advised), tuple(prices), tuple(lacking))


def _advised(
    results: Results,
    fit: Fit,
    tables: Mapping[str, pd.DataFrame],
    difference: Floats,
    p_best: float,
    bounds: Mapping[str, Condition],
) -> Advised:
    cell, digest = fit.cell, _key(fit)[1]
    row = tables[cell.name].drop_duplicates("digest").set_index("digest").loc[digest]
    again = cell.confirming[
        (cell.confirming["status"] == "completed") & (cell.confirming["trial_digest"] == digest)
    ]
    runs = again if len(again) else cell.selected
    words = ["cl-search", "export", results.place, "--cell", cell.name]
    for bound in bounds.values():
        words += ["--at", str(bound).replace(" ", "")]
    return Advised(
        cell.name,
        _number(fit),
        searched_values(results, cell, _number(fit)),
        fit.why,
        float(runs["objective"].mean()),
        len(runs),
        bool((runs["purpose"] == CONFIRM).all()),
        *_interval(difference),
        p_best,
        {name: None if pd.isna(row[name]) else float(row[name]) for name in COSTS},
        shlex.join(words),
    )


def _impossible(
    every: Sequence[Cell],
    long_enough: Sequence[Cell],
    tables: Mapping[str, pd.DataFrame],
    bounds: Mapping[str, Condition],
    wanted: Constraints,
) -> str:
    """Return the line on constraints that no trial meets: how many each of them excludes, alone."""
    rows = pd.concat([tables[cell.name] for cell in every])
    parts = []
    for said, bound in bounds.items():
        unknown = int(rows[bound.name].isna().sum())
        note = f" ({unknown} without recorded {bound.name})" if unknown else ""
        parts.append(f"{said} excludes {int((rows[bound.name].map(bound.miss) > 0).sum())}{note}")
    if wanted.min_tasks is not None:
        short = sum(len(tables[cell.name]) for cell in every if cell not in long_enough)
        parts.append(f"--min-tasks {wanted.min_tasks} excludes {short}")
    return (
        f"no trial meets all constraints: of {len(rows)} completed trials, {', '.join(parts)}; loosen the "
        "one that excludes most, or search more trials"
    )


def _key(fit: Fit) -> TrialKey:
    return fit.cell.name, str(fit.cell.selected["trial_digest"].iloc[0])


def _number(fit: Fit) -> int:
    return int(fit.cell.selected["trial"].iloc[0])


def _interval(draws: Floats) -> tuple[float, float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(draws.mean()), float(low), float(high)


# The advice in words


def rows_of(found: Scenario) -> list[list[str]]:
    """Return the rows of the table: cell, trial, values, measured, difference, P(best), costs."""
    shown: Sequence[tuple[str, Callable[[float], str]]] = (
        ("kept_bytes", size),
        (STORED_IMAGES, lambda count: f"{count:.0f}"),
        ("parameters", lambda count: f"{count:,.0f}"),
        ("seconds", clock),
    )
    return [
        [
            one.cell,
            str(one.trial),
            f"{one.measured:.3f} ({one.runs} {'confirming' if one.confirmed else 'searching'})",
            "" if one is found.advised[0] else _said(one.difference, one.low, one.high),
            f"{one.p_best:.2f}",
            *("" if (cost := one.costs[name]) is None else said(cost) for name, said in shown),
        ]
        for one in found.advised
    ]


COLUMNS = ("cell", "trial", "measured", "difference", "P(best)", "kept", "images", "parameters", "a run")
"""The columns of `rows_of`."""


def lines_of(found: Scenario) -> list[str]:
    """Return the lines below the table: values, prices, cells that lack a trial, the command."""
    best = found.advised[0]
    out = [f"{best.cell}, trial {best.trial}: {best.values or 'the published values'} ({best.why})"]
    for price in found.prices:
        excluded = f"excludes {price.excludes} of {plural(found.trials, 'trial')}"
        if (price.cell, price.trial) == (best.cell, best.trial):
            with_others = " that meets the other constraints" if len(found.prices) > 1 else ""
            none = f", and none of them{with_others} is better" if price.excludes else ""
            out.append(f"{price.constraint} costs nothing: {excluded}{none}")
        else:
            gain = _said(price.difference, price.low, price.high)
            out.append(
                f"{price.constraint}: {excluded}; without it, {price.cell}, trial {price.trial}, has {gain}"
            )
    if found.lacking:
        out.append(f"no trial that fits: {', '.join(found.lacking)}")
    out.append(f"to train it on all rows: {best.command}")
    return out


def _said(value: float, low: float, high: float) -> str:
    return f"{with_sign(value)} [{with_sign(low)}, {with_sign(high)}]"

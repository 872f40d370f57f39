"""The survey's five tables, filled from the lake: methods down, scenarios across; a gap is a dash.

Table 1 is the taxonomy; 2 compares methods, 3 methods with and without distillation, 4 distillation losses
alone, and 5 replay with each loss under a global and a separated softmax.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd

from analysis.report.answers import decimal
from analysis.report.section import Table
from analysis.statistics.intervals import mean
from analysis.statistics.sample import Sample
from analysis.survey.roles import (
    FURTHER,
    LEVELS,
    PARADIGMS,
    REFERENCE_METHODS,
    TEN,
    WEAK_CE,
    Place,
    Roles,
    Subject,
)

AVERAGE, LAST = "average_incremental_accuracy", "last_accuracy"
FEWEST_METHODS = 4  # of the ten methods; with fewer the leaderboard says the same
SOFTMAXES = {"distill": ("new_only", "all_seen"), "replay": ("global", "separated")}
"""The two softmaxes under which the losses of a method are compared, the survey's usual one first."""

TITLES = (
    "Table 1. The systems by paradigm, and what is distilled",
    "Table 2. Methods",
    "Table 3. Methods with and without distillation",
    "Table 4. Distillation losses alone",
    "Table 5. Replay with distillation losses",
)
PRESETS = ("", "survey-methods", "survey-without-distillation", "survey-losses", "survey-replay-losses")
"""The preset that fills each table."""

Record = dict[tuple[str, str], object]


@dataclass(frozen=True)
class Filled:
    """One table and the cells that it shows, none where nothing of it is measured."""

    table: Table
    subjects: Sequence[Subject]


def survey_tables(roles: Roles) -> list[Filled]:
    """Return the five tables in order. Those without cells have empty frames."""
    return [
        Filled(Table(TITLES[0], taxonomy(roles), group="paradigm", folded=True), ()),
        _methods(roles),
        _removed(roles),
        _losses(roles, "distill", 3),
        _losses(roles, "replay", 4),
    ]


def distinct(filled: Iterable[Filled]) -> list[Subject]:
    """The cells that some tables show, each once."""
    return list({s.cell.name: s for one in filled for s in one.subjects}.values())


def taxonomy(roles: Roles) -> pd.DataFrame:
    """Every system of the survey: paradigm, what is distilled, form, paper, and completed runs here."""
    text = resources.files("cl_core.methods").joinpath("cards.json").read_text(encoding="utf-8")
    cards: Mapping[str, Mapping[str, str]] = json.loads(text)
    runs = roles.results.runs
    done = runs[runs["status"] == "completed"]["method"].value_counts()
    names = [*dict.fromkeys([*PARADIGMS, *FURTHER])]
    own = [n for n, card in cards.items() if card["paradigm"] != "baseline" and n != "distill"]
    own.sort(key=lambda n: (_at(names, cards[n]["paradigm"]), _at(TEN, n), n))
    rows = [
        {
            "paradigm": cards[name]["paradigm"],
            "system": cards[name]["title"],
            "method": name,
            "what is distilled": cards[name]["level"],
            "form": cards[name]["kind"],
            "paper": cards[name]["paper"],
            "runs here": done.get(name),
        }
        for name in own
    ]
    return pd.DataFrame(rows).astype({"runs here": "Int64"})


def _methods(roles: Roles) -> Filled:
    """Average incremental and last accuracy of every method; those of the ten that lack have dashes."""
    own = [s for s in roles.subjects if s.method not in (*REFERENCE_METHODS, "distill") and s.distilled]
    known = {s.method for s in own}
    if len(known & set(TEN)) < FEWEST_METHODS:
        return _empty(1)
    names = [*dict.fromkeys([*PARADIGMS, *FURTHER]), "other"]
    own.sort(key=lambda s: (names.index(s.paradigm), _at(TEN, s.method)))
    rows = {s.row: s.paradigm for s in own} | {m: _paradigm(m) for m in TEN if m not in known}
    rows = dict(sorted(rows.items(), key=lambda item: names.index(item[1])))
    places = _places(roles, own)
    at = {(s.row, s.place): s for s in own}
    for name in REFERENCE_METHODS:
        for where in places:
            reference = roles.find(where, ("reference", name))
            if reference is not None:
                rows.setdefault(name, "reference")
                at.setdefault((name, where), reference)
    titles = short(places)
    records: list[Record] = []
    for row, paradigm in rows.items():
        record: Record = {("", "label"): row, ("", "paradigm"): paradigm}
        for where in places:
            here = at.get((row, where))
            for metric, name in ((AVERAGE, "average incremental"), (LAST, "last")):
                record |= _value(titles[where], name, roles.sample(here, metric) if here else None)
        records.append(record)
    lost = _lost(own, titles)
    text = f"Without a completed run, see Failures: {', '.join(lost)}." if lost else ""
    return Filled(Table(TITLES[1], _frame(records), text, group="paradigm"), list(at.values()))


def _lost(own: Sequence[Subject], titles: Mapping[Place, str]) -> list[str]:
    """Name the methods whose runs have failed; with its scenarios, one that has completed runs in others."""
    where: dict[str, list[str]] = {}
    for s in own:
        if not len(s.runs) and s.cell.count("failed"):
            where.setdefault(s.row, []).append(titles[s.place])
    completed = {s.row for s in own if len(s.runs)}
    return [f"{row} ({', '.join(names)})" if row in completed else row for row, names in where.items()]


def _removed(roles: Roles) -> Filled:
    """Average incremental accuracy with distillation, without it, and their paired difference."""
    found: dict[str, dict[Place, tuple[Subject, Subject]]] = {}
    method: dict[str, str] = {}
    for where in roles.places:
        for key in roles.keys(where, "without"):
            without, having = roles.find(where, key), roles.find(where, ("with", *key[1:]))
            if without is not None and having is not None:
                found.setdefault(without.row, {})[where] = (having, without)
                method[without.row] = without.method
    if not found:
        return _empty(2)
    places = [where for where in roles.places if any(where in pairs for pairs in found.values())]
    titles = short(places)
    order = sorted(found, key=lambda row: (_at(TEN, method[row]), method[row], row))
    records: list[Record] = []
    for row in order:
        record: Record = {("", "method"): method[row], ("", "without"): row}
        for where in places:
            pair = found[row].get(where)
            record |= _pair(roles, titles[where], ("with", "without"), pair or (None, None))
        records.append(record)
    subjects = [s for pairs in found.values() for pair in pairs.values() for s in pair]
    return Filled(Table(TITLES[2], _frame(records), group="method"), subjects)


def _losses(roles: Roles, method: str, number: int) -> Filled:
    """Average incremental accuracy of every loss under two softmaxes, and their paired difference."""
    scopes = SOFTMAXES[method]
    mine = [s for s in roles.subjects if s.method == method and s.scope in scopes and len(s.runs)]
    mine.sort(key=lambda s: s.variant)
    at: dict[tuple[str, Place, str], Subject] = {}
    for s in mine:
        # Old rows of the head train under a softmax over all classes only; other variants stand aside.
        if not s.variant or s.scope == "all_seen":
            at.setdefault((s.loss, s.place, s.scope), s)
    losses = {where: {loss for loss, place, _ in at if place == where} for where in roles.places}
    places = [where for where in roles.places if len(losses[where]) > 1]
    rows = sorted({loss for where in places for loss in losses[where]}, key=lambda x: _at(_ordered(), x))
    if not places:
        return _empty(number)
    titles, words = short(places), [f"{scope.replace('_', ' ')} softmax" for scope in scopes]
    records: list[Record] = []
    for loss in rows:
        level = next(s.level for (name, _, _), s in at.items() if name == loss)
        record: Record = {("", "loss"): loss, ("", "level"): level}
        for where in places:
            first, second = (at.get((loss, where, scope)) for scope in scopes)
            record |= _pair(roles, titles[where], words, (first, second), turn=-1)
        records.append(record)
    text = f"{_gains(roles, at, places, scopes)} {' '.join(_bounds(roles, places, titles))}"
    shown = [s for (_, where, _), s in at.items() if where in places]
    return Filled(Table(TITLES[number], _frame(records), text.strip(), group="level"), shown)


def _bounds(roles: Roles, places: Sequence[Place], titles: Mapping[Place, str]) -> Iterator[str]:
    """Fine-tuning and joint training in each place, which no softmax has."""
    for where in places:
        parts = []
        for name in ("finetune", "joint"):
            reference = roles.find(where, ("reference", name))
            value = roles.sample(reference, AVERAGE).mean.value if reference else None
            parts += [] if value is None else [f"{name} {decimal(value)}"]
        if parts:
            yield f"{titles[where]}: {', '.join(parts)}."


def _gains(
    roles: Roles,
    at: Mapping[tuple[str, Place, str], Subject],
    places: Sequence[Place],
    scopes: Sequence[str],
) -> str:
    """The sentence on the mean gain of the second softmax over the losses that have both."""
    titles, parts = short(places), []
    for where in places:
        gains = []
        for loss in _ordered():
            first, second = (at.get((loss, where, scope)) for scope in scopes)
            if first is not None and second is not None:
                gap = (roles.sample(second, AVERAGE) - roles.sample(first, AVERAGE)).mean.value
                gains += [] if gap is None else [gap]
        if gains:
            count = f"{len(gains)} {'loss' if len(gains) == 1 else 'losses'}"
            parts.append(f"{titles[where]} {decimal(float(np.mean(gains)), '+')} ({count})")
    before, after = (scope.replace("_", " ") for scope in scopes)
    return f"Mean gain of the {after} softmax over the {before} one: {', '.join(parts)}." if parts else ""


def _pair(
    roles: Roles,
    place: str,
    names: Sequence[str],
    pair: tuple[Subject | None, Subject | None],
    turn: int = 1,
) -> Record:
    """Two cells and their paired difference: the first less the second, or, with `turn` -1, the reverse."""
    samples = [roles.sample(s, AVERAGE) if s else None for s in pair]
    out: Record = {}
    for name, sample in zip(names, samples, strict=True):
        out |= _value(place, name, sample)
    a, b = samples[::turn]
    return out | _value(place, "difference", a - b if a is not None and b is not None else None)


def _value(place: str, name: str, sample: Sample | None) -> Record:
    """A mean over class orders and its half width, in two columns."""
    found = sample.mean if sample is not None else mean([])
    return {(place, name): found.value, (place, f"{name} ±"): found.half}


def _frame(records: Sequence[Record]) -> pd.DataFrame:
    """The rows with columns of two levels; columns of numbers that nothing is in are left out."""
    columns = pd.MultiIndex.from_tuples(list(records[0]))
    frame = pd.DataFrame([list(record.values()) for record in records], columns=columns)
    return frame.drop(columns=[c for c in columns if c[0] and frame[c].isna().all()])


def _empty(number: int) -> Filled:
    return Filled(Table(TITLES[number], pd.DataFrame()), ())


def _places(roles: Roles, subjects: Sequence[Subject]) -> list[Place]:
    held = {s.place for s in subjects}
    return [where for where in roles.places if where in held]


def short(places: Sequence[Place]) -> dict[Place, str]:
    """Names of places, with or without a base task, and without the data set where there is but one."""
    several = len({where.data for where in places}) > 1
    return {
        where: str(where) if several else " · ".join(filter(None, (where.scenario, where.recipe)))
        for where in places
    }


def _paradigm(method: str) -> str:
    return next(name for name, methods in PARADIGMS.items() if method in methods)


def _ordered() -> list[str]:
    """The losses in the survey's order."""
    known = [loss for group in LEVELS.values() for loss in group]
    known.insert(known.index("cross-entropy") + 1, WEAK_CE)
    return known


def _at(names: Sequence[str], name: str) -> int:
    return list(names).index(name) if name in names else len(names)

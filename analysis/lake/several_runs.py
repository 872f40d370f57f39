"""Several runs read as one: their tables below each other, names changed only where they would clash.

Runs belong together when they are of one data set under one protocol: their studies' identities (the digest
of what may not change when a run is continued) are equal. Then a label that stands in several of them, such
as a reference, is one cell, and what was run twice counts once. Any other two runs are apart: the data set's
name stands before the scenario's, so that no view compares across it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.lake.results import Results
from analysis.lake.study import labels, objective, scenarios, sought
from cl_core.errors import BadRequest
from cl_core.records import SORT


def join(parts: Sequence[Results]) -> Results:
    """Several runs as one; a run named twice counts once.

    Raises BadRequest without any, or where their studies rank configurations by different objectives.
    """
    distinct = list({part.folder.resolve(): part for part in parts}.values())
    if not distinct:
        raise BadRequest("no run's folder is named: name one or more, such as runs/quickstart")
    if len(distinct) == 1:
        return distinct[0]
    goals = [objective(part) for part in distinct]
    for part, goal in zip(distinct[1:], goals[1:], strict=True):
        if goal != goals[0]:
            raise BadRequest(
                f"runs in one report must have one objective: {distinct[0].folder} has {' '.join(goals[0])}, "
                f"{part.folder} has {' '.join(goal)}; report them apart"
            )
    return Runs(distinct)


class Runs(Results):
    """The tables of several runs; `parts` are these runs, each as it lies in its folder."""

    def __init__(self, parts: Sequence[Results]) -> None:
        super().__init__(folder=parts[0].folder)
        self.parts = list(parts)
        for part in self.parts:
            part.notices = self.notices
        self.names = _distinct_names(self.parts)
        self._datasets = self._name_datasets()
        self._renamed, self._twice = self._settle_labels()
        own = [set(part.runs["run"]) for part in self.parts]
        clash = len(set().union(*own)) < sum(map(len, own))
        self._prefixes = [f"{name}/" if clash else "" for name in self.names]

    def read(self, table: str, trials: Iterable[str] | None = None) -> pd.DataFrame:
        """As `Results.read`, over all runs."""
        wanted = None if trials is None else set(trials)
        frames = []
        for index, part in enumerate(self.parts):
            prefix, inner = self._prefixes[index], None
            if wanted is not None:
                inner = {t.removeprefix(prefix) for t in wanted if t.startswith(prefix)}
                if not inner:
                    continue
            frame = part.read(table, inner)
            twice = self._twice[index]
            frame = frame[~frame["run"].isin(twice)] if twice else frame
            frames.append(self._translated(index, frame))
        if not frames:
            return self._translated(0, self.parts[0].read(table, []))
        filled = [frame for frame in frames if len(frame)] or frames[:1]
        columns = list(dict.fromkeys(name for frame in frames for name in frame.columns))
        merged = pd.concat(filled, ignore_index=True).reindex(columns=columns)
        return merged.sort_values(list(SORT[table]), kind="stable", ignore_index=True)

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """As `Results.places`."""
        return {
            self._scenario(index, name): (self._datasets[index], name)
            for index, part in enumerate(self.parts)
            for name in scenarios(part)
        }

    @cached_property
    def weights(self) -> dict[str, str]:
        """As `Results.weights`."""
        return {
            self._cell(index, cell): file
            for index, part in enumerate(self.parts)
            for cell, file in part.weights.items()
        }

    @cached_property
    def study(self) -> dict[str, Any]:
        """What the views need of the runs' studies, taken together."""
        resolved = [part.study.get("resolved") for part in self.parts]
        known = [r for r in resolved if isinstance(r, Mapping)]
        first = self.parts[0].study
        return {
            "study": " + ".join(self.names),
            "data": {"name": ", ".join(dict.fromkeys(self._datasets))},
            "scenarios": self._scenarios(),
            "methods": list(
                dict.fromkeys(
                    name
                    for index, part in enumerate(self.parts)
                    for label in labels(part)
                    for name in dict.fromkeys(self._label(index, s, label) for s in scenarios(part))
                )
            ),
            **{key: first[key] for key in ("search", "protocol") if key in first},
            "resolved": {
                "identity": ", ".join(dict.fromkeys(str(r["identity"]) for r in known if r.get("identity"))),
                "versions": known[0].get("versions", {}) if known else {},
                "warnings": list(dict.fromkeys(str(text) for r in known for text in r.get("warnings") or ())),
                **self._cells(),
            },
        }

    def _cells(self) -> dict[str, list[Any]]:
        """What the studies say of their cells, by the names that these have here; nothing where none does."""
        out: list[Any] = []
        for index, part in enumerate(self.parts):
            resolved = part.study.get("resolved")
            listed = resolved.get("cells") if isinstance(resolved, Mapping) else None
            for cell in listed if isinstance(listed, list) else ():
                if isinstance(cell, Mapping) and "@" in str(cell.get("name")):
                    cell = {**cell, "name": self._cell(index, str(cell["name"]))}
                out.append(cell)
        return {"cells": out} if out else {}

    def _cell(self, index: int, name: str) -> str:
        """The name that a run's cell has here."""
        label, _, scenario = name.partition("@")
        return f"{self._label(index, scenario, label)}@{self._scenario(index, scenario)}"

    def _scenarios(self) -> list[str | dict[str, str]]:
        """The scenarios by name; those in which class orders are searched say so."""
        found = {
            self._scenario(index, name): seeks
            for index, part in enumerate(self.parts)
            for name, seeks in sought(part).items()
        }
        return [{"name": n, "class_order": found[n]} if n in found else n for n in self.places]

    def _translated(self, index: int, frame: pd.DataFrame) -> pd.DataFrame:
        """A run's rows with the names that they have here."""
        cells = frame[["cell", "label"]].drop_duplicates()
        names = {}
        for cell, label in zip(cells["cell"], cells["label"], strict=True):
            scenario = str(cell).removeprefix(f"{label}@")
            new = self._label(index, scenario, str(label))
            names[str(cell)] = (new, self._scenario(index, scenario))
        changed = {
            "label": [names[cell][0] for cell in frame["cell"]],
            "cell": ["@".join(names[cell]) for cell in frame["cell"]],
            "run": [self._prefixes[index] + trial for trial in frame["run"]],
        }
        if "scenario" in frame:
            changed["scenario"] = [self._scenario(index, name) for name in frame["scenario"]]
        if "dataset" in frame:
            changed["dataset"] = [self._datasets[index]] * len(frame)
        return frame.assign(**changed)

    def _scenario(self, index: int, name: str) -> str:
        several = len(set(self._datasets)) > 1
        return f"{self._datasets[index]} · {name}" if several else name

    def _label(self, index: int, scenario: str, label: str) -> str:
        return self._renamed[index].get((scenario, label), label)

    def _name_datasets(self) -> list[str]:
        """The name of each run's data set, equal for runs that belong together and for no others."""
        groups = [_identity(part) for part in self.parts]
        names = [", ".join(map(str, dict.fromkeys(p.runs["dataset"]))) or "no data" for p in self.parts]
        first = {group: groups.index(group) for group in groups}
        alike = {names[i] for i in first.values() if sum(names[j] == names[i] for j in first.values()) > 1}
        return [
            f"{names[first[g]]} ({self.names[first[g]]})" if names[first[g]] in alike else names[first[g]]
            for g in groups
        ]

    def _settle_labels(self) -> tuple[list[dict[tuple[str, str], str]], list[set[str]]]:
        """Per run: labels to rename, as (scenario, label) -> label; and the trials that an earlier run has.

        A label of two runs that belong together is one where both hold the same configurations. Else the
        later one gets its run's name.
        """
        renamed: list[dict[tuple[str, str], str]] = [{} for _ in self.parts]
        twice: list[set[str]] = [set() for _ in self.parts]
        seen: dict[tuple[str, str, str], tuple[set[Any], set[Any]]] = {}
        for index, part in enumerate(self.parts):
            for (scenario, label), rows in part.runs.groupby(["scenario", "label"], sort=False):
                search = rows[rows["purpose"] == "search"]
                configs = set(zip(search["method"], search["trial_digest"], strict=True))
                names = ("trial_digest", "class_order", "seed", "purpose")
                runs = list(zip(*(rows[name] for name in names), strict=True))
                key = (self._datasets[index], str(scenario), str(label))
                if key not in seen:
                    seen[key] = (configs, set(runs))
                elif seen[key][0] == configs:
                    before = seen[key][1]
                    twice[index] |= {t for t, run in zip(rows["run"], runs, strict=True) if run in before}
                    before.update(runs)
                else:
                    renamed[index][(str(scenario), str(label))] = f"{label} ({self.names[index]})"
        return renamed, twice


def _identity(part: Results) -> str:
    resolved = part.study.get("resolved")
    found = resolved.get("identity") if isinstance(resolved, Mapping) else None
    return str(found or part.folder.resolve())


def _distinct_names(parts: Sequence[Results]) -> list[str]:
    """Each folder's name, with as many of its parents as it takes to tell them apart."""
    paths = [part.folder.resolve() for part in parts]
    depth = 1
    while True:
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) or depth > max(len(path.parts) for path in paths):
            return names
        depth += 1

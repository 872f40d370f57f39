"""Several runs read as one: their tables below each other, names changed only where they would clash.

Runs belong together when they are of one data set under one protocol: their studies' identities (the digest
of what may not change when a run is continued) are equal. Then a label that stands in several of them, such
as a reference, is one cell, and what was run twice counts once. Any other two runs are apart: the data set's
name stands before the scenario's, so that no view compares across it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from analysis.lake.relation import literal, quoted
from analysis.lake.results import Results
from analysis.lake.study import Resolution, StudyRecord
from analysis.lake.tables import among, below
from cl_core.errors import BadRequest


def join(parts: Sequence[Results]) -> Results:
    """Several runs as one; a run named twice counts once.

    Raises BadRequest without any, or where their studies rank trials by different objectives.
    """
    distinct = list({part.folder.resolve(): part for part in parts}.values())
    if not distinct:
        raise BadRequest("no run's folder is named: name one or more, such as runs/quickstart")
    if len(distinct) == 1:
        return distinct[0]
    goals = [part.study.objective for part in distinct]
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

    def scan(
        self, connection: duckdb.DuckDBPyConnection, table: str, runs: Iterable[str] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """As `Results.scan`, over all runs."""
        wanted = None if runs is None else set(runs)
        found: list[duckdb.DuckDBPyRelation] = []
        for index, part in enumerate(self.parts):
            prefix, inner = self._prefixes[index], None
            if wanted is not None:
                inner = {run.removeprefix(prefix) for run in wanted if run.startswith(prefix)}
                if not inner and (found or index + 1 < len(self.parts)):
                    continue
            rows = part.scan(connection, table, inner)
            if self._twice[index]:
                rows = rows.filter(f"not {among(sorted(self._twice[index]))}")
            found.append(self._translated(connection, index, rows))
        return below(found)

    def folders_of(self, table: str) -> list[Path]:
        """As `Results.folders_of`, of all runs."""
        return [folder for part in self.parts for folder in part.folders_of(table)]

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """As `Results.places`."""
        return {
            self._scenario(index, name): (self._datasets[index], name)
            for index, part in enumerate(self.parts)
            for name in part.scenarios
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
    def study(self) -> StudyRecord:
        """The facts that views need of the runs' studies, taken together."""
        first = self.parts[0].study
        known = [part.study.resolved for part in self.parts]
        each = list(enumerate(self.parts))
        return replace(
            first,
            name=" + ".join(self.names),
            data={"name": ", ".join(dict.fromkeys(self._datasets))},
            scenarios=tuple(self.places),
            seeks={
                self._scenario(index, name): seeks
                for index, part in each
                for name, seeks in part.study.seeks.items()
            },
            labels=tuple(
                dict.fromkeys(
                    self._label(index, scenario, label)
                    for index, part in each
                    for label in part.labels
                    for scenario in part.scenarios
                )
            ),
            gpu=None,
            plain={key: first.plain[key] for key in ("search", "protocol") if key in first.plain},
            resolved=Resolution(
                identity=", ".join(dict.fromkeys(one.identity for one in known if one.identity)),
                versions=next((one.versions for one in known if one.versions), {}),
                warnings=tuple(dict.fromkeys(text for one in known for text in one.warnings)),
                cells=tuple(
                    replace(cell, name=self._cell(index, cell.name))
                    for index, part in each
                    for cell in part.study.resolved.cells
                ),
            ),
        )

    def _cell(self, index: int, name: str) -> str:
        """A cell's name here."""
        label, at, scenario = name.partition("@")
        return f"{self._label(index, scenario, label)}@{self._scenario(index, scenario)}" if at else name

    def _translated(
        self, connection: duckdb.DuckDBPyConnection, index: int, rows: duckdb.DuckDBPyRelation
    ) -> duckdb.DuckDBPyRelation:
        """A run's rows with the names that they have here."""
        known = self.parts[index].runs[["cell", "label"]].drop_duplicates()
        names = []
        for cell, label in known.itertuples(index=False):
            scenario = str(cell).removeprefix(f"{label}@")
            new = (self._label(index, scenario, str(label)), self._scenario(index, scenario))
            names.append((str(cell), *new, "@".join(new)))
        changed = {
            "label": _renamed("cell", "label", {cell: label for cell, label, _, _ in names}),
            "cell": _renamed("cell", "cell", {cell: whole for cell, _, _, whole in names}),
            "run": f"{literal(self._prefixes[index])} || run as run",
            "scenario": _renamed(
                "scenario", "scenario", {n: self._scenario(index, n) for n in self.parts[index].scenarios}
            ),
            "dataset": f"{literal(self._datasets[index])} as dataset",
        }
        return rows.project(", ".join(changed.get(name, quoted(name)) for name in rows.columns))

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
        """Per run: labels to rename, as (scenario, label) -> label; and the runs that an earlier part has.

        A label of two runs that belong together is one where both hold the same trials. Else the
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


def _renamed(by: str, column: str, names: Mapping[str, str]) -> str:
    """A column with the name that each value of the column `by` stands for, where it has one."""
    cases = "".join(f" when {literal(old)} then {literal(new)}" for old, new in names.items())
    return f"case {by}{cases} else {column} end as {column}" if cases else column


def _identity(part: Results) -> str:
    return part.study.resolved.identity or str(part.folder.resolve())


def _distinct_names(parts: Sequence[Results]) -> list[str]:
    """Each folder's name, with as many of its parents as it takes to tell them apart."""
    paths = [part.folder.resolve() for part in parts]
    depth = 1
    while True:
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) or depth > max(len(path.parts) for path in paths):
            return names
        depth += 1

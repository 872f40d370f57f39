"""The role of each cell in the survey: its method or loss, with or without distillation, and its place.

A cell is recognised by its method and its hyperparameters, never by its label; only the recipe column is a
label's ending, `-common` or `-paper`. The runs of a cell are those of its best trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.selection.luck_of_selection import luck_of_selection
from analysis.selection.reference import other_recipe
from analysis.selection.selection import Cell, cells, split_of, split_selected_on
from analysis.statistics.counting_error import Counted, counted, errors, share
from analysis.statistics.sample import Sample
from cl_core.metrics import METRICS, accuracy_matrix, recency_bias, recency_ratio, task_counts

PARADIGMS: dict[str, tuple[str, ...]] = {
    "regularisation": ("lwf", "lwm"),
    "data replay": ("icarl", "eeil", "bic", "lucir", "ss_il"),
    "feature replay": ("il2a", "pass", "praka"),
}
"""The survey's ten methods by paradigm."""

FURTHER: dict[str, tuple[str, ...]] = {
    "data replay": ("gcr", "mnemonics"),
    "feature replay": ("gfr",),
    "generated data": ("abd", "r_dfcil", "looking_back", "mergan", "ocfma"),
    "architecture": ("foster", "rps_net", "dytox"),
}
"""Other methods of the survey by paradigm. The survey's claims are about the ten."""

TEN = tuple(method for methods in PARADIGMS.values() for method in methods)
REGULARISATION, DATA, FEATURE = (
    PARADIGMS["regularisation"],
    PARADIGMS["data replay"],
    PARADIGMS["feature replay"],
)

LEVELS: dict[str, tuple[str, ...]] = {
    "none": ("none",),
    "logits": ("cross-entropy", "kl", "logit-l2", "logit-l1"),
    "features": (
        *("feature-l2", "feature-cosine", "pod", "attention"),
        *("relation-distance", "relation-angle", "relation-prototype"),
    ),
}
"""The distillation losses of the methods `distill` and `replay` by level."""

REFERENCE_METHODS = ("finetune", "replay", "joint")
RECIPES = ("common", "paper")
WEAK_CE = "cross-entropy without T²"  # a quarter of the weight at T = 2: never the loss that a claim means

Key = tuple[str, ...]
"""A role: ("method", name), ("without", name, form), ("with", name, form), ("loss", loss, softmax scope),
("replay", loss, softmax) or ("reference", name).

A form is the number of a way to take distillation away, "0" the study's first; ("with", ...) is the method
that differs from that form in as few other hyperparameters as any.
"""


@dataclass(frozen=True)
class Place:
    """The place of a cell: a group of columns of the survey's tables."""

    data: str
    scenario: str
    recipe: str  # common, paper or nothing
    base: bool | None = field(compare=False)  # whether the first task is larger; None with one task

    def __str__(self) -> str:
        return " · ".join(part for part in (self.data, self.scenario, self.recipe) if part)


@dataclass(frozen=True)
class Subject:
    """A cell in its place; `row` is its label without the recipe's ending."""

    cell: Cell
    place: Place
    row: str
    method: str
    distilled: bool
    loss: str
    scope: str  # of the softmax: all_seen, new_only (method distill); global, separated (method replay)
    variant: bool  # of a loss: its weight or heads are not the usual ones
    runs: pd.DataFrame

    @property
    def paradigm(self) -> str:
        """Of the method; "reference", or "other" for methods that the survey does not have."""
        if self.method in REFERENCE_METHODS:
            return "reference"
        known = (*PARADIGMS.items(), *FURTHER.items())
        return next((name for name, methods in known if self.method in methods), "other")

    @property
    def level(self) -> str:
        """Of the loss."""
        return next((name for name, losses in LEVELS.items() if self.loss in losses), "logits")

    @property
    def plain_replay(self) -> bool:
        """Tell whether this is the replay that data-replay methods are measured against."""
        return self.method == "replay" and self.loss == "none" and self.scope == "global"


class Roles:
    """The cells of some runs by place and role, and their measurements by class order."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.cells = cells(results)
        self.split = split_of(results, [cell for cell in self.cells if len(cell.best)])
        self.subjects = [self._subject(cell) for cell in self.cells]
        self._measured: dict[str, dict[str, Counted]] = {}
        self._luck: dict[str, Mapping[str, float]] = {}

    def _subject(self, cell: Cell) -> Subject:
        first = cell.row
        data, scenario = self.results.places[cell.scenario]
        recipe = next((r for r in RECIPES if cell.label.endswith(f"-{r}")), "")
        sizes = self.results.sizes(str(first["run"]))
        base = None if len(sizes) < 2 else sizes[0] > max(sizes[1:])
        loss, scope, variant = "none", "", False
        if cell.method in ("distill", "replay"):
            loss = _hp(first, "loss", "none")
            if loss == "cross-entropy" and _hp(first, "t_squared", "True") == "False":
                loss = WEAK_CE
            name, usual = ("ce_scope", "new_only") if cell.method == "distill" else ("softmax", "global")
            scope = _hp(first, name, usual)
            variant = _hp(first, "train_old_head", "False") == "True"
            variant |= loss != "none" and float(_hp(first, "kd_weight", "1")) != 1.0
        return Subject(
            cell=cell,
            place=Place(data, scenario, recipe, base),
            row=cell.label.removesuffix(f"-{recipe}") if recipe else cell.label,
            method=cell.method,
            distilled=_hp(first, "distill", "True") != "False",
            loss=loss,
            scope=scope,
            variant=variant,
            runs=cell.best,
        )

    @cached_property
    def places(self) -> list[Place]:
        """Every place by data set, scenario and recipe, in the study's order."""
        found = dict.fromkeys(subject.place for subject in self.subjects)
        order = {s: i for i, s in enumerate(dict.fromkeys(p.scenario for p in found))}
        data = {d: i for i, d in enumerate(dict.fromkeys(p.data for p in found))}
        return sorted(found, key=lambda p: (data[p.data], order[p.scenario], (*RECIPES, "").index(p.recipe)))

    @cached_property
    def _roles(self) -> dict[tuple[Place, Key], Subject]:
        out: dict[tuple[Place, Key], Subject] = {}
        for place in self.places:
            here = [s for s in self.subjects if s.place == place and len(s.runs)]
            # What deviates from a loss's usual weight or heads is named only where nothing else is.
            for subject in sorted((s for s in here if s.distilled), key=lambda s: s.variant):
                out.setdefault((place, self._key(subject)), subject)
            for method in {s.method for s in here}:
                mine = [s for s in here if s.method == method]
                having = [s for s in mine if s.distilled]
                for form, without in enumerate(s for s in mine if not s.distilled):
                    out[place, ("without", method, str(form))] = without
                    if having:
                        out[place, ("with", method, str(form))] = min(
                            having, key=lambda s: _apart(s, without)
                        )
        return out

    def _key(self, subject: Subject) -> Key:
        if subject.method == "distill":
            return ("loss", subject.loss, subject.scope)
        if subject.method == "replay":
            return ("replay", subject.loss, subject.scope)
        return ("method", subject.method)

    def find(self, place: Place, key: Key) -> Subject | None:
        """Return the subject that has a role in a place, or None."""
        return self._reference(place, key[1]) if key[0] == "reference" else self._roles.get((place, key))

    def _reference(self, place: Place, method: str) -> Subject | None:
        """The reference of a place: with the recipe of one of its methods at least.

        One without a recipe column comes after those of the column.
        """
        columns = dict.fromkeys((place, replace(place, recipe="")))
        own = [s for where in columns for s in self.subjects if s.place == where and s.method == method]
        own = [s for s in own if len(s.runs) and s.distilled and (method != "replay" or s.plain_replay)]
        of = self.measured_in(place)
        return next((s for s in own if not of or any(self.same_recipe(s, one) for one in of)), None)

    def measured_in(self, place: Place) -> list[Subject]:
        """The cells of a place that references are for."""
        return [
            s for s in self.subjects if s.place == place and s.method not in REFERENCE_METHODS and len(s.runs)
        ]

    def same_recipe(self, one: Subject, other: Subject) -> bool:
        """As `reference.other_recipe`."""
        return not other_recipe(self.results, one.cell, other.cell)

    def keys(self, place: Place, kind: str) -> list[Key]:
        """The roles of a kind that are taken in a place."""
        return [key for where, key in self._roles if where == place and key[0] == kind]

    def sample(self, subject: Subject, metric: str) -> Sample:
        """A metric by class order, without the luck of the selection; orders without it are left out."""
        found = Sample.of(
            (str(order), self.measured(str(run)).get(metric, Counted(None)))
            for run, order in zip(subject.runs["run"], subject.runs["class_order"], strict=True)
        )
        return found.less(self.luck(subject).get(metric, 0.0))

    def luck(self, subject: Subject) -> Mapping[str, float]:
        """The luck that was taken out of each metric; empty where nothing was searched."""
        name = subject.cell.name
        if name not in self._luck:
            chosen = self.split == split_selected_on(self.results)
            self._luck[name] = luck_of_selection(self.results, subject.cell, list(METRICS)) if chosen else {}
        return self._luck[name]

    def measured(self, run: str) -> Mapping[str, Counted]:
        """Every metric of a run, by name."""
        if run not in self._measured:
            self._measured[run] = self._measure(run)
        return self._measured[run]

    def _measure(self, run: str) -> dict[str, Counted]:
        counts = self.results.confusions(run, self.split)
        if not counts:
            return {}
        sizes = self.results.sizes(run)
        out = counted(counts, sizes)
        if len(counts) > 1:
            tasks = task_counts(counts[-1], sizes)
            rows, new = float(tasks.sum()), float(tasks[-1].sum())
            named = recency_bias(counts[-1], sizes)
            error = share(named, rows)
            out["recency_ratio"] = Counted(
                recency_ratio(counts[-1], sizes), error * rows / new if new else 0.0
            )
            out["excess_of_new"] = Counted(named - new / rows, error)
            right = np.diag(accuracy_matrix(counts, sizes))[1:].mean()
            out["plasticity"] = Counted(float(right), errors(counts, sizes)["plasticity"])
        out["seconds"] = Counted(self._seconds.get(run))
        if run in self._kept.index:
            out["kept_bytes"] = Counted(float(self._kept[run]))
            out["kept_bytes_a_class"] = Counted(float(self._kept[run]) / len(counts[-1]))
        if run in self._agreement:
            out["teacher_agreement"] = self._agreed(run, self._agreement[run])
        return out

    def _agreed(self, run: str, by_task: pd.Series) -> Counted:
        """The mean over tasks of the share of older validation rows that network and teacher answer alike."""
        rows = [float(np.sum(counts)) for counts in self.results.confusions(run, "val")]
        tasks = zip(by_task.index.astype(int), by_task.astype(float), strict=True)
        known = [(value, rows[task - 1]) for task, value in tasks if 0 < task <= len(rows)]
        error = np.mean([share(value, asked) for value, asked in known]) if known else 0.0
        return Counted(float(by_task.mean()), float(error))

    @cached_property
    def _seconds(self) -> dict[str, float]:
        known = self.results.runs.dropna(subset=["seconds"])
        return dict(zip(known["run"].astype(str), known["seconds"].astype(float), strict=True))

    @cached_property
    def _kept(self) -> pd.Series:
        rows = self.results.tasks.sort_values("task").drop_duplicates("run", keep="last")
        return rows.set_index("run")["kept_bytes"]

    @cached_property
    def _agreement(self) -> dict[str, pd.Series]:
        rows = self.results.tasks
        rows = rows[rows["teacher_agreement"].notna()].set_index("task")
        return {str(run): found for run, found in rows.groupby("run")["teacher_agreement"]}

    def chance(self, subject: Subject) -> float:
        """The accuracy of a blind answer after the last task."""
        return 1.0 / sum(self.results.sizes(str(subject.runs["run"].iloc[0])))


def _hp(row: pd.Series, name: str, default: str) -> str:
    """A hyperparameter of a run as text; the default where the run has none."""
    value = row.get(f"hp.{name}")
    return default if value is None or pd.isna(value) else str(value)


def _apart(one: Subject, other: Subject) -> int:
    """In how many hyperparameters that both have two cells differ, distillation aside."""
    a, b = one.runs.iloc[0], other.runs.iloc[0]
    names = [c for c in one.runs.columns if c.startswith("hp.") and c != "hp.distill"]
    return sum(pd.notna(a[c]) and pd.notna(b[c]) and a[c] != b[c] for c in names)

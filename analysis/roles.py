"""What each cell of a run is to the survey: which method or loss, with distillation or without, where.

A cell is recognised by its method and its hyperparameters, never by its label; only the recipe column is a
label's ending, `-common` or `-paper`. The runs of a cell are those of its best configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.load import Results
from analysis.selection import Cell, cells, split_of
from analysis.stats import by_order
from cl_core.metrics import accuracy_matrix, recency_bias, recency_ratio, summary, task_counts

PARADIGMS: dict[str, tuple[str, ...]] = {
    "regularisation": ("lwf", "lwm"),
    "data replay": ("icarl", "eeil", "bic", "lucir", "ss_il"),
    "feature replay": ("il2a", "pass", "praka"),
}
"""The survey's ten methods by paradigm."""

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

REFERENCES = ("finetune", "replay", "joint")
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
    """Where a cell stands: a group of columns of the survey's tables."""

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
        if self.method in REFERENCES:
            return "reference"
        return next((name for name, methods in PARADIGMS.items() if self.method in methods), "other")

    @property
    def level(self) -> str:
        """Of the loss."""
        return next((name for name, losses in LEVELS.items() if self.loss in losses), "logits")

    @property
    def plain_replay(self) -> bool:
        """Whether this is the replay that data-replay methods are measured against."""
        return self.method == "replay" and self.loss == "none" and self.scope == "global"


class Roles:
    """The cells of some runs by place and role, and their measurements by class order."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.cells = cells(results)
        self.split = split_of(results, [cell for cell in self.cells if len(cell.best)])
        self.subjects = [self._subject(cell) for cell in self.cells]
        self._measured: dict[str, dict[str, float]] = {}

    def _subject(self, cell: Cell) -> Subject:
        runs = cell.best if len(cell.best) else cell.trials
        first = runs.iloc[0]
        data, scenario = self.results.places[cell.scenario]
        recipe = next((r for r in RECIPES if cell.label.endswith(f"-{r}")), "")
        sizes = self.results.sizes(str(first["trial"]))
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
                if subject.method in REFERENCES and (subject.method != "replay" or subject.plain_replay):
                    out.setdefault((place, ("reference", subject.method)), subject)
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
        if subject.method in REFERENCES:
            return ("reference", subject.method)
        return ("method", subject.method)

    def find(self, place: Place, key: Key) -> Subject | None:
        """Who has a role in a place; a reference without a recipe column stands for every one."""
        found = self._roles.get((place, key))
        if found is None and key[0] == "reference" and place.recipe:
            found = self._roles.get((Place(place.data, place.scenario, "", place.base), key))
        return found

    def keys(self, place: Place, kind: str) -> list[Key]:
        """The roles of a kind that are taken in a place."""
        return [key for where, key in self._roles if where == place and key[0] == kind]

    def values(self, subject: Subject, metric: str) -> dict[str, float]:
        """A metric by class order, the mean over seeds; orders without it are left out."""
        pairs = [
            (str(order), self.measured(str(trial)).get(metric))
            for trial, order in zip(subject.runs["trial"], subject.runs["class_order"], strict=True)
        ]
        return {str(order): value for order, value in by_order(pairs).items()}

    def measured(self, trial: str) -> Mapping[str, float]:
        """Every metric of a run that is defined, by name."""
        if trial not in self._measured:
            self._measured[trial] = {k: v for k, v in self._measure(trial).items() if v is not None}
        return self._measured[trial]

    def _measure(self, trial: str) -> dict[str, float | None]:
        counts = self.results.confusions(trial, self.split)
        if not counts:
            return {}
        sizes = self.results.sizes(trial)
        out = summary(counts, sizes)
        if len(counts) > 1:
            tasks = task_counts(counts[-1], sizes)
            share = float(tasks[-1].sum() / tasks.sum())
            out["recency_ratio"] = _finite(recency_ratio(counts[-1], sizes))
            out["excess_of_new"] = _finite(recency_bias(counts[-1], sizes) - share)
            out["plasticity"] = _finite(float(np.diag(accuracy_matrix(counts, sizes))[1:].mean()))
        out["seconds"] = self._seconds.get(trial)
        if trial in self._kept.index:
            out["kept_bytes"] = float(self._kept[trial])
            out["kept_bytes_a_class"] = float(self._kept[trial]) / len(counts[-1])
        out["teacher_agreement"] = self._agreement.get(trial)
        return out

    @cached_property
    def _seconds(self) -> dict[str, float]:
        known = self.results.trials.dropna(subset=["seconds"])
        return dict(zip(known["trial"].astype(str), known["seconds"].astype(float), strict=True))

    @cached_property
    def _kept(self) -> pd.Series:
        rows = self.results.stages.sort_values("task").drop_duplicates("trial", keep="last")
        return rows.set_index("trial")["kept_bytes"]

    @cached_property
    def _agreement(self) -> dict[str, float]:
        rows = self.results.stages
        rows = rows[rows["teacher_agreement"].notna()]
        means = rows.groupby("trial")["teacher_agreement"].mean()
        return {str(trial): float(value) for trial, value in means.items()}

    def chance(self, subject: Subject) -> float:
        """The accuracy of a blind answer after the last task."""
        return 1.0 / sum(self.results.sizes(str(subject.runs["trial"].iloc[0])))


def _hp(row: pd.Series, name: str, default: str) -> str:
    """A hyperparameter of a run as text; the default where the run has none."""
    value = row.get(f"hp.{name}")
    return default if value is None or pd.isna(value) else str(value)


def _apart(one: Subject, other: Subject) -> int:
    """In how many hyperparameters that both have two cells differ, distillation aside."""
    a, b = one.runs.iloc[0], other.runs.iloc[0]
    names = [c for c in one.runs.columns if c.startswith("hp.") and c != "hp.distill"]
    return sum(pd.notna(a[c]) and pd.notna(b[c]) and a[c] != b[c] for c in names)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

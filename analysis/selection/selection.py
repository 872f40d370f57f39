"""The runs that stand for a cell: those of its selected trial, never selected by the test split.

Where trials were confirmed on fresh class orders, `analysis.selection.confirmation` selects. Else it is the
trial that ranks first in the search.

A trial's score is the mean of the study's first objective over its completed runs, or the worst where the
protocol says so. Where trials take class orders in turn, the effect of the order is taken out. Stopped runs
are not ranked: their averages run over fewer tasks. Where a trial has fewer completed runs than another of
its cell, it is not ranked either, so that no lucky class order wins.

Cells are shown by their final runs where all of them have some; else by the runs that confirm the selected
trial, where all cells have them on the same class orders; else by the runs of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from analysis.lake.results import Results
from analysis.selection.confirmation import Confirmation, confirmation, evidence
from analysis.selection.right_answers import RightAnswers
from analysis.selection.turns import on_one_scale
from cl_core.records import CONFIRM, OWN_DEFAULT, SEARCHING


@dataclass(frozen=True)
class Cell:
    """One label in one scenario."""

    name: str
    label: str
    method: str
    scenario: str
    runs: pd.DataFrame  # every ended run of its search
    ranking: pd.DataFrame  # trial, trial_digest, runs, objective (over runs); best first
    selected: pd.DataFrame  # the runs of the selected trial in its search; no rows when none completed
    best: pd.DataFrame  # the runs that stand for the cell: final or confirming ones, or `selected`
    default: pd.DataFrame  # completed runs of the published default, like `best` confirming or of the search
    evaluation: pd.DataFrame  # every ended run of its evaluation, final or reference
    confirming: pd.DataFrame  # every ended run that confirms a trial on a fresh class order
    confirmation: Confirmation | None = None  # the confirmed selection, where there is one
    seeks: str = ""  # hardest | easiest where class orders are searched: `best` is then that order

    def count(self, status: str) -> int:
        """Count the runs of the search that ended as `status`."""
        return int((self.runs["status"] == status).sum())

    @property
    def row(self) -> pd.Series:
        """A run of the cell, of its best trial where there is one."""
        return next(runs for runs in (self.best, self.runs, self.evaluation) if len(runs)).iloc[0]

    @property
    def selected_trial(self) -> int | None:
        """The number of the selected trial; OWN_DEFAULT for a default that the search has no trial for."""
        if self.confirmation is not None:
            return self.confirmation.selected.trial
        return None if self.ranking.empty else int(self.ranking["trial"].iloc[0])

    @property
    def selected_name(self) -> str:
        """The selected trial in words: "trial 3", or "default" for one that the search has not tried."""
        return "default" if self.selected_trial == OWN_DEFAULT else f"trial {self.selected_trial}"

    @property
    def selected_digest(self) -> list[str]:
        """The digest of the selected trial's values, in a list that is empty where there is none."""
        if self.confirmation is not None:
            return [self.confirmation.selected.digest]
        return list(self.ranking["trial_digest"].head(1))

    @cached_property
    def confirmed(self) -> pd.DataFrame:
        """The completed runs that confirm the selected trial."""
        done = self.confirming[self.confirming["status"] == "completed"]
        return done[done["trial_digest"].isin(self.selected_digest)]

    @cached_property
    def final(self) -> pd.DataFrame:
        """The completed final runs of the selected trial, whichever number they have."""
        done = self.evaluation[self.evaluation["status"] == "completed"]
        return done[(done["purpose"] == "final") & done["trial_digest"].isin(self.selected_digest)]


def over_runs(results: Results, done: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Return trial and each metric over the runs of a trial: the mean, or the worst by its direction."""
    over = results.study.protocol.over_runs
    how = {name: over(direction) for name, direction in names.items()}
    return done.groupby("trial", as_index=False)[list(names)].agg(how)


def final_default(results: Results, cell: Cell) -> pd.DataFrame:
    """The completed final runs of a cell's published default."""
    done = cell.evaluation[
        (cell.evaluation["purpose"] == "final") & (cell.evaluation["status"] == "completed")
    ]
    own = done["trial"] == OWN_DEFAULT
    return done[own] if own.any() or not results.study.starts_from_paper else done[done["trial"] == 0]


def cells(results: Results) -> list[Cell]:
    """Every cell with an ended run, by scenario, then label, in the study's order.

    Without those that search class orders, which say nothing of one method beside another.
    """
    return [cell for cell in _all_cells(results) if not cell.seeks]


def order_searches(results: Results) -> list[Cell]:
    """The cells that search the hardest or easiest class order; their ranking begins with the one sought."""
    return [cell for cell in _all_cells(results) if cell.seeks]


def _all_cells(results: Results) -> list[Cell]:
    if "cells" not in results.memo:
        results.memo["cells"] = _cells(results)
    return list(results.memo["cells"])


def _cells(results: Results) -> list[Cell]:
    name, direction = results.study.objective
    runs = results.runs
    if name in runs:  # a run outside of a search has no objective, but the metric itself
        runs = runs.assign(objective=runs["objective"].fillna(runs[name]))
    paper = results.study.starts_from_paper
    rows = {
        (str(scenario), str(label)): ended
        for (scenario, label), ended in runs.groupby(["scenario", "label"], sort=False)
    }
    searched = results.study.seeks
    adapted = {cell.name for cell in results.study.resolved.cells if cell.adapted}
    confirming = runs[(runs["purpose"] == CONFIRM) & (runs["status"] == "completed")]
    results.fetch(confirming.drop_duplicates("cell")["run"])
    compares = {at: ended for at, ended in rows.items() if not searched.get(at[0])}
    confirmations = _confirmations(results, compares)
    out = []
    for scenario in results.scenarios:
        for label in results.labels:
            if (scenario, label) not in rows:
                continue
            ended = rows[scenario, label]
            mine = ended[ended["purpose"] == "search"]
            search = _completed(mine)
            seeks = searched.get(scenario, "")
            if not seeks:  # there the class order is what is searched
                mine = on_one_scale(mine, results.study.protocol.turns, name)
            ranking = _ranking(results, mine.loc[search.index], direction, turned=seeks == "hardest")
            confirmed = confirmations.get((scenario, label))
            selected = _selected(search, ranking, ended, confirmed)
            first = ended.iloc[0]
            published = paper and str(first["cell"]) not in adapted
            turns = 1 if seeks else results.study.protocol.turns  # the default comes first, once on each
            default = search[search["trial"] < turns] if published else search.iloc[:0]
            out.append(
                Cell(
                    name=str(first["cell"]),
                    label=label,
                    method=str(first["method"]),
                    scenario=scenario,
                    runs=mine,
                    ranking=ranking,
                    selected=selected,
                    best=selected,
                    default=default,
                    evaluation=ended[~ended["purpose"].isin(SEARCHING)],
                    confirming=ended[ended["purpose"] == CONFIRM],
                    confirmation=confirmed,
                    seeks=seeks,
                )
            )
    # Final runs have test rows alone: either all cells are shown by theirs, or none is.
    alike = [cell for cell in out if len(cell.selected) and not cell.seeks]
    names = {cell.name for cell in alike}  # frames in a cell do not compare as a whole
    if all(len(cell.final) for cell in alike):
        return [replace(cell, best=cell.final) if cell.name in names else cell for cell in out]
    if len({tuple(sorted(cell.confirmed["class_order"])) for cell in alike}) == 1:
        return [_shown_confirmed(cell, paper) if cell.name in names else cell for cell in out]
    return out


def _completed(search: pd.DataFrame) -> pd.DataFrame:
    """The runs of a search that have an objective."""
    return search[(search["status"] == "completed") & search["objective"].notna()]


def _confirmations(
    results: Results, rows: Mapping[tuple[str, str], pd.DataFrame]
) -> dict[tuple[str, str], Confirmation]:
    """Return scenario, label -> the confirmed selection of the cell, from the ended runs of each."""
    searches = {at: _completed(ended[ended["purpose"] == "search"]) for at, ended in rows.items()}
    known = {at: evidence(results, searches[at], ended) for at, ended in rows.items()}
    found = {at: one for at, one in known.items() if one is not None}
    answers = RightAnswers(results, split_selected_on(results), [one.names for one in found.values()])
    return {at: confirmation(results, one, answers) for at, one in found.items()}


def _shown_confirmed(cell: Cell, paper: bool) -> Cell:
    """Return a cell that is shown by its confirming runs, if it has some."""
    if cell.confirmed.empty:
        return cell
    done = cell.confirming[cell.confirming["status"] == "completed"]
    default = done[done["trial"].isin([0, OWN_DEFAULT] if paper else [OWN_DEFAULT])]
    return replace(cell, best=cell.confirmed, default=default)


def _selected(
    search: pd.DataFrame, ranking: pd.DataFrame, ended: pd.DataFrame, confirmed: Confirmation | None
) -> pd.DataFrame:
    """Return the runs of the selected trial: those of the search, so that cells have the same class orders.

    A default that the search has not completed has only the runs that confirm it.
    """
    if confirmed is None:
        return search[search["trial"].isin(ranking["trial"].head(1))]
    number = confirmed.selected.trial
    if number in set(ranking["trial"]):
        return search[search["trial"] == number]
    done = (ended["purpose"] == CONFIRM) & (ended["status"] == "completed") & (ended["trial"] == number)
    return ended[done]


def split_of(results: Results, shown: list[Cell]) -> str:
    """`test` when every run that stands for a cell has test counts, else `val`."""
    runs = [run for cell in shown for run in cell.best["run"]]
    results.fetch(runs)
    return "test" if runs and all(results.classifiers(run, "test") for run in runs) else "val"


def rows_selected_on(results: Results) -> str:
    """The rows that decided, in words."""
    return "test rows" if results.study.protocol.split == "test" else "validation rows"


def split_selected_on(results: Results) -> str:
    """The split whose counts decided."""
    return results.study.protocol.split


def by_classifier(
    results: Results, shown: list[Cell], split: str
) -> Iterator[tuple[Cell, int, str, list[tuple[str, str]]]]:
    """Every cell and rule that answered on `split`, with its runs: (cell, rank, classifier, runs).

    A run is (run, class order); rank 0 is the method's own rule.
    """
    for cell in shown:
        runs = list(zip(cell.best["run"], cell.best["class_order"].astype(str), strict=True))
        for rank, classifier in enumerate(results.classifiers(str(runs[0][0]), split)):
            having = [run for run in runs if classifier in results.classifiers(run[0], split)]
            yield cell, rank, classifier, having


def split_sentence(results: Results, split: str) -> str:
    """The sentence on the rows behind the numbers, and on the selection of trials."""
    rows = {"val": "validation rows (held out of the training split)", "test": "test rows"}[split]
    protocol = results.study.protocol
    name = results.study.objective[0].replace("_", " ")
    best = f"{'worst-case' if protocol.worst else 'mean'} {name}"
    shown = cells(results)
    how = f"Each cell is shown at the trial with the best {best}"
    if any(cell.confirmation is not None for cell in shown):
        how = f"Each cell is shown at its selected trial, confirmed on fresh class orders, by {best}"
    how += {
        "validation": " on validation rows of all tasks (non-causal: selection looked at all tasks)",
        "shared-base": " on validation rows of all tasks (non-causal: selection looked at all tasks); all "
        "methods begin from one first task",
        "first-k": f" on validation rows of the first {protocol.first} tasks "
        f"(causal after task {protocol.first})",
        "gtep": " on validation rows of other classes or another data set, kept for tuning",
        "chf": ", its hyperparameters selected inside the run, task by task, from past data only",
        "adaptive": ", its hyperparameters searched again at every task of the run, on validation rows of "
        "the classes seen so far",
        "oracle-test": f" on test rows: {protocol.label}",
    }.get(protocol.select_on, f", selected by {protocol.select_on}")
    selected = split_selected_on(results)
    caution = "; numbers of a selected best are optimistic on the rows that selected it"
    again = ""
    if _any_of(shown, "final"):
        again = " They are final runs, trained on training and validation rows."
    elif _any_of(shown, CONFIRM):
        again = " They are the runs on the fresh class orders."
    if protocol.select_on == "fixed":
        return f"Measured on {rows}. Every value is fixed, and nothing was selected."
    return f"Measured on {rows}.{again} {how}{caution if split == selected else ''}."


def same_sentence(split: str) -> str:
    """`split_sentence` for the sections after the leaderboard, which says all of it."""
    return f"Measured on {'test' if split == 'test' else 'validation'} rows, by the leaderboard's runs."


def _any_of(shown: list[Cell], purpose: str) -> bool:
    """Tell whether cells are shown by runs of a purpose."""
    return any((cell.best["purpose"] == purpose).any() for cell in shown)


def orders_sentence(shown: list[Cell], interval: str = "± is the half width of") -> str:
    """The sentence on the class orders and seeds behind the numbers, and on the mark of the interval."""
    runs = [cell.best for cell in shown if len(cell.best)]
    if not runs:
        return "n = 0: no completed run"
    orders = sorted({int(r["class_order"].nunique()) for r in runs})
    seeds = sorted({int(r["seed"].nunique()) for r in runs})
    text = f"n = {_span(orders)} class order{'s' if orders[-1] > 1 else ''}, {_span(seeds)} seed"
    text += "s" if seeds[-1] > 1 else ""
    if not interval:
        return text
    if orders[-1] < 2:
        text += "; no interval: the class order is the unit, and one order has none"
    else:
        text += f"; {interval} the 95 % interval over class orders"
    return text


def _ranking(results: Results, done: pd.DataFrame, direction: str, turned: bool = False) -> pd.DataFrame:
    """Trials by their objective, `turned` the worst first.

    Drawn twice, the same values are two trials: runs are budget.
    """
    first = done[["trial", "trial_digest"]].drop_duplicates("trial")
    table = first.assign(runs=first["trial"].map(done["trial"].value_counts()))
    table = table.merge(over_runs(results, done, {"objective": direction}), on="trial")
    table = table[table["runs"] == table["runs"].max()]
    return best_first(table, direction, turned)


def best_first(table: pd.DataFrame, direction: str, turned: bool = False) -> pd.DataFrame:
    """Sort trials by their objective, the best (`turned`: the worst) first, equal ones by number."""
    rising = (direction == "min") != turned
    return table.sort_values(["objective", "trial"], ascending=[rising, True], ignore_index=True)


def _span(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]}–{values[-1]}"

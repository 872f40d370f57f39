"""The commands to run next, by the facts of a run folder, each with its reason."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.lake.run_folder import STUDY
from analysis.lake.searched_space import Domain, ends, spaces
from analysis.lake.several_runs import Runs
from analysis.selection.range_positions import AtPosition, positions
from analysis.selection.selection import Cell, cells
from analysis.selection.trials import proposed
from cl_core.errors import BadRequest
from cl_core.hparams import Choice, Int
from cl_core.metrics import METRICS
from cl_core.own_code import references
from cl_core.records import SEARCHING

TOP, ORDERS = 3, 3  # of a confirmation
ENOUGH_ORDERS = 5  # class orders of an evaluation
MOST_STEPS = 6  # steps shown
EDGES = 2  # ranges named
REFERENCE_NAMES = {"finetune": "fine-tuning", "joint": "joint training"}
NEVER_CONFIRMED = ("chf", "adaptive", "oracle-test", "fixed")


@dataclass(frozen=True)
class Step:
    """One step; `command` may be empty."""

    reason: str
    command: str = ""


def next_steps(results: Results) -> list[Step]:
    """The steps of one run folder, the most urgent first.

    None for several folders, nor where there is no study file: a command needs one.
    """
    if isinstance(results, Runs) or not (results.folder / STUDY).is_file():
        return []
    found = cells(results)
    steps = [*_unfinished(results), *_failed(results), *_references(results, found)]
    selected = [cell for cell in found if len(cell.selected)]
    if selected:
        steps += [*_unconfirmed(results, selected), *_evaluation(results, selected)]
        steps += _edges(results, selected)
    return steps[:MOST_STEPS]


def _run(results: Results, *words: str, out: str = "") -> str:
    """The command that continues the study; with `out`, begins it again in that folder."""
    return _command(results, "run", str(results.folder / STUDY), "--out", out or results.place, *words)


def _command(results: Results, *words: str) -> str:
    """A command that trains, with the permission that code named by the study needs."""
    plain, protocol = results.study.plain, results.study.plain.get("protocol")
    other = protocol.get("evaluate_on") if isinstance(protocol, Mapping) else None
    data = [part.get("name") if isinstance(part, Mapping) else part for part in (plain.get("data"), other)]
    own = references(*data, plain.get("methods"), plain.get("recipe"))
    return shlex.join(["cl-search", *words, *(["--own-code"] if own else [])])


def _unfinished(results: Results) -> Iterable[Step]:
    budgets = {cell.name: cell.budget for cell in results.study.resolved.cells if cell.budget}
    ended = _ended(results).groupby("cell").sum()
    left = sum(max(0, budget - int(ended.get(name, 0))) for name, budget in budgets.items())
    if left:
        text = f"{left:,} of {plural(sum(budgets.values()), 'trial')} have not ended."
        yield Step(f"{text} Unless the study is running, continue it.", _run(results))


def _ended(results: Results) -> pd.Series:
    """Tell of every trial of a search, by cell and number, whether all of its runs have ended."""
    study = results.study
    search = proposed(results.runs[results.runs["purpose"] == "search"])
    of = [search["cell"], search["trial"]]
    runs = search.groupby(["cell", "trial"])["run"].count()
    early = search["status"].ne("completed").groupby(of).any()  # its other runs are not trained
    if study.stopper != "none":  # it may end a trial between two runs
        return runs > 0
    sought = search["scenario"].isin(study.seeks).groupby(of).any()  # a trial is a class order there
    return (runs >= study.protocol.runs) | early | sought


def _failed(results: Results) -> Iterable[Step]:
    failed = results.runs[results.runs["status"] == "failed"]
    if failed.empty:
        return
    read = ["cl-search", "logs", results.place, str(failed["run"].iloc[0])]
    yield Step(f"{len(failed)} run{'s' if len(failed) > 1 else ''} failed. Read why.", shlex.join(read))
    searching = failed["purpose"].isin(SEARCHING)
    if searching.any():
        yield Step("Then train them again.", _run(results, "--retry-failed"))
    if not searching.all():
        text = "Then train those of the evaluation again."
        yield Step(text, _command(results, "evaluate", results.place, "--retry-failed"))


def _references(results: Results, found: Sequence[Cell]) -> Iterable[Step]:
    named = results.study.plain.get("methods")
    entries = named.items() if isinstance(named, Mapping) else [(label, None) for label in named or ()]
    methods = {
        entry.get("method", label) if isinstance(entry, Mapping) else label for label, entry in entries
    }
    methods |= {cell.method for cell in found}
    lacking = [name for name in REFERENCE_NAMES if name not in methods]
    if found and lacking and results.study.labels:
        words = [word for name in lacking for word in ("--set", f"methods.{name}={{}}")]
        said = " and ".join(REFERENCE_NAMES[name] for name in lacking)
        yield Step(f"The study lacks {said}: its accuracies have no scale.", _run(results, *words))


def _unconfirmed(results: Results, selected: Sequence[Cell]) -> Iterable[Step]:
    study, goal = results.study, results.study.objective[0]
    if study.protocol.select_on in NEVER_CONFIRMED or study.protocol.worst or goal not in METRICS:
        return
    open_ = [cell for cell in selected if len(cell.ranking) > 1 and cell.confirmation is None]
    if not open_:
        return
    verb = "is" if len(open_) == 1 else "are"
    reason = f"{len(open_)} of {len(selected)} selections {verb} not confirmed on fresh class orders: "
    reason += "the best of many trials is partly luck."
    confirming = {cell.name for cell in study.resolved.cells if cell.confirm}
    if all(cell.name in confirming for cell in open_):
        yield Step(reason, _run(results))
    elif study.sampler != "grid":
        more = -(-(TOP + 1) * ORDERS // study.protocol.runs)
        setting = f"protocol.confirm={{top: {TOP}, orders: {ORDERS}}}"
        yield Step(reason, _run(results, "--trials", f"+{more}", "--set", setting))


def _evaluation(results: Results, selected: Sequence[Cell]) -> Iterable[Step]:
    if results.study.protocol.select_on == "fixed":  # its runs are those of an evaluation
        return
    command = ["evaluate", results.place]
    lacking = [cell for cell in selected if cell.final.empty]
    if lacking:
        what = "been measured on test rows"
        if results.study.protocol.split == "test":  # the search itself has seen them
            what = "been trained again for an evaluation"
        text = f"{len(lacking)} of {len(selected)} selected trials have not {what}."
        yield Step(text, _command(results, *command))
        return
    orders = min(int(cell.final["class_order"].nunique()) for cell in selected)
    if orders < ENOUGH_ORDERS:
        text = f"The evaluation rests on {orders} class order{'s' if orders > 1 else ''}: more narrow it."
        yield Step(text, _command(results, *command, "--set", f"final.orders={2 * ENOUGH_ORDERS}"))
    else:
        text = "The selected trials have been measured on test rows. Export them, with their models."
        yield Step(text, _command(results, "export", results.place))


def _edges(results: Results, selected: Sequence[Cell]) -> Iterable[Step]:
    """Ranges that can be wider, with selected values at an end; first where all best trials lie there."""
    try:
        known = spaces(results)
    except BadRequest:  # the section on edges says why
        return
    found = [one for cell in selected for one in positions(results, cell, (known or {}).get(cell.name, ()))]
    wide: dict[str, tuple[AtPosition, str]] = {}  # by the key that is set: one command for each
    for one in sorted(found, key=lambda one: not one.all_there):
        domain = wider(one) if one.beyond is not None else None
        if domain is not None:
            wide.setdefault(_key(results, one), (one, domain))
    for key, (one, domain) in list(wide.items())[:EDGES]:
        p = one.parameter
        value = f"{p.short} {one.values[0]:.3g} at the {one.edge} end of {p.domain}"
        command = _run(results, "--set", f"{key}={domain}", out=f"{results.place}-wide")
        yield Step(f"{one.cell.name} selected {value}. Search a wider range, in another folder.", command)


def _key(results: Results, one: AtPosition) -> str:
    """The key of a range in the study file; of a recipe, that of the label where it has its own."""
    name = one.parameter.name
    if not name.startswith("recipe."):
        return f"methods.{one.cell.label}.{one.parameter.short}"
    found: object = results.study.plain.get("methods")
    for part in (one.cell.label, *name.split(".")):
        if not isinstance(found, Mapping) or part not in found:
            return name
        found = found[part]
    return f"methods.{one.cell.label}.{name}"


def wider(one: AtPosition) -> str | None:
    """The range a step wider at the end where the value lies, as a study file writes it; None for a choice.

    A step is a factor of ten, or the width of the range; the method's own range ends it.
    """
    domain: Domain = one.parameter.domain
    if isinstance(domain, Choice) or one.parameter.whole is None:
        return None
    low, high = float(domain.low), float(domain.high)
    own = ends(one.parameter.whole) or (low, high)
    if one.edge == "lower":
        low = max(own[0], low / 10 if domain.log else 2 * low - high)
    else:
        high = min(own[1], high * 10 if domain.log else 2 * high - low)
    log = ", log: true" if domain.log else ""
    if isinstance(domain, Int):
        return f"{{int: [{math.ceil(low)}, {math.floor(high)}]{log}}}"
    return f"{{float: [{low:g}, {high:g}]{log}}}"

"""The commands to run next, by the facts of a run folder, each with its reason."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.lake.results import Results
from analysis.lake.run_folder import STUDY
from analysis.lake.searched_space import Domain, ends, spaces
from analysis.lake.several_runs import Runs
from analysis.selection.range_positions import AtPosition, positions
from analysis.selection.selection import Cell, cells
from cl_core.errors import BadRequest
from cl_core.hparams import Choice, Int
from cl_core.metrics import METRICS

TOP, ORDERS = 3, 3  # of a confirmation
ENOUGH_ORDERS = 5  # class orders of an evaluation
MOST_STEPS = 6  # steps shown
EDGES = 2  # ranges named
REFERENCE_NAMES = {"finetune": "fine-tuning", "joint": "joint training"}
NEVER_CONFIRMED = ("chf", "adaptive", "oracle-test")


@dataclass(frozen=True)
class Step:
    """One step; `command` may be empty."""

    reason: str
    command: str = ""


def next_steps(results: Results) -> list[Step]:
    """The steps of one run folder, the most urgent first; of several folders none."""
    if isinstance(results, Runs):
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
    folder = str(results.folder)
    return shlex.join(["cl-search", "run", f"{folder}/{STUDY}", "--out", out or folder, *words])


def _unfinished(results: Results) -> Iterable[Step]:
    budgets = {cell.name: cell.budget for cell in results.study.resolved.cells if cell.budget}
    search = results.runs[results.runs["purpose"] == "search"]
    ended = search.groupby("cell")["trial"].nunique()
    left = sum(max(0, budget - int(ended.get(name, 0))) for name, budget in budgets.items())
    if left:
        text = f"{left:,} of {sum(budgets.values()):,} trials have not ended."
        yield Step(f"{text} Unless the study is running, continue it.", _run(results))


def _failed(results: Results) -> Iterable[Step]:
    failed = results.runs[results.runs["status"] == "failed"]
    if len(failed):
        read = ["cl-search", "logs", str(results.folder), str(failed["run"].iloc[0])]
        yield Step(f"{len(failed)} run{'s' if len(failed) > 1 else ''} failed. Read why.", shlex.join(read))
        yield Step("Then train them again.", _run(results, "--retry-failed"))


def _references(results: Results, found: Sequence[Cell]) -> Iterable[Step]:
    methods = {cell.method for cell in found}
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
    command = ["cl-search", "evaluate", str(results.folder)]
    lacking = [cell for cell in selected if cell.final.empty]
    if lacking:
        text = f"{len(lacking)} of {len(selected)} selected trials have not been measured on test rows."
        yield Step(text, shlex.join(command))
        return
    orders = min(int(cell.final["class_order"].nunique()) for cell in selected)
    if orders < ENOUGH_ORDERS:
        text = f"The evaluation rests on {orders} class order{'s' if orders > 1 else ''}: more narrow it."
        yield Step(text, shlex.join([*command, "--set", f"final.orders={2 * ENOUGH_ORDERS}"]))
    else:
        text = "The selected trials have been measured on test rows. Export them, with their models."
        yield Step(text, shlex.join(["cl-search", "export", str(results.folder)]))


def _edges(results: Results, selected: Sequence[Cell]) -> Iterable[Step]:
    """Ranges that can be wider, with selected values at an end; first where all best trials lie there."""
    try:
        known = spaces(results)
    except BadRequest:  # the section on edges says why
        return
    found = [one for cell in selected for one in positions(results, cell, (known or {}).get(cell.name, ()))]
    wide = [(one, wider(one)) for one in found if one.edge and one.beyond is not None]
    wide.sort(key=lambda pair: not pair[0].all_there)
    for one, domain in wide[:EDGES]:
        if domain is None:
            continue
        p = one.parameter
        key = p.name if p.name.startswith("recipe.") else f"methods.{one.cell.label}.{p.short}"
        value = f"{p.short} {one.values[0]:.3g} at the {one.edge} end of {p.domain}"
        command = _run(results, "--set", f"{key}={domain}", out=f"{results.folder}-wide")
        yield Step(f"{one.cell.name} selected {value}. Search a wider range, in another folder.", command)


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
    kind = "int" if isinstance(domain, Int) else "float"
    return f"{{{kind}: [{low:g}, {high:g}]{', log: true' if domain.log else ''}}}"

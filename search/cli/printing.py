"""Tables, cards and lines that the verbs print, folded to the width of a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.lake.amounts import clock, plural, size
from analysis.lake.run_folder import STUDY
from search.display.named_table import named_table
from search.jobs.steering import Steering

if TYPE_CHECKING:
    from search.cost.forecast import Forecast
    from search.preparation.evaluation import PreparedEvaluation
    from search.preparation.prepared import Prepared


def print_plan(prepared: Prepared) -> None:
    """Print the cells of a study."""
    study, plan = prepared.study, prepared.allocation
    first = study.study.search.start_from
    columns = ["cell", "method", "scenario", "tasks", "trials", "runs", "searched"]
    print_table(
        columns,
        [
            [
                cell.name,
                cell.method,
                cell.scenario.name,
                row["tasks"],
                row["budget"],
                row["runs"],
                # The first trial is the published default.
                "nothing, the defaults are used" if cell.budget == 1 and first else row["space"],
            ]
            for cell, row in zip(study.cells, study.table(), strict=True)
        ],
    )
    runs = sum(int(row["runs"]) for row in study.table())
    gpu = f", gpu {plan.gpu:g}" if plan.gpu else ""
    for line in (
        f"{study.name}: {plural(len(study.cells), 'cell')}, {plural(runs, 'run')} at most, besides base "
        "checkpoints",
        f"data: {study.data.name}, {study.data.num_classes} classes, {len(study.data.train)} training images "
        f"of {'x'.join(map(str, study.data.shape))}",
        f"protocol: {study.study.protocol.said}",
        f"a run has cpu {plan.cpu:g}{gpu}; {plan.concurrent} at a time",
        f"folder: {prepared.folder}" + (" (continued)" if (prepared.folder / STUDY).exists() else ""),
    ):
        typer.echo(line)


def print_forecast(found: Forecast) -> None:
    """Print what a study is going to cost."""
    columns = ["cell", "trials", "to confirm", "runs", "tasks", "base tasks", "one worker", "memory of a run"]
    print_table(
        columns,
        [
            [
                cell.cell,
                *map(str, (cell.trials, cell.confirmation_runs, cell.runs, cell.tasks, cell.base_tasks)),
                clock(sum(cell.seconds) / 2),
                size(cell.kept_bytes),
            ]
            for cell in found.cells
        ],
    )
    total = found.total
    low, high = found.hours
    gpu = "" if total["gpu_hours"] is None else f", {total['gpu_hours']:.2g} GPU-hours"
    shared = total["tasks_shared"] or 0
    flying = max((cell.resume_bytes for cell in found.cells), default=0) * found.concurrent
    runs = sum(cell.evaluation_runs for cell in found.cells)
    time = sum(cell.evaluation_seconds for cell in found.cells)
    evaluation = [
        f"evaluate: at most {runs} runs of selected trials and defaults, one worker {clock(time)}; "
        f"{found.concurrent} at a time: about {clock(time / found.concurrent)}"
    ] * bool(runs)
    for line in (
        f"{found.study}: {total['runs']} runs, {total['tasks_trained']} tasks to train; {shared} base tasks "
        f"are shared, which saves {found.saved:.0%} of all task trainings",
        f"one worker: {clock(3600 * low)} to {clock(3600 * high)}{gpu}; {found.concurrent} at a time: about "
        f"{clock(3600 * (total['wall_hours'] or 0))}",
        f"on disk: {size(total['checkpoint_bytes'] or 0)} of base checkpoints, at most "
        f"{size(total['table_bytes'] or 0)} of tables, and {size(flying)} while runs work",
        *evaluation,
        *found.notes,
    ):
        typer.echo(line)


def print_evaluation(prepared: PreparedEvaluation, cost: str) -> None:
    """Print the runs of an evaluation; `cost` is a line on how long they take."""
    study, plan = prepared.run.study, prepared.run.allocation
    rows = []
    for selected in prepared.selected:
        mine = [spec for spec in prepared.specs if spec.cell == selected.cell.name]
        final = [spec for spec in mine if spec.purpose == "final"]
        default = "the same" if selected.is_default else str(selected.default_number)
        orders = dict.fromkeys(str(spec.configuration.class_order) for spec in final)
        seeds = dict.fromkeys(str(spec.configuration.seed) for spec in final)
        counts = [str(len(final)), str(len(mine) - len(final))]
        trials = [str(selected.number), default]
        rows.append([selected.cell.name, *trials, ", ".join(orders), ", ".join(seeds), *counts])
    columns = ["cell", "selected trial", "default", "class orders", "seeds", "final runs", "reference runs"]
    print_table(columns, rows)
    for name in prepared.skipped:
        typer.echo(f"{name} is skipped: none of its trials has completed")
    for line in (
        f"{study.name}: {plural(len(prepared.specs), 'run')} in all, ended ones included",
        cost,
        f"protocol: {study.study.protocol.said}",
        f"data: {prepared.data.name}, {prepared.data.num_classes} classes, "
        f"{len(prepared.data.train)} training and {len(prepared.data.test or ())} test images",
        f"{plan.concurrent} runs at a time; the test set is opened when the first one starts",
    ):
        typer.echo(line)


def print_control(state: Steering) -> None:
    """Print which cells are paused, and their priorities."""
    typer.echo(f"paused: {', '.join(sorted(state.paused)) or 'none'}")
    if state.priority:
        typer.echo("priority: " + ", ".join(f"{cell} {value}" for cell, value in state.priority.items()))


def print_run(result: dict[str, Any]) -> None:
    """Print the accuracy matrix and metrics of a single run."""
    matrix = result.pop("accuracy_matrix")
    typer.echo(f"\naccuracy on task k (across) after task t (down), {result['split']} split:")
    for row in matrix:
        typer.echo("  " + " ".join("     ." if value is None else f"{value:6.3f}" for value in row))
    for name, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        typer.echo(f"{name.replace('_', ' ')}: {'-' if shown is None else shown}")


def print_taxonomy(methods: Mapping[str, Mapping[str, str]]) -> None:
    """Print a row per method below a row per paradigm; in little room the paper goes below the title."""
    console = terminal()
    columns = ["title", "level", "kind", "base family", "paper"]
    if console.width < 160:
        methods = {
            k: {**card, "title, paper": f"{card['title']}\n{card['paper']}"} for k, card in methods.items()
        }
        columns = ["level", "kind", "base family", "title, paper"]
    rows: list[list[str]] = []
    previous = ""
    for name, card in methods.items():
        if card["paradigm"] != previous:
            previous = card["paradigm"]
            rows.append([previous])
        rows.append([f"  {name}", *(card[key] for key in columns)])
    console.print(_plain_table(["method", *columns], rows, console.width))


def print_facts(card: Mapping[str, Any]) -> None:
    """Print the card of a net, a data set or a view: a line per fact."""
    for key, value in card.items():
        typer.echo(f"{key}: {', '.join(value) or 'none' if isinstance(value, list) else value}")


def print_found(found: Mapping[str, Any]) -> None:
    """Print what `doctor` has found."""
    for title, part in found.items():
        if not isinstance(part, dict):
            typer.echo(f"{title}: {'-' if part is None else part}")
            continue
        typer.echo(f"{title}:")
        for name, value in part.items():
            if isinstance(value, dict):
                value = f"{'found' if value['found'] else 'missing'}: {value['message']}"
            typer.echo(f"  {name}: {'-' if value is None or value == [] else value}")


def print_card(card: Mapping[str, Any]) -> None:
    """Print a method's card: a line per fact, then a row per hyperparameter."""
    console = terminal()
    for key, value in card.items():
        if key == "hyperparameters":
            continue
        if key == "last relu":
            value = "yes" if value else "no, features are signed"
        elif isinstance(value, dict):
            none = "as the data set's" if key.endswith("recipe") else "none"
            value = ", ".join(f"{name} {inner}" for name, inner in value.items()) or none
        console.print(Text(f"{key}: {value}"))
    console.print()
    rows = []
    for name, param in card["hyperparameters"].items():
        lines = [
            param["domain"] + (", searched" if param["searched"] else ""),
            param["doc"],
            f"when {param['when']}" if param["when"] else "",
        ]
        acts = f"task {param['acts from']}" + (", its end" if param["at boundary"] else "")
        rows.append([name, str(param["default"]), acts, "\n".join(line for line in lines if line)])
    columns = ["hyperparameter", "default", "acts from", "range, meaning, condition"]
    console.print(_plain_table(columns, rows, console.width) if rows else "no hyperparameters")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. One of cells that does not fit gets a name above its values."""
    console = terminal()
    widths = [max(len(row[k]) for row in [columns, *rows]) for k in range(len(columns))]
    first, room = widths[0], console.width - 3 * len(columns) - 1
    if columns[0] == "cell" and sum(widths) > room and room - first < 10 * (len(columns) - 1):
        console.print(named_table(columns, rows, console.width))  # the others would be folded to slivers
        return
    table = Table()
    for place, name in enumerate(columns):
        # A name is read whole, and copied: the other columns give room.
        whole = place == 0 and 3 * first <= console.width
        table.add_column(name, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> Table:
    """Return a table `room` wide without lines, for cells of several lines; a row of one is a heading."""
    cells = [[row[k] for row in [columns, *rows] if k < len(row)] for k in range(len(columns))]
    widths = [max(len(line) for cell in column for line in cell.splitlines()) for column in cells]
    words = [min(max(len(word) for cell in column for word in cell.split()), 20) for column in cells]
    words[0], gaps = widths[0], 2 * (len(columns) - 1)
    # Left to itself, rich breaks words of one column where another could give room.
    while sum(widths) + gaps > room and any(map(int.__gt__, widths, words)):
        widest = max((k for k in range(len(widths)) if widths[k] > words[k]), key=widths.__getitem__)
        widths[widest] -= 1
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, width in zip(columns, widths, strict=True):
        table.add_column(Text(name, style="dim"), overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(cell, style="bold" if len(row) == 1 else "") for cell in row))
    return table


def terminal() -> Console:
    """Return standard output; where it is no terminal, nothing is folded to a terminal's width."""
    # Bound to the stream of now: a run in this process sends sys.stdout to its log meanwhile.
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=220)

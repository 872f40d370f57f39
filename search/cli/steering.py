"""The verbs on a run folder while a command works in it: status, logs, pause, resume, priority."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.parser import STEERING, AsJson, CellName, Folder, RunName, app, errors, say_json
from search.cli.printing import print_control, terminal
from search.jobs import steering


@app.command(rich_help_panel=STEERING)
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Show counts by state and cell, running runs, the best so far, errors, rate and time left."""
    with errors():
        from search.commands import status as verb

        if as_json:
            say_json(verb.status(folder))
            return
        console = terminal()
        for part in verb.show(folder, console.width):
            console.print(part, highlight=False, soft_wrap=True, markup=False)


@app.command(rich_help_panel=STEERING)
def logs(folder: Folder, run: RunName) -> None:
    """Show a run's output and full traceback."""
    with errors():
        from search.commands.logs import log_text

        typer.echo(log_text(folder, run), nl=False)


@app.command(rich_help_panel=STEERING)
def pause(folder: Folder, cell: CellName) -> None:
    """Start no new trial of a cell, even during a run. Running ones finish."""
    with errors():
        print_control(steering.pause(folder, cell))


@app.command(rich_help_panel=STEERING)
def resume(folder: Folder, cell: CellName) -> None:
    """Continue a paused cell, even during a run."""
    with errors():
        print_control(steering.resume(folder, cell))


@app.command(rich_help_panel=STEERING)
def priority(
    folder: Folder,
    cell: CellName,
    value: Annotated[
        int, typer.Argument(metavar="N", help="Cells with a higher number go first (default 0).")
    ],
) -> None:
    """Start trials of a cell before those of lower priority, even during a run."""
    with errors():
        print_control(steering.prioritise(folder, cell, value))

"""The verbs that read what a run has left: report, gather, compare, export."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from search.cli import complete
from search.cli.parser import AsJson, Folder, OwnCode, app, errors, local, say_json
from search.cli.printing import print_table


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR",
            callback=local,
            autocompletion=complete.runs,
            help="The folder of a run; several are read as one.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=local, help="The page; left out, report.html in the folder of one run."
        ),
    ] = None,
) -> None:
    """Every view as one HTML page."""
    with errors():
        from analysis.report.page import write_report

        typer.echo(f"report: {write_report(folders[0] if len(folders) == 1 else folders, out)}")


@app.command()
def gather(folder: Folder) -> None:
    """Compact the tables into one sorted file each; safe while a run works."""
    with errors():
        from search.lake import writer

        for table, rows in writer.gather(folder).items():
            typer.echo(f"{table}: {rows} rows")


@app.command()
def compare(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A", callback=local, autocompletion=complete.runs, help="The folder of a run."
        ),
    ],
    b: Annotated[
        Path,
        typer.Argument(
            metavar="B", callback=local, autocompletion=complete.runs, help="The folder of another."
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Left out, the first objective of A.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Two runs, paired on cell, class order and seed: the differences B - A of their choices."""
    with errors():
        from analysis import compare as verb

        found = verb(a, b, metric)
        if as_json:
            say_json(found.to_dict())
            return
        print_table(["cell", "split", "A", "B", "B - A", "p", "p (Holm)"], found.rows())
        for line in found.lines():
            typer.echo(line)
        for line in found.warnings:
            typer.echo(f"warning: {line}", err=True)


@app.command()
def export(
    folder: Folder,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="CELL", help="Of this cell alone; may stand several times."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", callback=local, help="Left out, the folder export/ in the run's."),
    ] = None,
    model: Annotated[
        bool, typer.Option("--model/--no-model", help="Train the model on all training rows as well.")
    ] = True,
    own_code: OwnCode = False,
) -> None:
    """Each cell's choice as a study file, and as a model trained on all training rows."""
    with errors(shlex.join(["cl-search", "export", str(folder)])):
        from search.commands.export import export as verb

        for done in verb(folder, cells or (), out, model, say=typer.echo, own_code=own_code):
            typer.echo(
                f"{done.cell}: no. {done.number}, {done.study}" + (f", {done.model}" if done.model else "")
            )

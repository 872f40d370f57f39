"""The verbs that read what a run has left: report, gather."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.parser import Folder, app, errors


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="The folder of a run; several are read as one.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; left out, report.html in the folder of one run."),
    ] = None,
) -> None:
    """Every view as one HTML page."""
    with errors():
        from analysis.report import write_report

        typer.echo(f"report: {write_report(folders[0] if len(folders) == 1 else folders, out)}")


@app.command()
def gather(folder: Folder) -> None:
    """Compact the tables into one sorted file each; safe while a run works."""
    with errors():
        from search import writer

        for table, rows in writer.gather(folder).items():
            typer.echo(f"{table}: {rows} rows")

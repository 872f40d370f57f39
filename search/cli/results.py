"""The verbs for run folders: report, track, gather, prune, compare, advise, export."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from analysis.lake.amounts import plural, size
from search.cli import complete
from search.cli.parser import RESULTS, AsJson, Folder, OwnCode, app, errors, local, placed, say_json
from search.cli.printing import print_table
from search.remote.copies import shown
from search.remote.working_copy import sole_copy


@app.command(rich_help_panel=RESULTS)
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR",
            callback=placed,
            autocompletion=complete.runs,
            help="A run folder; several are read as one.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=local, help="The page (default: report.html in the one run folder)."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=local,
            help="Write figures (SVG, PDF) and tables (CSV, LaTeX) for a paper there, in place of the page.",
        ),
    ] = None,
) -> None:
    """Write every view of one or more run folders as one HTML page, or its parts for a paper."""
    with errors():
        from analysis import export_paper, write_report

        if export is not None:
            files = export_paper(folders, export)
            typer.echo(f"{plural(len(files), 'file')} in {export}; captions: {export / 'captions.md'}")
            if out is None:
                return
        typer.echo(f"report: {write_report(folders[0] if len(folders) == 1 else folders, out)}")


@app.command(rich_help_panel=RESULTS)
def track(
    folder: Folder,
    to: Annotated[str, typer.Option("--to", metavar="TOOL", help="The tool: tensorboard, mlflow or wandb.")],
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="PLACE",
            help="A folder, for mlflow also a tracking URI (default: tracking/TOOL in the run folder).",
        ),
    ] = None,
) -> None:
    """Show ended runs in TensorBoard, MLflow or Weights & Biases. Repeat it to add new ones."""
    with errors():
        from analysis.tracking.track import track as verb

        found = verb(folder, to, into, typer.echo)
        typer.echo(f"{plural(found.written, 'run')} written, {found.known} there before: {found.place}")
        typer.echo(found.look)


@app.command(rich_help_panel=RESULTS)
def gather(folder: Folder) -> None:
    """Merge the tables into one sorted file each, even during a run."""
    with errors():
        from search.lake import writer

        with sole_copy(folder):
            found = writer.gather(folder)
        for table, rows in found.items():
            typer.echo(f"{table}: {plural(rows, 'row')}")


@app.command(rich_help_panel=RESULTS)
def prune(
    folder: Folder,
    logs: Annotated[
        bool, typer.Option("--logs", help="Remove the output of runs that did not fail as well.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove checkpoints that no run needs any more, and damaged files; tables stay."""
    with errors():
        from search.commands.prune import prune as verb

        found = verb(folder, logs, dry_run)
        if as_json:
            say_json([asdict(each) for each in found])
            return
        rows = [each for each in found if each.files]
        gone = "would be removed" if dry_run else "removed"
        if rows:
            print_table(
                ["files", "number", "size", ""],
                [[each.kind, str(each.files), size(each.bytes), each.kept or gone] for each in rows],
            )
        freed = sum(each.bytes for each in found if not each.kept)
        typer.echo(f"{shown(folder)}: {size(freed)} {gone}")


@app.command(rich_help_panel=RESULTS)
def compare(
    a: Annotated[
        Path,
        typer.Argument(metavar="A", callback=placed, autocompletion=complete.runs, help="A run folder."),
    ],
    b: Annotated[
        Path,
        typer.Argument(
            metavar="B", callback=placed, autocompletion=complete.runs, help="Another run folder."
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The metric (default: the first objective of A).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the selected trials of two run folders, paired on cell, class order and seed."""
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


@app.command(rich_help_panel=RESULTS)
def advise(
    folder: Folder,
    max_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Keep at most so many bytes, as in 2MB (default: any)."),
    ] = None,
    no_stored_images: Annotated[
        bool, typer.Option("--no-stored-images", help="Store no image of an earlier task.")
    ] = False,
    max_parameters: Annotated[
        str | None,
        typer.Option(metavar="COUNT", help="Use at most so many parameters, as in 5M (default: any)."),
    ] = None,
    max_seconds: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Train for at most so long, as in 600 s or 10min (default: any)."),
    ] = None,
    min_tasks: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Learn at least so many tasks (default: any scenario)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Advise which trials are best under constraints, what each constraint costs, and how to train them."""
    with errors():
        from search.commands import advise as verb

        wanted = verb.Constraints(max_bytes, no_stored_images, max_parameters, max_seconds, min_tasks)
        found = verb.advise(folder, wanted)
        if as_json:
            say_json(found.to_dict())
            return
        name = found.objective.replace("_", " ")
        for one in found.scenarios:
            typer.echo(
                f"{one.scenario}, {one.tasks} tasks: {name}; P(best) is the probability of being the best "
                "over class orders"
            )
            print_table(verb.COLUMNS, verb.rows_of(one))
            for line in verb.lines_of(one):
                typer.echo(line)
        if found.lacking:
            typer.echo(f"left out, no trial that meets all constraints: {', '.join(found.lacking)}")
        if found.left_out:
            typer.echo(f"left out, fewer than {min_tasks} tasks: {', '.join(found.left_out)}")


@app.command(rich_help_panel=RESULTS)
def export(
    folder: Folder,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="CELL", help="Export this cell alone. Repeat it for more cells."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", callback=local, help="The folder to write (default: DIR/export)."),
    ] = None,
    model: Annotated[
        bool, typer.Option("--model/--no-model", help="Train the model on all training rows as well.")
    ] = True,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="CONDITION",
            help="Export the best trial that meets a condition, as in 'kept_bytes<=2MB' (B, kB, MB, GB), "
            "'seconds<=5min' (s, min, h) or 'last_accuracy>=.6'. Repeat it for more conditions.",
        ),
    ] = None,
    own_code: OwnCode = False,
) -> None:
    """Export each cell's selected trial: a study file, and a model trained on all training rows."""
    with errors(shlex.join(["cl-search", "export", shown(folder)])):
        from search.commands.export import export as verb

        for done in verb(folder, cells or (), out, model, typer.echo, own_code, at or ()):
            why = f" ({done.why})" if done.why else ""
            model_file = f", {done.model}" if done.model else ""
            typer.echo(f"{done.cell}: trial {done.trial}{why}, {done.study}{model_file}")

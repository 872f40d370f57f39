"""The verbs of a single run, train and rerun, and of a single model, predict."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from search.cli import complete
from search.cli.parser import (
    SINGLE,
    AsJson,
    Folder,
    OwnCode,
    RunName,
    Sets,
    app,
    errors,
    local,
    note,
    say_json,
)
from search.cli.printing import print_run


@app.command(rich_help_panel=SINGLE)
def train(
    method: Annotated[str, typer.Option(autocompletion=complete.methods, help="A method's name.")],
    data: Annotated[str, typer.Option(help="A data set's name, or module:function.")],
    scenario: Annotated[str, typer.Option(help="A scenario, such as B0-10tasks or B50-inc10.")],
    sets: Sets = None,
    seed: Annotated[int, typer.Option(help="The seed of the training.")] = 0,
    class_order: Annotated[
        str | None,
        typer.Option(help="natural, seed:7, icarl-cifar, a file, ... (default: the scenario's)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", callback=local, help="Keep tables and log in this folder.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", callback=local, help="Write the final model to this file.")
    ] = None,
    as_json: AsJson = False,
    unsealed: Annotated[bool, typer.Option("--unsealed", help="Measure on the test split as well.")] = False,
    validation: Annotated[
        float, typer.Option(help="The share of the training rows to hold out, from 0 to 1.")
    ] = 0.1,
    net: Annotated[
        str | None, typer.Option(help="A net's name, or module:function (default: the data set's).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: all that torch takes).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    until: Annotated[
        int | None, typer.Option(help="Train so many tasks of the scenario (default: all).")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="shared-base or chf (default: none).")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data if it is missing.")] = False,
) -> None:
    """Train one run without Ray. Without --out nothing is kept."""
    with errors():
        from search.commands import train as verb

        request = verb.TrainRequest(
            method=method,
            data=data,
            scenario=scenario,
            sets=sets or [],
            seed=seed,
            class_order=class_order,
            out=out,
            save=save,
            unsealed=unsealed,
            validation=validation,
            net=net,
            threads=threads,
            device=device,
            download=download,
            until=until,
            protocol=protocol,
        )
        # With --json, what a library prints must not mix with the answer.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result = verb.train(request, say=_silent if as_json else typer.echo, warn=note)
        if as_json:
            say_json(result)
        else:
            print_run(result)


def _silent(line: str) -> None:
    pass


@app.command(rich_help_panel=SINGLE)
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", callback=local, help="A file of `export` or `train --save`.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", callback=local, help="Images, or folders of images.")
    ],
    top: Annotated[int, typer.Option(metavar="K", min=1, help="Classes per image, the best first.")] = 1,
    as_json: AsJson = False,
    own_code: OwnCode = False,
) -> None:
    """Predict the classes of images, with scores. An unreadable image does not stop the others."""
    with errors():
        from search.commands.predict import predict as verb

        found = verb(model, images, top, own_code)
        for line in found.notes:
            typer.echo(f"note: {line}", err=True)
        for line in found.unreadable:
            typer.echo(f"error: {line}", err=True)
        if as_json:
            say_json(
                [
                    {"image": str(path), "classes": a.classes, "scores": a.scores, "score": found.score}
                    for path, a in found.answers
                ]
            )
        else:
            for path, a in found.answers:
                ranked = ", ".join(f"{c} {v:.4f}" for c, v in zip(a.classes, a.scores, strict=True))
                typer.echo(f"{path}: {ranked} ({found.score})")
        if found.unreadable:
            raise typer.Exit(1)


@app.command(rich_help_panel=SINGLE)
def pictures(folder: Folder, run: RunName, own_code: OwnCode = False) -> None:
    """Train a recorded run again, and draw the images that its method makes as contact sheets."""
    with errors():
        from search.commands.pictures import pictures as verb

        for sheet in verb(folder, run, say=typer.echo, own_code=own_code):
            typer.echo(f"pictures: {sheet}")


@app.command(rich_help_panel=SINGLE)
def rerun(folder: Folder, run: RunName, own_code: OwnCode = False) -> None:
    """Train a recorded run again and compare the rows. The exit code is 1 where they differ."""
    with errors():
        from search.commands.rerun import rerun as verb

        comparison = verb(folder, run, say=typer.echo, own_code=own_code)
        typer.echo(str(comparison))
        if not comparison:
            raise typer.Exit(1)

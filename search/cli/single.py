"""The verbs of a single run: train, rerun; and of a single model: predict."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from search.cli import complete
from search.cli.parser import AsJson, Folder, OwnCode, Sets, Trial, app, errors, local, note, say_json
from search.cli.printing import print_run


@app.command()
def train(
    method: Annotated[str, typer.Option(autocompletion=complete.methods, help="A method's name.")],
    data: Annotated[str, typer.Option(help="A data set's name, or module:function.")],
    scenario: Annotated[str, typer.Option(help="Such as B0-10tasks or B50-inc10.")],
    sets: Sets = None,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    class_order: Annotated[
        str | None, typer.Option(help="natural, seed:7, icarl-cifar, a file, ...; left out, the scenario's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", callback=local, help="Keep tables and log here.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", callback=local, help="Write the final model here.")
    ] = None,
    as_json: AsJson = False,
    unsealed: Annotated[bool, typer.Option("--unsealed", help="Measure on the test split as well.")] = False,
    validation: Annotated[
        float, typer.Option(help="Share of the training rows held out, from 0 to 1.")
    ] = 0.1,
    net: Annotated[str | None, typer.Option(help="A net's name, or module:function.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of torch; left out, as torch decides.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    until: Annotated[int | None, typer.Option(help="Train the scenario's first tasks alone.")] = None,
    protocol: Annotated[str | None, typer.Option(help="shared-base or chf.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data if it is missing.")] = False,
) -> None:
    """Train one method once, without Ray. Nothing is kept without --out."""
    with errors():
        from search.commands.train import TrainRequest
        from search.commands.train import train as carry_out

        request = TrainRequest(
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
            result = carry_out(request, say=_silent if as_json else typer.echo, warn=note)
        if as_json:
            say_json(result)
        else:
            print_run(result)


def _silent(line: str) -> None:
    pass


@app.command()
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", callback=local, help="A file of `export` or `train --save`.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", callback=local, help="Images, or folders of images.")
    ],
    top: Annotated[int, typer.Option(metavar="K", min=1, help="Classes of each image, the first ones.")] = 1,
    as_json: AsJson = False,
    own_code: OwnCode = False,
) -> None:
    """The classes of each image, with their scores. An image that cannot be read does not stop the others."""
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


@app.command()
def rerun(folder: Folder, trial: Trial, own_code: OwnCode = False) -> None:
    """Run one recorded run again and compare the rows: 0 when they are equal, 1 when not."""
    with errors():
        from search.commands.rerun import rerun as verb

        comparison = verb(folder, trial, say=typer.echo, own_code=own_code)
        typer.echo(str(comparison))
        if not comparison:
            raise typer.Exit(1)

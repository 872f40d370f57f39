"""The verbs that work on a study: plan, run, evaluate, status, logs, and what steers a run that is going."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cl_core.errors import BadRequest
from search.cli import complete
from search.cli.outcome import next_command, outcome
from search.cli.parser import (
    AcceptCode,
    AsJson,
    CellName,
    Folder,
    Out,
    OwnCode,
    Sets,
    Trial,
    app,
    errors,
    note,
    say_json,
)
from search.cli.printing import (
    print_control,
    print_evaluation,
    print_forecast,
    print_plan,
    print_spent,
    terminal,
)
from search.storage.places import local_folder
from spaces.study.storage_url import without_passwords

if TYPE_CHECKING:
    from search.commands.run import Summary


@app.command()
def run(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY", autocompletion=complete.studies, help="A preset's name or a study file."
        ),
    ],
    sets: Sets = None,
    out: Out = None,
    trials: Annotated[
        str | None,
        typer.Option(
            metavar="N|+N",
            help="Configurations a cell, instead of search.trials; +N adds to what the folder has.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the cells, stop.")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="One process, without Ray.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed runs again.")] = False,
    own_code: OwnCode = False,
    accept_code: AcceptCode = False,
) -> None:
    """Run a study. If its folder exists, continue where it stopped."""
    again = shlex.join(
        ["cl-search", "run", study]
        + [part for text in sets or [] for part in ("--set", without_passwords(text))]
        + (["--out", str(out)] if out else [])
        + (["--local"] if local else [])
        + (["--own-code"] if own_code else [])
    )
    with errors(again):
        from search.backends.ray_address import check_ray
        from search.commands.run import prepare, run_study

        overrides, more = [*(sets or [])], 0
        if trials is not None:
            if not trials.removeprefix("+").isdecimal() or not int(trials):
                raise BadRequest(f"--trials takes a number, or +N to add N, not {trials!r}")
            if trials.startswith("+"):
                more = int(trials)
            else:
                overrides.append(f"search.trials={trials}")
        if dry_run:
            prepared = prepare(
                study,
                out,
                overrides,
                trials_more=more,
                local=local,
                own_code=own_code,
                accept_code=accept_code,
            )
            note(prepared.warnings + ([] if local else check_ray()))
            print_plan(prepared)
            return
        summary = run_study(
            study,
            out,
            overrides,
            trials_more=more,
            local=local,
            retry_failed=retry_failed,
            own_code=own_code,
            accept_code=accept_code,
            console=terminal(),
            warn=note,
        )
        _say(summary, again)


@app.command()
def evaluate(
    folder: Folder,
    sets: Sets = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print what would be trained, stop.")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="One process, without Ray.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed runs again.")] = False,
    own_code: OwnCode = False,
    accept_code: AcceptCode = False,
) -> None:
    """Train each cell's choice and its default again, and open the test set; the same command goes on."""
    again = shlex.join(
        ["cl-search", "evaluate", str(folder)]
        + [part for text in sets or [] for part in ("--set", text)]
        + (["--local"] if local else [])
        + (["--own-code"] if own_code else [])
    )
    with errors(again):
        from search.backends.ray_address import check_ray
        from search.commands import evaluate as verb

        if dry_run:
            prepared = verb.prepare_evaluation(
                folder, sets or [], local=local, own_code=own_code, accept_code=accept_code
            )
            note([] if local else check_ray())
            print_evaluation(prepared, local)
            return
        summary = verb.evaluate(
            folder,
            sets or [],
            local=local,
            retry_failed=retry_failed,
            own_code=own_code,
            accept_code=accept_code,
            console=terminal(),
            warn=note,
        )
        _say(summary, again)


def _say(summary: Summary, again: str) -> None:
    """What a command came to; `again` is the command that goes on. Exits with 1 where runs failed."""
    counts = f"{summary.completed} runs completed"
    counts += f", {summary.stopped} stopped early" if summary.stopped else ""
    counts += f", {summary.failed} failed" if summary.failed else ""
    idle = not summary.worked and summary.left is None
    typer.echo(f"{'nothing to do: ' if idle else ''}{counts}")
    if summary.completed:
        console = terminal()
        for part in outcome(summary.folder).shown(console.width):
            console.print(part, highlight=False, markup=False)
    for line in summary.labels:
        typer.echo(line)
    typer.echo(f"report: {summary.report}")
    if not summary.left and (following := next_command(summary.folder)):
        typer.echo(following)
    if summary.left:
        typer.echo(_continue(summary.left, summary.folder, again))
    if summary.failed:
        for trial, error in list(summary.failures.items())[:10]:
            typer.echo(f"failed: {trial}: {error}", err=True)
        first = next(iter(summary.failures))
        typer.echo(f"full output: {shlex.join(['cl-search', 'logs', str(summary.folder), first])}", err=True)
        raise typer.Exit(1)


def _continue(left: str, folder: Path, again: str) -> str:
    """How to go on where something is left to do."""
    what, _, cells = left.partition(": ")
    if what == "paused":
        wake = [shlex.join(["cl-search", "resume", str(folder), cell]) for cell in cells.split(", ")]
        return f"{left}; continue with: {' && '.join([*wake, again])}"
    limit = left.split()[0].removeprefix("budget.")
    # A moment that is over, and GPU-hours that are spent, stay so: the limit has to move.
    more = {"gpu_hours": " --set budget.gpu_hours=MORE", "until": " --set budget.until=LATER"}.get(limit, "")
    return f"{left}; continue with: {again}{more}"


@app.command()
def plan(
    study: Annotated[
        str, typer.Argument(metavar="STUDY|DIR", help="A preset's name or a study file; or a run's folder.")
    ],
    sets: Sets = None,
    out: Out = None,
    seconds: Annotated[
        float,
        typer.Option("--probe-seconds", metavar="N", help="About how many seconds the probes last in all."),
    ] = 40.0,
    own_code: OwnCode = False,
    as_json: AsJson = False,
) -> None:
    """What a study is going to cost, by a short probe; of a run's folder, planned against spent."""
    with errors():
        if (place := local_folder(study)).is_dir():
            _spent(place, as_json)
            return
        from search.commands.run import prepare
        from search.cost.forecast import forecast, write
        from spaces.resolved.warnings import notes_of, warnings_of

        # Nothing is trained there, so changed code is no matter.
        prepared = prepare(study, out, sets or [], own_code=own_code, accept_code=True)
        note([*notes_of(prepared.study.data), *warnings_of(prepared.study)])
        found = forecast(prepared, seconds, say=lambda line: typer.echo(line, err=True))
        path = write(found, prepared.folder)
        if as_json:
            say_json(found.to_dict())
            return
        print_forecast(found)
        typer.echo(f"plan: {path}")


def _spent(folder: Path, as_json: bool) -> None:
    """Planned against spent, for what a run has done so far."""
    from analysis import open_results
    from analysis.lake.spending import QUANTITIES, against, planned, spent

    foreseen = planned(folder)
    if foreseen is None and not (folder / "study.yaml").exists():
        raise BadRequest(f"{folder} holds no run and no plan: name a study file, or the folder of a run")
    ran = (folder / "study.yaml").exists()
    now = spent(open_results(folder)) if ran else dict.fromkeys(QUANTITIES)
    if as_json:
        say_json({"planned": foreseen and foreseen["total"], "spent": now})
        return
    print_spent(against(foreseen or {"total": {}}, now))
    if foreseen is None:
        typer.echo("there is no plan.json here: `cl-search plan STUDY` writes one before a run")
    elif not ran:
        typer.echo("nothing has run yet")


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Counts by state and cell, the best so far, errors, rate and time left."""
    with errors():
        from search.commands import status as verb

        if as_json:
            say_json(verb.status(folder))
            return
        console = terminal()
        for part in verb.show(folder, console.width):
            console.print(part, highlight=False, soft_wrap=True, markup=False)


@app.command()
def pause(folder: Folder, cell: CellName) -> None:
    """Start no new trial of a cell, even during a run. Running ones finish."""
    with errors():
        from search.jobs import steering

        print_control(steering.pause(folder, cell))


@app.command()
def resume(folder: Folder, cell: CellName) -> None:
    """Let a paused cell go on: in the run that is going, or in the next one."""
    with errors():
        from search.jobs import steering

        print_control(steering.resume(folder, cell))


@app.command()
def priority(
    folder: Folder,
    cell: CellName,
    value: Annotated[
        int, typer.Argument(metavar="N", help="Cells with a higher number go first (default 0).")
    ],
) -> None:
    """Start trials of a cell before those of lower priority, even during a run."""
    with errors():
        from search.jobs import steering

        print_control(steering.prioritise(folder, cell, value))


@app.command()
def logs(folder: Folder, trial: Trial) -> None:
    """A run's output and full traceback."""
    with errors():
        from search.commands.status import log_text

        typer.echo(log_text(folder, trial), nl=False)

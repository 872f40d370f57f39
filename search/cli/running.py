"""The verbs that work on a study: plan, run, evaluate."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.lake.amounts import plural
from cl_core.errors import BadRequest
from search.backends.ray_address import ADDRESS, check_ray
from search.cli import complete
from search.cli.parser import (
    STUDIES,
    AcceptCode,
    Address,
    AsJson,
    Folder,
    Out,
    OwnCode,
    Sets,
    app,
    errors,
    located,
    note,
    say_json,
    study_file,
)
from search.cli.printing import print_evaluation, print_forecast, print_plan, print_table, terminal
from search.preparation.evaluation_request import evaluation_request
from search.remote.copies import shown
from spaces.study.storage_url import without_passwords

if TYPE_CHECKING:
    from search.commands.summary import Summary

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan, and stop.")]
Local = Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again.")]


@app.command(rich_help_panel=STUDIES)
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
            help="Trials per cell (default: search.trials); +N adds to those of the run folder.",
        ),
    ] = None,
    dry_run: DryRun = False,
    address: Address = None,
    local: Local = False,
    retry_failed: RetryFailed = False,
    own_code: OwnCode = False,
    accept_code: AcceptCode = False,
) -> None:
    """Run a study. If its folder exists, continue where it stopped."""
    place = [*(["--out", shown(out)] if out else []), *(["--address", address] if address else [])]
    again = _command("run", study, sets, local, own_code, *place)
    with errors(again):
        _use(address, local)
        study = study_file(study)
        overrides, more = [*(sets or [])], 0
        if trials is not None:
            if not trials.removeprefix("+").isdecimal() or not int(trials):
                raise BadRequest(f"--trials takes a number, or +N to add N, not {trials!r}")
            if trials.startswith("+"):
                more = int(trials)
            else:
                overrides.append(f"search.trials={trials}")
        _refuse_early(study, overrides)
        from search.commands import run as verb

        if dry_run:
            prepared = verb.prepare(
                study,
                out,
                overrides,
                trials_more=more,
                local=local,
                own_code=own_code,
                accept_code=accept_code,
            )
            note([*verb.said_before(prepared), *([] if local else check_ray())])
            print_plan(prepared)
            return
        summary = verb.run_study(
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
        _end(summary, again)


@app.command(rich_help_panel=STUDIES)
def evaluate(
    folder: Folder,
    sets: Sets = None,
    dry_run: DryRun = False,
    address: Address = None,
    local: Local = False,
    retry_failed: RetryFailed = False,
    own_code: OwnCode = False,
    accept_code: AcceptCode = False,
) -> None:
    """Train each cell's selected trial and its default again, and open the test set."""
    place = ["--address", address] if address else []
    again = _command("evaluate", shown(folder), sets, local, own_code, *place)
    with errors(again):
        _use(address, local)
        evaluation_request(folder, sets or [])  # refused here, before torch is loaded
        from search.commands import evaluate as verb

        if dry_run:
            prepared = verb.prepare_evaluation(
                folder, sets or [], local=local, own_code=own_code, accept_code=accept_code
            )
            note([] if local else check_ray())
            print_evaluation(prepared, verb.cost(prepared.run, prepared.specs, local))
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
        _end(summary, again)


@app.command(rich_help_panel=STUDIES)
def plan(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|DIR",
            autocompletion=complete.studies,
            help="A preset's name or a study file; or a run folder.",
        ),
    ],
    sets: Sets = None,
    out: Out = None,
    address: Address = None,
    seconds: Annotated[
        float,
        typer.Option("--probe-seconds", metavar="N", help="Seconds that the probes last in all, about."),
    ] = 40.0,
    own_code: OwnCode = False,
    as_json: AsJson = False,
) -> None:
    """Forecast the cost of a study by a short probe. Of a run folder, show forecast against spent."""
    with errors():
        _use(address, False)
        study = study_file(study)
        place = located(study)
        if not place.is_dir():
            _refuse_early(study, sets or [])
        from search.commands import plan as verb

        if place.is_dir():
            spent = verb.spent_of(place)
            if as_json:
                say_json(spent.values)
                return
            print_table(spent.columns, spent.rows)
            if spent.line:
                typer.echo(spent.line)
            return
        found, path = verb.forecast_study(
            study,
            out,
            sets or [],
            seconds,
            own_code=own_code,
            say=lambda line: typer.echo(line, err=True),
            warn=note,
        )
        if as_json:
            say_json(found.to_dict())
            return
        print_forecast(found)
        typer.echo(f"forecast: {path}")


def _use(address: str | None, local: bool) -> None:
    """Let the command, and Ray in it, use a cluster. Raises BadRequest."""
    if address is None:
        return
    if local:
        raise BadRequest("--local works without Ray, and --address names a cluster: give one of them")
    os.environ[ADDRESS] = address


def _refuse_early(study: str | Path, overrides: list[str]) -> None:
    """Raise BadRequest for most faults of a study, before torch is loaded."""
    from spaces.study.study_file import load_study

    load_study(study, overrides)


def _command(verb: str, target: str, sets: list[str] | None, local: bool, own_code: bool, *more: str) -> str:
    """Return the command that continues, without passwords."""
    words = ["cl-search", verb, target]
    for text in sets or []:
        words += ["--set", without_passwords(text)]
    return shlex.join([*words, *more, *(["--local"] if local else []), *(["--own-code"] if own_code else [])])


def _end(summary: Summary, again: str) -> None:
    """Print the result of a command; `again` continues it. Exits with 1 where runs failed."""
    counts = f"{plural(summary.completed, 'run')} completed"
    counts += f", {summary.stopped} stopped early" if summary.stopped else ""
    counts += f", {summary.failed} failed" if summary.failed else ""
    idle = not summary.worked and summary.left is None
    typer.echo(f"{'nothing to do: ' if idle else ''}{counts}")
    if summary.report is not None and (outcome := summary.outcome) is not None:
        console = terminal()
        for part in outcome.shown(console.width, console.height):
            console.print(part, highlight=False, markup=False)
        if (beside := summary.published) is not None:
            for part in beside.shown(console.width):
                console.print(part, highlight=False, markup=False)
    for line in summary.labels:
        typer.echo(line)
    if summary.report is not None:  # else the command had no time left
        typer.echo(f"report: {summary.report}")
    if summary.left:
        typer.echo(_continue(summary.left, summary.folder, again))
    elif (following := summary.next_command) is not None:
        typer.echo(following)
    if summary.failed:
        for run, error in list(summary.failures.items())[:10]:
            typer.echo(f"failed: {run}: {error}", err=True)
        first = next(iter(summary.failures))
        typer.echo(
            f"full output: {shlex.join(['cl-search', 'logs', shown(summary.folder), first])}", err=True
        )
        raise typer.Exit(1)


def _continue(left: str, folder: Path, again: str) -> str:
    """Return the commands that continue where something is left to do."""
    what, _, cells = left.partition(": ")
    if what == "paused":
        wake = [shlex.join(["cl-search", "resume", shown(folder), cell]) for cell in cells.split(", ")]
        return f"{left}; continue with: {' && '.join([*wake, again])}"
    limit = left.split()[0].removeprefix("budget.")
    # A moment that has passed, and GPU-hours that are spent, stay so: the limit has to move.
    more = {"gpu_hours": " --set budget.gpu_hours=MORE", "until": " --set budget.until=LATER"}.get(limit, "")
    return f"{left}; continue with: {again}{more}"

"""The command line: every verb parses, calls and prints; what it does lies in the module of its name."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cl_core.errors import BadRequest, ClSearchError

if TYPE_CHECKING:
    from rich.console import Console

    from search.run import Prepared

app = typer.Typer(
    name="cl-search",
    help="Hyperparameter and scenario search for distillation-based class-incremental learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run, such as runs/quickstart.")]
Trial = Annotated[str, typer.Argument(metavar="TRIAL", help="A run's name, such as lwf@B0-5tasks/0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may stand several times."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.")]


def main() -> None:
    """The console script."""
    # Modules of one's own (`net: mynets:make`) are found where the command is given, as with `python -m`.
    if os.getcwd() not in sys.path:  # noqa: PTH109 - an entry of sys.path is a text
        sys.path.append(os.getcwd())  # noqa: PTH109
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, standalone_mode=False)
    except typer.Abort:
        code = 130
    except Exception as error:
        # What the parser complains of, whichever package its classes come from, is one line here too.
        tell = getattr(error, "format_message", None)
        if tell is None:
            raise
        code = getattr(error, "exit_code", 2)
        typer.echo(f"error: {' '.join(str(tell()).split())} (cl-search --help)", err=True)
    sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _errors(again: str | None = None) -> Iterator[None]:
    """One line and an exit code for what may go wrong; `again` is the command that continues."""
    from search.failures import is_storage

    try:
        yield
    except BadRequest as error:
        _fail(str(error), 2)
    except ClSearchError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        remedy = f"; finished tasks are kept, continue with: {again}" if again else ""
        typer.echo(f"interrupted{remedy}", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        if not is_storage(error):
            raise
        _fail(
            f"the storage failed: {error}; make room or fix its permissions, then give the command again", 1
        )


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)


def _json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


@app.command()
def run(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A preset's name or a study file.")],
    sets: Sets = None,
    out: Out = None,
    trials: Annotated[
        str | None,
        typer.Option(metavar="N|+N", help="Configurations a cell; +N adds to what the folder has."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the cells, stop.")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="One process, without Ray.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed runs again.")] = False,
) -> None:
    """Run a study, or continue it: the same command goes on where it was."""
    again = shlex.join(
        ["cl-search", "run", study]
        + [part for text in sets or [] for part in ("--set", text)]
        + (["--out", str(out)] if out else [])
        + (["--local"] if local else [])
    )
    with _errors(again):
        from search.run import prepare, run_study

        overrides, more = [*(sets or [])], 0
        if trials is not None:
            if not trials.removeprefix("+").isdecimal() or not int(trials):
                raise BadRequest(f"--trials takes a number, or +N to add N, not {trials!r}")
            if trials.startswith("+"):
                more = int(trials)
            else:
                overrides.append(f"search.trials={trials}")
        if dry_run:
            prepared = prepare(study, out, overrides, trials_more=more, local=local)
            _note(prepared.study.warnings)
            _print_plan(prepared)
            return
        summary = run_study(
            study,
            out,
            overrides,
            trials_more=more,
            local=local,
            retry_failed=retry_failed,
            console=_console(),
            warn=_note,
        )
        counts = f"{summary.completed} runs completed"
        counts += f", {summary.stopped} stopped early" if summary.stopped else ""
        counts += f", {summary.failed} failed" if summary.failed else ""
        typer.echo(f"{'' if summary.worked else 'nothing to do: '}{counts}")
        typer.echo(f"report: {summary.report}")
        if summary.failed:
            for trial, error in list(summary.failures.items())[:10]:
                typer.echo(f"failed: {trial}: {error}", err=True)
            first = next(iter(summary.failures))
            typer.echo(
                f"full output: {shlex.join(['cl-search', 'logs', str(summary.folder), first])}", err=True
            )
            raise typer.Exit(1)


def _note(warnings: Sequence[str]) -> None:
    """What is allowed, but hardly meant, on stderr."""
    for warning in warnings:
        typer.echo(f"note: {warning}", err=True)


def _print_plan(prepared: Prepared) -> None:
    study, plan = prepared.study, prepared.plan
    columns = ["cell", "method", "scenario", "tasks", "configurations", "runs", "searched"]
    _print_table(
        columns,
        [
            [
                cell.name,
                cell.method,
                cell.scenario.name,
                row["tasks"],
                row["budget"],
                row["runs"],
                row["space"],
            ]
            for cell, row in zip(study.cells, study.table(), strict=True)
        ],
    )
    runs = sum(int(row["runs"]) for row in study.table())
    gpu = f", gpu {plan.gpu:g}" if plan.gpu else ""
    for line in (
        f"{study.name}: {len(study.cells)} cells, {runs} runs at most, base stages apart",
        f"data: {study.data.name}, {study.data.num_classes} classes, {len(study.data.train)} training images "
        f"of {'x'.join(map(str, study.data.shape))}",
        f"a run has cpu {plan.cpu:g}{gpu}; {plan.concurrent} at a time",
        f"folder: {prepared.folder}" + (" (continued)" if (prepared.folder / "study.yaml").exists() else ""),
    ):
        typer.echo(line)


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Counts by state and cell, the best so far, errors, rate and time left."""
    with _errors():
        from search import status as verb

        if as_json:
            _json(verb.status(folder))
            return
        console = _console()
        for part in verb.show(folder):
            console.print(part, highlight=False, soft_wrap=True, markup=False)


@app.command()
def logs(folder: Folder, trial: Trial) -> None:
    """A run's output and full traceback."""
    with _errors():
        from search.status import log_text

        typer.echo(log_text(folder, trial), nl=False)


@app.command()
def report(folder: Folder) -> None:
    """Every view as one HTML page."""
    with _errors():
        from analysis.report import write_report

        typer.echo(f"report: {write_report(folder)}")


@app.command()
def gather(folder: Folder) -> None:
    """Compact the tables into one sorted file each; safe while a run works."""
    with _errors():
        from search import writer

        for table, rows in writer.gather(folder).items():
            typer.echo(f"{table}: {rows} rows")


@app.command()
def trial(
    method: Annotated[str, typer.Option(help="A method's name.")],
    data: Annotated[str, typer.Option(help="A data set's name, or module:function.")],
    scenario: Annotated[str, typer.Option(help="Such as B0-10tasks or B50-inc10.")],
    sets: Sets = None,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    class_order: Annotated[str | None, typer.Option(help="natural, seed:7, icarl-cifar, a file, ...")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep tables and log here.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the final model here.")] = None,
    as_json: AsJson = False,
    unsealed: Annotated[bool, typer.Option("--unsealed", help="Measure on the test split as well.")] = False,
    validation: Annotated[float, typer.Option(help="Share of the training rows held out.")] = 0.1,
    net: Annotated[str | None, typer.Option(help="A net's name, or module:function.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of torch; left out, as torch decides.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    download: Annotated[bool, typer.Option("--download", help="Fetch the data if it is missing.")] = False,
) -> None:
    """One run without Ray. Without --out nothing is kept."""
    with _errors():
        from search.trial import TrialRequest, run_trial

        request = TrialRequest(
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
        )
        # With --json, what a library prints must not mix with the answer.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result = run_trial(request, say=_silent if as_json else typer.echo)
        if as_json:
            _json(result)
        else:
            _print_trial(result)


def _silent(line: str) -> None:
    pass


def _print_trial(result: dict[str, Any]) -> None:
    matrix = result.pop("accuracy_matrix")
    typer.echo(f"\naccuracy on task k (across) after task t (down), {result['split']} split:")
    for row in matrix:
        typer.echo("  " + " ".join("     ." if value is None else f"{value:6.3f}" for value in row))
    for name, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        typer.echo(f"{name.replace('_', ' ')}: {'-' if shown is None else shown}")


@app.command()
def rerun(folder: Folder, trial: Trial) -> None:
    """Run one recorded run again and compare the rows: 0 when they are equal, 1 when not."""
    with _errors():
        from search.trial import rerun as verb

        comparison = verb(folder, trial, say=typer.echo)
        typer.echo(str(comparison))
        if not comparison:
            raise typer.Exit(1)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="methods, datasets, nets, scenarios, presets or views.")],
    as_json: AsJson = False,
) -> None:
    """What there is."""
    with _errors():
        from search.describe import listing

        items = listing(kind)
        if as_json:
            _json(items)
            return
        width = max(map(len, items), default=0)
        for name, text in items.items():
            typer.echo(f"{name:{width}}  {text}".rstrip())


@app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="METHOD|study", help="A method's name, or study.")],
    as_json: AsJson = False,
) -> None:
    """A method's paper, equation, taxonomy and hyperparameters; or every key of the study file."""
    with _errors():
        from search import describe as verb

        if name == "study":
            keys = verb.study_keys()
            if as_json:
                _json(keys)
                return
            _print_table(["key", "type", "default", "description"], [list(key.values()) for key in keys])
            return
        card = verb.method(name)
        if as_json:
            _json(card)
            return
        params = card.pop("hyperparameters")
        for key, value in card.items():
            typer.echo(f"{key}: {value}")
        typer.echo("")
        columns = ["name", "default", "domain", "searched", "acts from", "at boundary", "when", "doc"]
        rows = [
            [key, *(_yes(value) if name in columns[3:6] else str(value) for name, value in param.items())]
            for key, param in params.items()
        ]
        if rows:
            _print_table(columns, rows)
        else:
            typer.echo("no hyperparameters")


def _yes(value: Any) -> str:
    return {True: "yes", False: ""}[value] if isinstance(value, bool) else str(value)


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _console().print(table)


def _console() -> Console:
    """Standard output; where nobody looks at a terminal, nothing is folded to a terminal's width."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=220)


@app.command()
def doctor(
    root: Annotated[str | None, typer.Option(help="Where data is looked for; left out, ~/data.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where runs are to be kept.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Versions, devices, threads, whether storage is writable, data found."""
    with _errors():
        from search.doctor import examine

        found = examine(root, out)
        if as_json:
            _json(found)
        else:
            for title, part in found.items():
                if not isinstance(part, dict):
                    typer.echo(f"{title}: {'-' if part is None else part}")
                    continue
                typer.echo(f"{title}:")
                for name, value in part.items():
                    if isinstance(value, dict):
                        value = f"{'found' if value['found'] else 'missing'}: {value['message']}"
                    typer.echo(f"  {name}: {'-' if value is None or value == [] else value}")
        if not found["storage"]["writable"]:
            _fail(f"{found['storage']['place']} is not writable: {found['storage']['trouble']}", 1)


if __name__ == "__main__":
    main()

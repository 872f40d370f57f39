"""The command line: every verb parses, calls and prints; what it does lies in the module of its name."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cl_core.errors import BadRequest, ClSearchError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from search.control import State
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
CellName = Annotated[str, typer.Argument(metavar="CELL", help="A cell's name, such as lwf@B0-5tasks.")]
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
        idle = not summary.worked and summary.left is None
        typer.echo(f"{'nothing to do: ' if idle else ''}{counts}")
        typer.echo(f"report: {summary.report}")
        if summary.left:
            typer.echo(_continue(summary.left, summary.folder, again))
        if summary.failed:
            for trial, error in list(summary.failures.items())[:10]:
                typer.echo(f"failed: {trial}: {error}", err=True)
            first = next(iter(summary.failures))
            typer.echo(
                f"full output: {shlex.join(['cl-search', 'logs', str(summary.folder), first])}", err=True
            )
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


def _note(warnings: Sequence[str]) -> None:
    """What is allowed, but hardly meant, on stderr."""
    for warning in warnings:
        typer.echo(f"note: {warning}", err=True)


def _print_plan(prepared: Prepared) -> None:
    study, plan = prepared.study, prepared.plan
    first = study.study.search.start_from
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
                # The first configuration is the published one.
                "nothing, the defaults stand" if cell.budget == 1 and first else row["space"],
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
def pause(folder: Folder, cell: CellName) -> None:
    """Start nothing new of a cell, also while a run is going; what runs goes on."""
    with _errors():
        from search import control

        _print_control(control.pause(folder, cell))


@app.command()
def resume(folder: Folder, cell: CellName) -> None:
    """Let a paused cell go on: in the run that is going, or in the next one."""
    with _errors():
        from search import control

        _print_control(control.resume(folder, cell))


@app.command()
def priority(
    folder: Folder,
    cell: CellName,
    value: Annotated[int, typer.Argument(metavar="N", help="Higher ones are asked first; 0 unless said.")],
) -> None:
    """Ask a cell before all of lower priority, also while a run is going."""
    with _errors():
        from search import control

        _print_control(control.prioritise(folder, cell, value))


def _print_control(state: State) -> None:
    typer.echo(f"paused: {', '.join(sorted(state.paused)) or 'none'}")
    if state.priority:
        typer.echo("priority: " + ", ".join(f"{cell} {value}" for cell, value in state.priority.items()))


@app.command()
def logs(folder: Folder, trial: Trial) -> None:
    """A run's output and full traceback."""
    with _errors():
        from search.status import log_text

        typer.echo(log_text(folder, trial), nl=False)


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
    with _errors():
        from analysis.report import write_report

        typer.echo(f"report: {write_report(folders[0] if len(folders) == 1 else folders, out)}")


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
        elif kind == "methods":
            _print_taxonomy(items)
        else:
            width = max(map(len, items), default=0)
            for name, text in items.items():
                typer.echo(f"{name:{width}}  {text}".rstrip())


def _print_taxonomy(methods: Mapping[str, Mapping[str, str]]) -> None:
    """A row a method below a row for each paradigm; the paper below the title where there is little room."""
    console = _console()
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


@app.command()
def describe(
    name: Annotated[
        str, typer.Argument(metavar="METHOD|PRESET|study", help="A method's or a preset's name, or study.")
    ],
    as_json: AsJson = False,
) -> None:
    """A method's paper, taxonomy, recipes and hyperparameters; a preset's file; or every key of one."""
    with _errors():
        from search import describe as verb
        from spaces import presets

        if name == "study":
            keys = verb.study_keys()
            if as_json:
                _json(keys)
                return
            _print_table(["key", "type", "default", "description"], [list(key.values()) for key in keys])
        elif name in presets.names():
            if as_json:
                from spaces.study_file import load_study

                _json(load_study(name).to_plain())
                return
            typer.echo(presets.text(name), nl=False)
        else:
            card = verb.method(name)
            if as_json:
                _json(card)
                return
            _print_card(card)


def _print_card(card: Mapping[str, Any]) -> None:
    """A method's card: a line a fact, then a row a hyperparameter."""
    from rich.text import Text

    console = _console()
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


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> Table:
    """A table `room` wide without lines, for cells of several lines each; a row of one cell is a heading."""
    from rich.table import Table
    from rich.text import Text

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

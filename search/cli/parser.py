"""The parser of the command line, the arguments that several verbs share, and errors in one line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from cl_core.errors import BadRequest, ClSearchError
from search.cli import complete
from search.jobs.interrupts import interrupted
from search.remote.copies import with_urls
from search.remote.working_copy import file_of, run_folder, send_free
from search.storage.places import is_url, local_folder
from search.storage.trouble import is_storage
from spaces.study.storage_url import without_passwords

# The groups of verbs in --help, in its order.
STUDIES, STEERING, RESULTS = "Studies", "While a study runs", "Results"
SINGLE, PARTS = "Single runs and models", "Parts and machines"
PANELS = (STUDIES, STEERING, RESULTS, SINGLE, PARTS)

app = typer.Typer(
    name="cl-search",
    help="Hyperparameter and scenario search for distillation-based class-incremental learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"cl-search {version('cl-search')}")
        raise typer.Exit


@app.callback()
def _general(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Hyperparameter and scenario search for distillation-based class-incremental learning."""


def local(given: Any) -> Any:
    """Return a path, or paths, of this machine; end the command for a URL."""
    if isinstance(given, list | tuple):
        return [local(one) for one in given]
    if given is None:
        return None
    with errors():
        return local_folder(given)


def located(given: str | Path) -> Path:
    """Return the path of a run folder; of a URL, that of its copy here, brought up to date."""
    if not is_url(given):
        return local_folder(given)
    return run_folder(given)


def study_file(given: str) -> str:
    """Return a study's file or preset as given; of a URL, such as s3://bucket/x/study.yaml, a copy here."""
    if not is_url(given) or not given.endswith((".yaml", ".yml")):
        return given
    return str(file_of(given))


def placed(context: typer.Context, given: Any) -> Any:
    """Return the path of a run folder, or of several, as `located` does.

    What the command leaves in a copy is sent at its end.
    """
    if isinstance(given, list | tuple):
        return [placed(context, one) for one in given]
    if given is None or context.resilient_parsing:  # a shell completes words, and must not wait for a store
        return given
    with errors():
        folder = located(given)
    if not is_url(given):
        return folder

    def send() -> None:
        with errors():
            send_free(folder)

    context.call_on_close(send)
    return folder


Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        callback=placed,
        autocompletion=complete.runs,
        help="A run folder, such as runs/quickstart or s3://bucket/runs/quickstart.",
    ),
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name, such as lwf@B0-5tasks/0, or its beginning.")
]
CellName = Annotated[str, typer.Argument(metavar="CELL", help="A cell's name, such as lwf@B0-5tasks.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one value, as in data.root=~/data. Repeat it for more values.",
    ),
]
OwnCode = Annotated[
    bool,
    typer.Option(
        "--own-code", help="Import code that files name as module:attribute. Only for files that you trust."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="The Ray cluster to work on: host:port, auto for the one on this machine, or local for none "
        "(default: RAY_ADDRESS, else none). Not ray://, which moves the search away from the run folder.",
    ),
]
AcceptCode = Annotated[
    bool, typer.Option("--accept-code", help="Continue although code that decides numbers has changed.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        callback=placed,
        help="The run folder, or a URL such as s3://bucket/x (default: the study's name in storage.root, as "
        "in runs/quickstart).",
    ),
]


@contextlib.contextmanager
def errors(again: str | None = None) -> Iterator[None]:
    """End with one line and an exit code where something fails; `again` is the command that continues."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except (KeyboardInterrupt, Exception) as error:
        # An interrupt while modules are imported may come out as any other error.
        if isinstance(error, KeyboardInterrupt) or interrupted():
            remedy = f"; finished tasks are kept, continue with: {again}" if again else ""
            typer.echo(f"interrupted{remedy}", err=True)
            raise typer.Exit(130) from None
        if isinstance(error, ClSearchError):
            fail(str(error), 2 if isinstance(error, BadRequest) else 1)
        if not is_storage(error):
            raise
        fail(f"the storage failed: {error}; make room or fix its permissions, then give the command again", 1)


def fail(message: str, code: int) -> None:
    """Print an error on stderr, in one line without passwords, and exit."""
    line = with_urls(" ".join(message.split()))
    typer.echo(f"error: {without_passwords(line)}", err=True)
    raise typer.Exit(code)


def note(lines: Sequence[str]) -> None:
    """Print notes on stderr."""
    for line in lines:
        typer.echo(f"note: {with_urls(line)}", err=True)


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=1, allow_nan=False))

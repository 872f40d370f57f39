"""The parser of the command line, and what its verbs have in common: arguments, errors as one line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cl_core.errors import BadRequest, ClSearchError
from spaces.storage_url import without_passwords

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
OwnCode = Annotated[
    bool, typer.Option("--own-code", help="Import the code that files name as module:attribute; trust them.")
]
AcceptCode = Annotated[
    bool, typer.Option("--accept-code", help="Go on though code that decides numbers has changed.")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.")]


@contextlib.contextmanager
def errors(again: str | None = None) -> Iterator[None]:
    """One line and an exit code for what may go wrong; `again` is the command that continues."""
    from search.failures import is_storage

    try:
        yield
    except BadRequest as error:
        fail(str(error), 2)
    except ClSearchError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        remedy = f"; finished tasks are kept, continue with: {again}" if again else ""
        typer.echo(f"interrupted{remedy}", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        if not is_storage(error):
            raise
        fail(f"the storage failed: {error}; make room or fix its permissions, then give the command again", 1)


def fail(message: str, code: int) -> None:
    typer.echo(f"error: {without_passwords(' '.join(message.split()))}", err=True)
    raise typer.Exit(code)


def note(lines: Sequence[str]) -> None:
    """Print what a person should know before work begins, on stderr."""
    for line in lines:
        typer.echo(f"note: {line}", err=True)


def say_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, allow_nan=False))

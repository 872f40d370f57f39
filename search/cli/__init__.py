"""The command line: every verb parses, calls and prints; what it does lies in the module of its name."""

from __future__ import annotations

import atexit
import os
import signal
import sys

import typer

from search.cli import catalogue, results, running, single  # each registers its verbs
from search.cli.parser import app
from search.cli.streams import plain_output
from search.jobs.interrupts import interrupted, terminable

__all__ = ["app", "catalogue", "main", "results", "running", "single"]


def main() -> None:
    """The console script."""
    plain_output()
    with terminable(ending=True):
        code = _call(sys.argv[1:] or ["--help"])
    # Called first at the end: Ray ends its own things there, and takes a moment.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _call(arguments: list[str]) -> int:
    """The exit code of a command."""
    try:
        code = app(arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:  # whoever reads has had enough, as in `cl-search list methods | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 141
    except Exception as error:
        # What the parser complains of, whichever package its classes come from, is one line here too.
        tell = getattr(error, "format_message", None)
        if tell is None:
            if interrupted():
                return 130
            raise
        code = getattr(error, "exit_code", 2)
        typer.echo(f"error: {' '.join(str(tell()).split())} (cl-search --help)", err=True)
    return code if isinstance(code, int) else 0

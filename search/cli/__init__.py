"""The command line: each verb parses, calls a command and prints."""

from __future__ import annotations

import atexit
import os
import signal
import sys

import typer

from search.cli import catalogue, launching, results, running, single, steering  # each registers its verbs
from search.cli.parser import PANELS, app
from search.cli.streams import plain_output
from search.jobs.interrupts import interrupted, terminable

__all__ = ["app", "catalogue", "launching", "main", "results", "running", "single", "steering"]

app.registered_commands.sort(key=lambda verb: PANELS.index(str(verb.rich_help_panel)))


def main() -> None:
    """Run the console script."""
    plain_output()
    with terminable(ending=True):
        code = _call(sys.argv[1:] or ["--help"])
    # Registered last, so called first: the end of Ray takes a moment.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _call(arguments: list[str]) -> int:
    """Return the exit code of a command."""
    try:
        code = app(arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:  # the reader has closed, as in `cl-search list methods | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 141
    except Exception as error:
        # The parser's own errors, whichever package their classes come from, become one line too.
        tell = getattr(error, "format_message", None)
        if tell is None:
            if interrupted():
                return 130
            raise
        code = getattr(error, "exit_code", 2)
        typer.echo(f"error: {' '.join(str(tell()).split())} (cl-search --help)", err=True)
    return code if isinstance(code, int) else 0

"""The command line: every verb parses, calls and prints; what it does lies in the module of its name."""

from __future__ import annotations

import sys

import typer

from search.cli import catalogue, results, running, single  # each registers its verbs
from search.cli.parser import app

__all__ = ["app", "catalogue", "main", "results", "running", "single"]


def main() -> None:
    """The console script."""
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

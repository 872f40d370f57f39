"""The verbs about parts and the installation: list, describe, check, doctor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from search.cli import complete
from search.cli.parser import PARTS, AsJson, app, errors, fail, local, say_json
from search.cli.printing import print_card, print_facts, print_found, print_table, print_taxonomy
from search.commands.stored_cards import stored_cards, taxonomy_of
from spaces import presets


@app.command("list", rich_help_panel=PARTS)
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            autocompletion=complete.kinds,
            help="methods, datasets, nets, scenarios, presets or views (default: list these kinds).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the parts of a kind, a sentence each."""
    with errors():
        if kind is None:
            say_json(list(complete.KINDS)) if as_json else typer.echo("\n".join(complete.KINDS))
            return
        items: Mapping[str, Any]
        if kind == "methods" and (stored := stored_cards()):
            items = taxonomy_of(stored)
        else:
            from search.commands.listing import listing

            items = listing(kind)
        if as_json:
            say_json(items)
        elif kind == "methods":
            print_taxonomy(items)
        else:
            width = max(map(len, items), default=0)
            for name, text in items.items():
                typer.echo(f"{name:{width}}  {text}".rstrip())


@app.command(rich_help_panel=PARTS)
def describe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=complete.described,
            help="A method, net, data set, view or preset; module:attribute; or `study` for the study file.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Describe a method, a part, a preset's file, or every key of a study."""
    with errors():
        if name == "study":
            from spaces.study.keys import study_keys

            keys = study_keys()
            if as_json:
                say_json(keys)
                return
            print_table(["key", "type", "default", "meaning"], [list(key.values()) for key in keys])
        elif name in presets.names():
            if not as_json:
                typer.echo(presets.text(name), nl=False)
                return
            from spaces.study.study_file import load_study

            say_json(load_study(name).to_plain())
        elif (stored := stored_cards()) and name in stored:
            say_json(stored[name]) if as_json else print_card(stored[name])
        else:
            from search.commands import cards

            kind = cards.kind_of(name)
            card = cards.method_card(name) if kind == "method" else cards.card(kind, name)
            if as_json:
                say_json(card)
            elif kind == "method":
                print_card(card)
            else:
                print_facts(card)


@app.command(rich_help_panel=PARTS)
def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A method, net, data set or view; or module:attribute.")
    ],
    root: Annotated[str | None, typer.Option(help="The folder of a data set's files.")] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder that a view is drawn for.")
    ] = None,
) -> None:
    """Check the contracts of a part, a line each. The exit code is 1 where one is broken."""
    with errors():
        from search.commands.check import check as verb

        broken = total = 0
        for sentence, trouble in verb(name, root, run):
            total, broken = total + 1, broken + (trouble is not None)
            typer.echo(f"ok      {sentence}" if trouble is None else f"BROKEN  {sentence}: {trouble}")
        if broken:
            fail(f"{name} breaks {broken} of {total} contracts: mend it, and check again", 1)


@app.command(rich_help_panel=PARTS)
def doctor(
    root: Annotated[str | None, typer.Option(help="The folder of the data (default: ~/data).")] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", callback=local, help="The folder of the run folders.")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Show versions, devices, threads, whether storage is writable, and the data found."""
    with errors():
        from search.commands.doctor import examine

        found = examine(root, out)
        say_json(found) if as_json else print_found(found)
        if not found["storage"]["writable"]:
            fail(f"{found['storage']['place']} is not writable: {found['storage']['trouble']}", 1)

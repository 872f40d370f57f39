"""The verbs that say what there is: list, describe, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli import complete
from search.cli.parser import AsJson, app, errors, fail, local, say_json
from search.cli.printing import print_card, print_table, print_taxonomy


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            autocompletion=complete.kinds, help="methods, datasets, nets, scenarios, presets or views."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what there is of a kind; without one, list the kinds."""
    with errors():
        if kind is None:
            from search.commands.describe import kinds

            say_json(kinds()) if as_json else typer.echo("\n".join(kinds()))
            return
        from search.commands.describe import listing

        items = listing(kind)
        if as_json:
            say_json(items)
        elif kind == "methods":
            print_taxonomy(items)
        else:
            width = max(map(len, items), default=0)
            for name, text in items.items():
                typer.echo(f"{name:{width}}  {text}".rstrip())


@app.command()
def describe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=complete.described,
            help="Of a method, net, data set, view or preset; module:attribute; or study.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """A method's paper, taxonomy, recipes and hyperparameters; another part's card; a preset's file; or every
    key of one."""
    with errors():
        from search.commands import describe as verb
        from spaces import presets

        if name == "study":
            keys = verb.study_keys()
            if as_json:
                say_json(keys)
                return
            print_table(["key", "type", "default", "description"], [list(key.values()) for key in keys])
        elif name in presets.names():
            if as_json:
                from spaces.study.study_file import load_study

                say_json(load_study(name).to_plain())
                return
            typer.echo(presets.text(name), nl=False)
        else:
            from search.commands import part_cards

            kind = part_cards.kind_of(name)
            card = verb.method(name) if kind == "method" else part_cards.card(kind, name)
            if as_json:
                say_json(card)
            elif kind == "method":
                print_card(card)
            else:
                for key, value in card.items():
                    shown = ", ".join(value) or "none" if isinstance(value, list) else value
                    typer.echo(f"{key}: {shown}")


@app.command()
def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of a method, net, data set or view; or module:attribute.")
    ],
    root: Annotated[str | None, typer.Option(help="The folder of a data set.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="A run that a view is drawn for.")] = None,
) -> None:
    """Run the contracts of its kind on a part of your own: a line each, exit code 1 where one is broken."""
    with errors():
        from search.commands.check import check as verb

        broken = total = 0
        for sentence, trouble in verb(name, root, run):
            total, broken = total + 1, broken + (trouble is not None)
            typer.echo(f"ok      {sentence}" if trouble is None else f"BROKEN  {sentence}: {trouble}")
        if broken:
            fail(f"{name} breaks {broken} of {total} contracts: mend it, and check again", 1)


@app.command()
def doctor(
    root: Annotated[str | None, typer.Option(help="Where data is looked for; left out, ~/data.")] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", callback=local, help="The folder that runs are to be kept in.")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Versions, devices, threads, whether storage is writable, data found."""
    with errors():
        from search.commands.doctor import examine

        found = examine(root, out)
        if as_json:
            say_json(found)
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
            fail(f"{found['storage']['place']} is not writable: {found['storage']['trouble']}", 1)

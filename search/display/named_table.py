"""Tables for a terminal whose first column holds names: a name is never broken, since people copy it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def named_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    room: int,
    caption: str = "",
    styles: Mapping[str, str] | None = None,
) -> RenderableType:
    """Return `rows` as a table `room` characters wide: with lines, without them, or a name above its values.

    Columns after the first that hold nothing are left out. Values are aligned to the right. `styles` are
    rich's, by column.
    """
    held = [k for k in range(len(columns)) if not k or any(row[k] for row in rows)]
    style = [(styles or {}).get(column, "") for column in columns]
    widths = [max(len(row[k]) for row in [columns, *rows]) for k in held]
    if sum(widths) + 2 * (len(widths) - 1) > room:
        lines = []
        for row in rows:
            values = [
                Text(f"{columns[k]} {row[k]}", style=style[k]) for k in held[1:] if row[k] not in ("", "-")
            ]
            lines += [Text(row[0], style="bold"), *_joined(values, room)]
        return Group(*lines, *([Text(caption, style="dim italic")] if caption else []))
    lined = sum(widths) + 3 * len(widths) + 1 <= room
    table = Table(caption=caption or None, caption_justify="left")
    if not lined:
        table = Table(
            caption=caption or None, caption_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
        )
    for k in held:
        table.add_column(Text(columns[k]), justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[k], style=style[k]) for k in held))
    return table


def _joined(parts: Sequence[Text], room: int) -> list[Text]:
    """Put the parts in indented lines, without breaking one that fits."""
    lines = [Text("  ")]
    for part in parts:
        if len(lines[-1]) > 2:
            if len(lines[-1]) + 2 + len(part) > room:
                lines.append(Text("  "))
            else:
                lines[-1].append(", ")
        lines[-1].append_text(part)
    return lines

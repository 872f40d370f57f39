"""Tables of a terminal whose first column holds names of cells: they are never broken, as they are copied."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def named_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], room: int, caption: str = ""
) -> RenderableType:
    """`rows` as a table `room` characters wide: with lines, without them, or a name above its values.

    Columns after the first that hold nothing are left out. Values stand to the right.
    """
    held = [k for k in range(len(columns)) if not k or any(row[k] for row in rows)]
    widths = [max(len(row[k]) for row in [columns, *rows]) for k in held]
    if sum(widths) + 2 * (len(widths) - 1) > room:
        lines = []
        for row in rows:
            said = [f"{columns[k]} {row[k]}" for k in held[1:] if row[k] not in ("", "-")]
            lines += [Text(row[0], style="bold"), *map(Text, _joined(said, room))]
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
        table.add_row(*(Text(row[k]) for k in held))
    return table


def _joined(parts: Sequence[str], room: int) -> list[str]:
    """The parts in indented lines, none of which breaks a part that fits."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(f"  {lines[-1]}, {part}") > room:
            lines.append("")
        lines[-1] += f", {part}" if lines[-1] else part
    return [f"  {line}" for line in lines]

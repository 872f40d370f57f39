"""Cells whose runs are not of one making: of several versions of the code, threads, devices or machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cl_core.records import SEARCHING

if TYPE_CHECKING:
    import pandas as pd

KINDS = {
    "code": "versions of the code",
    "threads": "numbers of threads",
    "device": "devices",
    "precision": "precisions",
}
NAMED = 3  # cells that a line lists


def mixtures(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each way in which runs of one cell differ beside their trial, with the cells.

    `rows` are of the table `runs`; runs of the search and of the evaluation are not compared with each
    other. `numerics` differs with threads, device and precision too, so that it is named where none does.
    """
    known: dict[tuple[str, bool], dict[str, set[str]]] = {}
    for row in rows:
        values = known.setdefault((str(row["cell"]), row["purpose"] in SEARCHING), {})
        for name in (*KINDS, "numerics"):
            value = row.get(name)
            if value is not None and value == value:  # of a frame, nan is nothing
                values.setdefault(name, set()).add(_plain(value))
    found: dict[str, list[str]] = {}
    for (cell, _), values in known.items():
        several = {name: values[name] for name in KINDS if len(values.get(name, ())) > 1}
        if not several.keys() - {"code"} and len(values.get("numerics", ())) > 1:
            several["numerics"] = values["numerics"]
        for name, ones in several.items():
            found.setdefault(_said(name, ones), []).append(cell)
    lines = []
    for said, cells in found.items():
        names = sorted(set(cells))
        more = f" and {len(names) - NAMED} more cells" if len(names) > NAMED else ""
        lines.append(f"{', '.join(names[:NAMED])}{more}: runs of {said} are mixed")
    return lines


def rows_of(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a frame of the table `runs`, as `mixtures` takes them."""
    names = [name for name in ("cell", "purpose", "numerics", *KINDS) if name in runs]
    columns = (runs[name].astype(object).where(runs[name].notna(), None) for name in names)
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _said(name: str, values: set[str]) -> str:
    if name == "code":
        return f"{len(values)} {KINDS[name]}"
    if name == "numerics":
        return "machines that calculate differently"
    return f"{len(values)} {KINDS[name]} ({', '.join(sorted(values))})"


def _plain(value: Any) -> str:
    """As text; a frame holds whole numbers as others where some are missing, and a device may be numbered."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).split(":")[0]

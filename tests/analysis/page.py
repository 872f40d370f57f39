"""The generated tables of analysis/README.md: `python -m tests.analysis.page`; `--write` renews them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

from analysis.report.page import ORDER
from analysis.report.section import VIEWS
from cl_core.metrics import COSTS, FORMULAS, METRICS
from cl_core.records import TABLES, Identity, columns

PAGE = Path(__file__).parents[2] / "analysis" / "README.md"


def comments(row: type) -> dict[str, str]:
    """Return the comment of each field of a row: behind it, or on the line above it."""
    out, above = {}, ""
    for line in "".join(map(inspect.getsource, row.__mro__[:-1])).splitlines():
        if match := re.match(r"    (\w+): [^#]+?(?:  # (.*))?$", line):
            out[match[1].rstrip("_")] = match[2] or above
        above = line.strip().removeprefix("# ") if line.strip().startswith("#") else ""
    return out


def column_tables() -> str:
    """Return a table a Parquet table: column, type and meaning."""
    parts = []
    shared = [column.name for column in columns("runs")][: len(Identity.__annotations__)]
    for table, row in TABLES.items():
        said = comments(row)
        lines = [f"**`{table}`**. {' '.join((row.__doc__ or '').split())}", "", "| column | type | meaning |"]
        lines.append("|---|---|---|")
        for column in columns(table):
            if column.name in shared:
                continue
            kind = column.type.__name__ + (" or null" if column.nullable else "")
            notes = [said.get(column.name, "").rstrip(".").replace("|", "\\|") or formula(column.name)]
            notes += ["may differ between equal runs"] if column.volatile else []
            meaning = "; ".join(filter(None, notes))
            lines.append(f"| `{column.name}` | {kind} | {meaning} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def formula(name: str) -> str:
    """Return the formula of a metric with its subscripts; empty for a column that is none."""
    return re.sub(r"_(?:\{([^}]*)\}|(\w))", r"<sub>\1\2</sub>", FORMULAS.get(name, "").replace("|", "\\|"))


def metric_table() -> str:
    """Return the table of metrics and costs: name, better direction, formula."""
    lines = ["| name | better | formula |", "|---|---|---|"]
    for name in FORMULAS:
        better = {"max": "higher", "min": "lower"}.get({**METRICS, **COSTS}.get(name, ("", ""))[0], "")
        lines.append(f"| `{name}` | {better} | {formula(name)} |")
    return "\n".join(lines) + "\n"


def view_table() -> str:
    """Return the table of views in the order of the report: name and question."""
    names = [*ORDER, *sorted(set(VIEWS.names()) - {*ORDER})]
    rows = [(name, " ".join((VIEWS[name].__doc__ or "").split()).replace("|", "\\|")) for name in names]
    return "| view | shows |\n|---|---|\n" + "".join(f"| `{name}` | {text} |\n" for name, text in rows)


GENERATED: dict[str, Callable[[], str]] = {
    "columns": column_tables,
    "metrics": metric_table,
    "views": view_table,
}


def written(name: str) -> str:
    """Return a generated part as it stands on the page."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]


if __name__ == "__main__":
    for name, made in GENERATED.items():
        if "--write" in sys.argv[1:]:
            text = PAGE.read_text(encoding="utf-8")
            begin = f"<!-- {name} -->\n"
            PAGE.write_text(text.replace(begin + written(name), begin + made()), encoding="utf-8")
        print(made())

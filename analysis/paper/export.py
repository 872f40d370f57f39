"""Every figure and table of the report in a folder, with captions that can stand alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.lake.several_runs import Runs
from analysis.paper import latex
from analysis.paper.figures import fitted, write
from analysis.report.html_table import grid
from analysis.report.page import FAILED, ORDER, section
from analysis.report.section import VIEWS, Section, Table
from cl_core.errors import BadRequest

CAPTIONS, DOCUMENT = "captions.md", "all.tex"
FIGURES, TABLES_FOLDER = "figures", "tables"
_REFERENCES = ("finetune", "joint")  # methods that get no mark


def export_paper(
    folders: str | Path | Results | Sequence[str | Path | Results], out: str | Path
) -> list[Path]:
    """Write the figures and tables of a report for a paper into `out`, and return the files.

    Figures are SVG and PDF at the width of a column or of the page, tables CSV and LaTeX; `captions.md` has
    every caption, `all.tex` inputs everything. Raises BadRequest when a file cannot be written; without a
    renderer of figures, after the tables.
    """
    results = open_results(folders)
    folder = Path(out).expanduser()
    files: list[Path] = []
    figures: dict[Path, go.Figure] = {}
    captions, parts = [], []
    try:
        for part in (FIGURES, TABLES_FOLDER):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for name in _names():
            found = section(results, name)
            stem = _stem(name)
            if found.text.startswith(FAILED):
                captions.append(f"**{stem}**: {found.text}\n")
            if found.figure is not None:
                said = caption(results, found)
                figure, wide = fitted(found.figure)
                path = folder / FIGURES / stem
                figures[path] = figure
                text = latex.figure(f"{FIGURES}/{stem}.pdf", said, stem, wide)
                files.append(_written(path.with_suffix(".tex"), text))
                parts.append(f"{FIGURES}/{stem}")
                captions.append(f"**{FIGURES}/{stem}**: {said}\n")
            for number, table in enumerate(_tables(found)):
                files += _table(results, folder, found, table, stem if not number else f"{stem}-{number + 1}")
                parts.append(str(files[-1].relative_to(folder).with_suffix("")))
                captions.append(f"**{parts[-1]}**: {caption(results, found, table.title)}\n")
        files.append(_written(folder / CAPTIONS, "\n".join(captions)))
        files.append(_written(folder / DOCUMENT, latex.document(parts)))
    except OSError as error:
        raise BadRequest(
            f"cannot write into {folder}: {error.strerror or error}; name a folder that can be written"
        ) from error
    if not figures:
        return files
    try:
        return [*files, *write(figures)]
    except BadRequest as error:
        raise BadRequest(f"the tables are in {folder / TABLES_FOLDER}, but {error}") from error


def caption(results: Results, found: Section, title: str = "") -> str:
    """The caption of a figure or table: subject, data, rows, n, and the selection of trials."""
    parts = [f"{found.title}{f': {title}' if title and title != found.title else ''}", _data(results)]
    parts.append(f"On {found.rows}" if found.rows else "")
    parts.append(found.n)
    parts.append(_selection(results))
    return " ".join(f"{part.strip().rstrip('.')}." for part in parts if part.strip())


def _names() -> list[str]:
    known = {*VIEWS.names(), *VIEWS.broken()}
    return [name for name in ORDER if name in known] + sorted(known - {*ORDER})


def _tables(found: Section) -> list[Table]:
    """Every table of a section, the main one first."""
    main = [] if found.table is None else [Table(found.title, found.table)]
    return [*main, *found.tables]


def _table(results: Results, folder: Path, found: Section, table: Table, stem: str) -> list[Path]:
    shown = grid(table.frame, table.group, table.heading)
    of = dict(zip(results.runs["label"].astype(str), results.runs["method"].astype(str), strict=True))
    references = {label for label, method in of.items() if method in _REFERENCES} | set(_REFERENCES)
    path = folder / TABLES_FOLDER / stem
    text = latex.table(shown, caption(results, found, table.title), stem, references)
    return [_written(path.with_suffix(".csv"), shown.csv()), _written(path.with_suffix(".tex"), text)]


def _data(results: Results) -> str:
    """The data, network and scenarios, in words."""
    data, runs = results.study.data, results.runs
    name = str(data.get("name") or ", ".join(map(str, dict.fromkeys(runs["dataset"]))))
    extra = [
        f"{key.replace('_', ' ')} {data[key]}" for key in ("size", "classes", "per_class") if data.get(key)
    ]
    nets = ", ".join(map(str, dict.fromkeys(runs["net"])))
    known = {"Data": ", ".join([name, *extra]), "net": nets, "scenarios": ", ".join(results.scenarios)}
    return "; ".join(f"{said}: {value}" for said, value in known.items() if value)


def _selection(results: Results) -> str:
    """The selection protocol, in words."""
    parts = results.parts if isinstance(results, Runs) else [results]
    said = []
    for study in (part.study for part in parts):
        objective = study.objective[0].replace("_", " ")
        causal = f" ({study.resolved.causal})" if study.resolved.causal else ""
        said.append(f"Trials were selected by {objective}, protocol {study.protocol.select_on}{causal}")
    return "; ".join(dict.fromkeys(said))


def _stem(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path

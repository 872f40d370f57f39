"""Every view of a run as one HTML page that needs no network.

Text from files is escaped; the page forbids every connection by its own content policy. It is written aside
and renamed. A view that breaks shows its error in its section; the page is written all the same.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.offline

from analysis.lake.ledger import openings, told
from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.lake.run_folder import REPORT
from analysis.lake.several_runs import Runs
from analysis.report.css import CSS
from analysis.report.figure import POLICY, SEALED, embedded
from analysis.report.html_table import table
from analysis.report.section import ROWS, VIEWS, Section, Table
from analysis.selection.mixture import mixtures, rows_of
from analysis.selection.sanity import checks
from analysis.selection.selection import cells, order_searches, split_of
from cl_core.aside import aside
from cl_core.errors import BadRequest, defined_at, located, source_of

ORDER = (
    "leaderboard",
    "final",
    "selection_gap",
    "survey",
    "accuracy_curves",
    "pareto_front",
    "forgetting",
    "recency_bias",
    "task_confusion",
    "weight_norms",
    "hyperparameters",
    "importance",
    "range_edges",
    "best_of_n",
    "winner_stability",
    "early_stopping",
    "class_orders",
)
"""The order of sections; other views follow by name."""

MARK = {
    "OK": "ok",
    "NOT OK": "bad",
    "not in the study": "none",
    "none of this recipe": "none",
    "no completed run": "none",
}


def write_report(
    folders: str | Path | Results | Sequence[str | Path | Results], out: str | Path | None = None
) -> Path:
    """Write the page of a run's folder, or of several as one, and return its path.

    It goes to `out`; left out, to `report.html` in the folder. Raises BadRequest when it cannot be written,
    or several folders are given without `out`.
    """
    results = open_results(folders)
    if out is None and isinstance(results, Runs):
        raise BadRequest(
            f"a report of {len(results.parts)} runs belongs to no folder: name its page with --out"
        )
    path = results.folder / REPORT if out is None else Path(out).expanduser()
    if path.is_dir():
        raise BadRequest(f"cannot write {path}: it is a folder; name a page, such as {path / 'report.html'}")
    page = render(results)
    try:
        with aside(path) as hidden:
            hidden.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadRequest(
            f"cannot write {path}: {error.strerror or error}; make the folder writable"
        ) from error
    return path


def render(results: Results) -> str:
    """The page as text."""
    known = {*VIEWS.names(), *VIEWS.broken()}
    names = [n for n in ORDER if n in known] + sorted(known - {*ORDER})
    sections = [(name, section(results, name)) for name in names]
    sections = [(name, part) for name, part in sections if not (part.optional and part.bare)]
    label = _label(results)
    body = [_html(name, part, label) for name, part in sections]
    drawn = any(part.figure is not None for _, part in sections)
    title = str(results.study.name or results.folder.resolve().name)
    contents = "".join(f'<a href="#{_id(name)}">{html.escape(part.title)}</a>' for name, part in sections)
    script = f"{SEALED}<script>{plotly.offline.get_plotlyjs()}</script>" if drawn else ""
    parts = results.parts if isinstance(results, Runs) else [results]
    beside = "" if len(parts) == 1 else " of " + ", ".join(html.escape(str(part.folder)) for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{html.escape(title)} · cl-search</title><style>{CSS}</style>{script}</head><body>"
        f"<header><h1>{html.escape(title)}</h1>{label}{_header(results)}<nav>{contents}</nav></header>"
        f"<main>{''.join(body)}</main>"
        "<footer>Written by cl-search. Accuracies are fractions; tasks count from 0; every figure is "
        f"computed from the counts in <code>tables/</code>{beside or ' beside this page'}."
        "</footer></body></html>\n"
    )


def section(results: Results, name: str) -> Section:
    """What a view gives, or a section with its one-line error."""
    title = name.replace("_", " ").capitalize()
    view: object = None
    try:
        view = VIEWS[name]
        found: object = VIEWS[name](results)
    except BadRequest as error:
        return Section(title, f"This view failed: {error}")
    except Exception as error:  # whatever a view raises, the other views must stand
        return Section(title, f"This view failed: {located(error, source_of(view))}")
    if isinstance(found, Section):
        return found
    rule = f"it must return a Section, not {type(found).__name__} ({defined_at(view)})"
    return Section(title, f"This view failed: {rule}")


def _header(results: Results) -> str:
    data, trials = results.study.data, results.runs
    name = str(data.get("name") or ", ".join(map(str, dict.fromkeys(trials["dataset"]))))
    extra = {k: v for k, v in data.items() if k in ("size", "classes", "per_class") and v}
    status = trials["status"].value_counts()
    running = set(results.tasks["run"]) - set(trials["run"])
    counts = [f"{int(status.get(k, 0)):,} {k}" for k in ("completed", "stopped", "failed")]
    counts += [f"{len(running):,} unfinished"] if running else []
    facts = {
        "data": " ".join([name or "unknown", *(f"{k.replace('_', ' ')} {v}" for k, v in extra.items())]),
        "net": ", ".join(map(str, dict.fromkeys(trials["net"]))),
        "scenarios": ", ".join(results.scenarios),
        "methods": ", ".join(results.labels),
        "runs": ", ".join(counts),
        "protocol": _protocol(results),
        "test set": _test_set(results),
        "versions": _versions(results),
        "devices": ", ".join(sorted({str(d) for d in trials["device"].dropna()})),
        "study digest": results.study.resolved.identity,
    }
    items = "".join(
        f"<div{' class=whole' if len(v) > 200 else ''}><dt>{html.escape(k)}</dt>"
        f"<dd>{html.escape(v)}</dd></div>"
        for k, v in facts.items()
        if v.strip()
    )
    failed = trials[trials["status"] == "failed"]
    errors = "".join(
        f"<li><code>{html.escape(str(t))}</code> {html.escape(str(e))}</li>"
        for t, e in zip(failed["run"].head(5), failed["error"].head(5), strict=True)
    )
    more = f"<li>and {len(failed) - 5} more</li>" if len(failed) > 5 else ""
    summary = f"<summary>{len(failed)} failed</summary>"
    trouble = f'<details class="note bad" open>{summary}<ul>{errors}{more}</ul></details>'
    said = [*results.study.resolved.warnings, *mixtures(rows_of(trials))]
    warnings = [f"Warning: {text}" for text in said]
    notes = "".join(f'<p class="note">{html.escape(text)}</p>' for text in [*warnings, *results.notices])
    return f"<dl>{items}</dl>{_sanity(results)}{trouble if len(failed) else ''}{notes}"


def _protocol(results: Results) -> str:
    """How configurations were chosen, and what that looked at."""
    parts = results.parts if isinstance(results, Runs) else [results]
    studies = [part.study for part in parts if "protocol" in part.study.plain]
    said = [", ".join(filter(None, (s.protocol.select_on, s.resolved.causal))) for s in studies]
    return "; ".join(dict.fromkeys(said))


def _test_set(results: Results) -> str:
    """How often it was opened, and for what."""
    parts = results.parts if isinstance(results, Runs) else [results]
    found = [opening for part in parts for opening in openings(part.folder)]
    return told(found)


def _label(results: Results) -> str:
    """What has to stand by every number of the study, as a paragraph; nothing where nothing has to."""
    parts = results.parts if isinstance(results, Runs) else [results]
    said = dict.fromkeys(label for part in parts if (label := part.study.protocol.label))
    return "".join(f'<p class="note bad">{html.escape(text)}</p>' for text in said)


def _sanity(results: Results) -> str:
    try:
        found = checks(results)
    except BadRequest as error:
        return f'<p class="note bad">Sanity: {html.escape(str(error))}</p>'
    if not found:
        ended = "No run of a cell that compares methods" if order_searches(results) else "No run"
        return f'<p class="note">{ended} has ended yet.</p>'
    split = split_of(results, [cell for cell in cells(results) if len(cell.best)])
    lines = []
    for row in found:
        parts = []
        for key, verb in (("finetune", "fine-tuning forgets"), ("joint", "joint learns")):
            mark, text = row[key], row[f"{key} text"]
            badge = f'<span class="badge {MARK[mark]}">{html.escape(mark)}</span>'
            parts.append(f"<td>{verb} {badge} <small>{html.escape(text)}</small></td>")
        lines.append(f"<tr><th>{html.escape(row['scenario'])}</th>{''.join(parts)}</tr>")
    return (
        f'<div class="sanity"><table>{"".join(lines)}</table>'
        f"<p>On {ROWS[split]}. A study counts as run only if fine-tuning forgets (its "
        "accuracy on the first task’s classes at least halves by the end) and joint training learns (its "
        "last accuracy is "
        "above fine-tuning’s and twice chance).</p></div>"
    )


def _versions(results: Results) -> str:
    """Versions by the study file, else by the newest run."""
    found: object = results.study.resolved.versions
    if not found:
        for text in results.runs["versions"].dropna().tail(1):
            with contextlib.suppress(ValueError):
                found = json.loads(str(text))
    return ", ".join(f"{k} {v}" for k, v in found.items()) if isinstance(found, Mapping) else ""


def _html(name: str, part: Section, label: str = "") -> str:
    """One section of the page; `label` stands by its figure and by each of its tables."""
    out = [f'<section id="{_id(name)}"><h2>{html.escape(part.heading)}</h2>']
    out += [_paragraph(text) for text in re.split(r"\n\s*\n", part.text.strip()) if text]
    if part.figure is not None:
        out.append(f'{label}<div class="figure">')
        out.append(embedded(part.figure, f"figure-{_id(name)}"))
        out.append("</div>")
    if part.formulas or part.n:
        lines = [f"<li>{_formula(f)}</li>" for f in part.formulas]
        count = f'<p class="n">{html.escape(part.n)}</p>' if part.n else ""
        out.append(f'<div class="formulas"><ul>{"".join(lines)}</ul>{count}</div>')
    if part.table is not None:
        out += [label, table(part.table)]
    out += [_further(one, label) for one in part.tables]
    return "".join([*out, "</section>"])


def _paragraph(text: str) -> str:
    kind = ' class="note bad"' if text.startswith("Warning:") else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def _further(one: Table, label: str = "") -> str:
    """A table below its title, or behind it."""
    title, text = html.escape(one.title), f"<p>{html.escape(one.text)}</p>" if one.text else ""
    body = text + label + table(one.frame, one.group, one.heading)
    if one.folded:
        return f"<details><summary>{title}</summary>{body}</details>"
    return f"<h3>{title}</h3>{body}"


def _formula(text: str) -> str:
    """A formula with its subscripts `_x` and `_{...}`."""
    return re.sub(r"_(?:\{([^}]*)\}|([A-Za-z0-9]))", r"<sub>\1\2</sub>", html.escape(text))


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)

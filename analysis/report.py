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
from typing import Any

import numpy as np
import pandas as pd
import plotly.io
import plotly.offline

from analysis.load import Results, open_results
from analysis.runs import Runs
from analysis.section import VIEWS, Section, Table
from analysis.selection import Cell, cells, labels, scenarios, split_of
from cl_core.aside import aside
from cl_core.errors import BadRequest
from cl_core.metrics import accuracy_matrix, step_accuracy

ORDER = (
    "leaderboard",
    "survey",
    "accuracy_curves",
    "pareto_front",
    "forgetting",
    "recency_bias",
    "task_confusion",
    "weight_norms",
    "hyperparameters",
    "early_stopping",
)
"""The order of sections; other views follow by name."""

MARK = {"OK": "ok", "NOT OK": "bad", "not in the study": "none", "no completed run": "none"}

VERDICTS = {
    "holds": "ok",
    "contradicted": "bad",
    **dict.fromkeys(("equivalent", "undecided", "not measured"), "none"),
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
    path = results.folder / "report.html" if out is None else Path(out).expanduser()
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
    names = [n for n in ORDER if n in VIEWS.names()] + [n for n in VIEWS.names() if n not in ORDER]
    sections = [(name, section(results, name)) for name in names]
    sections = [(name, part) for name, part in sections if not (part.optional and part.bare)]
    body = [_html(name, part) for name, part in sections]
    drawn = any(part.figure is not None for _, part in sections)
    title = str(results.study.get("study") or results.folder.resolve().name)
    contents = "".join(f'<a href="#{_id(name)}">{html.escape(part.title)}</a>' for name, part in sections)
    script = f"<script>{plotly.offline.get_plotlyjs()}</script>" if drawn else ""
    parts = results.parts if isinstance(results, Runs) else [results]
    beside = "" if len(parts) == 1 else " of " + ", ".join(html.escape(str(part.folder)) for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{html.escape(title)} · cl-search</title><style>{CSS}</style>{script}</head><body>"
        f"<header><h1>{html.escape(title)}</h1>{_header(results)}<nav>{contents}</nav></header>"
        f"<main>{''.join(body)}</main>"
        "<footer>Written by cl-search. Accuracies are fractions; tasks count from 0; every figure is "
        f"computed from the counts in <code>tables/</code>{beside or ' beside this page'}."
        "</footer></body></html>\n"
    )


def section(results: Results, name: str) -> Section:
    """What a view gives, or a section with its one-line error."""
    try:
        return VIEWS[name](results)
    except Exception as error:  # whatever a view raises, the other views must stand
        line = (str(error).splitlines() or [""])[0]
        return Section(
            name.replace("_", " ").capitalize(), f"This view failed: {type(error).__name__}: {line}"
        )


def checks(results: Results) -> list[dict[str, str]]:
    """Per scenario.

    Does fine-tuning forget, does joint training learn? A study counts as run only if both hold.
    """
    chosen = cells(results)
    split = split_of(results, [cell for cell in chosen if len(cell.best)])
    out = []
    for scenario in scenarios(results):
        mine = [cell for cell in chosen if cell.scenario == scenario]
        tuned, joint = _ends(results, mine, "finetune", split), _ends(results, mine, "joint", split)
        row = {"scenario": scenario, "finetune": "not in the study", "joint": "not in the study"}
        row["finetune text"] = row["joint text"] = ""
        if tuned is not None:
            row["finetune"] = "OK" if tuned["end"] < tuned["first"] / 2 else "NOT OK"
            row["finetune text"] = f"first task's classes {tuned['first']:.3f} → {tuned['end']:.3f}"
        elif any(cell.method == "finetune" for cell in mine):
            row["finetune"] = "no completed run"
        if joint is not None:
            floor = max(2 * joint["chance"], tuned["last"] if tuned else 0.0)
            row["joint"] = "OK" if joint["last"] > min(floor, 0.99) else "NOT OK"
            row["joint text"] = f"last accuracy {joint['last']:.3f}, chance {joint['chance']:.3f}"
        elif any(cell.method == "joint" for cell in mine):
            row["joint"] = "no completed run"
        out.append(row)
    return out


def _ends(results: Results, mine: list[Cell], method: str, split: str) -> dict[str, float] | None:
    """Means over the runs of a reference cell.

    First-task classes at first and at the end, last accuracy, chance.
    """
    found = sorted((c for c in mine if c.method == method and len(c.best)), key=lambda c: c.label != method)
    if not found:
        return None
    rows = []
    for trial in found[0].best["trial"]:
        counts = results.confusions(trial, split)
        if counts:
            matrix = accuracy_matrix(counts, results.sizes(trial))
            rows.append((matrix[0, 0], matrix[-1, 0], step_accuracy(counts)[-1], 1 / len(counts[-1])))
    if not rows:
        return None
    return dict(zip(("first", "end", "last", "chance"), map(float, np.mean(rows, axis=0)), strict=True))


def _header(results: Results) -> str:
    study, trials = results.study, results.trials
    data = study.get("data")
    known = dict.fromkeys(trials["dataset"])
    name = str(data.get("name", "")) if isinstance(data, Mapping) else str(data or ", ".join(map(str, known)))
    extra = (
        {k: v for k, v in data.items() if k in ("size", "classes", "per_class") and v}
        if isinstance(data, Mapping)
        else {}
    )
    status = trials["status"].value_counts()
    running = set(results.stages["trial"]) - set(trials["trial"])
    counts = [f"{int(status.get(k, 0)):,} {k}" for k in ("completed", "stopped", "failed")]
    counts += [f"{len(running):,} unfinished"] if running else []
    facts = {
        "data": " ".join([name or "unknown", *(f"{k.replace('_', ' ')} {v}" for k, v in extra.items())]),
        "net": ", ".join(map(str, dict.fromkeys(trials["net"]))),
        "scenarios": ", ".join(scenarios(results)),
        "methods": ", ".join(labels(results)),
        "runs": ", ".join(counts),
        "versions": _versions(results),
        "devices": ", ".join(sorted({str(d) for d in trials["device"].dropna()})),
        "study digest": str(_resolved(results).get("identity", "")),
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
        for t, e in zip(failed["trial"].head(5), failed["error"].head(5), strict=True)
    )
    more = f"<li>and {len(failed) - 5} more</li>" if len(failed) > 5 else ""
    summary = f"<summary>{len(failed)} failed</summary>"
    trouble = f'<details class="note bad" open>{summary}<ul>{errors}{more}</ul></details>'
    warnings = [f"Warning: {text}" for text in _resolved(results).get("warnings") or ()]
    notes = "".join(f'<p class="note">{html.escape(text)}</p>' for text in [*warnings, *results.notices])
    return f"<dl>{items}</dl>{_sanity(results)}{trouble if len(failed) else ''}{notes}"


def _sanity(results: Results) -> str:
    try:
        found = checks(results)
    except BadRequest as error:
        return f'<p class="note bad">Sanity: {html.escape(str(error))}</p>'
    if not found:
        return '<p class="note">No run has ended yet.</p>'
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
        "<p>A study counts as run only if fine-tuning forgets (its "
        "accuracy on the first task’s classes at least halves by the end) and joint training learns (its "
        "last accuracy is "
        "above fine-tuning’s and twice chance).</p></div>"
    )


def _resolved(results: Results) -> Mapping[str, Any]:
    """What a study met when it began: versions, warnings, its digest."""
    found = results.study.get("resolved")
    return found if isinstance(found, Mapping) else {}


def _versions(results: Results) -> str:
    """Versions by the study file, else by the newest run."""
    found: Any = _resolved(results).get("versions")
    if not isinstance(found, Mapping):
        for text in results.trials["versions"].dropna().tail(1):
            with contextlib.suppress(ValueError):
                found = json.loads(str(text))
    return ", ".join(f"{k} {v}" for k, v in found.items()) if isinstance(found, Mapping) else ""


def _html(name: str, part: Section) -> str:
    """One section of the page."""
    out = [f'<section id="{_id(name)}"><h2>{html.escape(part.title)}</h2>']
    out += [_paragraph(text) for text in re.split(r"\n\s*\n", part.text.strip()) if text]
    if part.figure is not None:
        out.append('<div class="figure">')
        out.append(
            plotly.io.to_html(
                part.figure,
                include_plotlyjs=False,
                full_html=False,
                div_id=f"figure-{_id(name)}",
                config={
                    "displaylogo": False,
                    "responsive": True,
                    "modeBarButtonsToRemove": ["lasso2d", "select2d"],
                },
            )
        )
        out.append("</div>")
    if part.formulas or part.n:
        lines = [f"<li>{_formula(f)}</li>" for f in part.formulas]
        count = f'<p class="n">{html.escape(part.n)}</p>' if part.n else ""
        out.append(f'<div class="formulas"><ul>{"".join(lines)}</ul>{count}</div>')
    if part.table is not None:
        out.append(table(part.table))
    out += [_further(one) for one in part.tables]
    return "".join([*out, "</section>"])


def _paragraph(text: str) -> str:
    kind = ' class="note bad"' if text.startswith("Warning:") else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def _further(one: Table) -> str:
    """A table below its title, or behind it."""
    title, text = html.escape(one.title), f"<p>{html.escape(one.text)}</p>" if one.text else ""
    body = text + table(one.frame, one.group, one.heading)
    if one.folded:
        return f"<details><summary>{title}</summary>{body}</details>"
    return f"<h3>{title}</h3>{body}"


def table(frame: pd.DataFrame, group: str = "scenario", heading: Sequence[str] = ()) -> str:
    """A frame as an HTML table, a line where column `group` changes, with the columns of `heading` on it.

    Numbers to the right, a column `x ±` inside column `x`, missing values a dash. Columns of two levels get
    two header rows, and the first column stays in sight.
    """
    spread = frame.columns.nlevels > 1
    half = {c: (*c[:-1], f"{c[-1]} ±") if spread else f"{c} ±" for c in frame.columns}
    inside = {h for h in half.values() if h in frame.columns}
    key = ("", group) if spread else group
    hidden = {*inside, *heading, ("", "group")}
    names = [c for c in frame.columns if c not in hidden]
    numeric = {c for c in names if pd.api.types.is_numeric_dtype(frame[c]) or frame[c].isna().all()}
    kinds = {c: "num" if c in numeric else _text_kind(frame[c]) for c in names}
    digits = {c: _digits(frame[c]) for c in numeric}
    body = []
    previous = None
    for row in frame.to_dict("records"):
        cells_ = []
        for c in names:
            shown = _number(row[c], digits[c]) if c in numeric else _badge(row[c]) or _text(row[c])
            width = row.get(half[c])
            shown += (
                "" if width is None or pd.isna(width) else f"<small>± {_number(width, digits[c])}</small>"
            )
            cells_.append(f'<td class="{kinds[c]}">{shown}</td>')
        value = row.get(key)
        mark = " class=group" if previous is not None and value != previous else ""
        if heading and value != previous:
            parts = [f"<span>{_text(row[name])}</span>" for name in heading]
            body.append(f'<tr class="heading"><th colspan={len(names)}>{" ".join(parts)}</th></tr>')
            mark = ""
        body.append(f"<tr{mark}>{''.join(cells_)}</tr>")
        previous = value
    wide = " wide" if len(names) > 12 else ""
    sticky = " spread" if spread else ""
    inner = f"<thead>{_head(names, kinds)}</thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="table{wide}{sticky}"><table>{inner}</table></div>'


def _badge(value: Any) -> str:
    """A verdict stands out; nothing for any other text."""
    mark = VERDICTS.get(value) if isinstance(value, str) else None
    return f'<span class="badge {mark}">{html.escape(value)}</span>' if mark else ""


def _head(names: Sequence[Any], kinds: Mapping[Any, str]) -> str:
    """The header row, or two: groups of columns over columns."""
    if not names or not isinstance(names[0], tuple):
        cells_ = (f'<th class="{kinds[c]}">{html.escape(str(c))}</th>' for c in names)
        return f"<tr>{''.join(cells_)}</tr>"
    upper, lower = [], []
    for title in dict.fromkeys(c[0] for c in names):
        mine = [c for c in names if c[0] == title]
        if not title:
            upper += [f'<th rowspan=2 class="{kinds[c]}">{html.escape(c[1])}</th>' for c in mine]
            continue
        upper.append(f'<th colspan={len(mine)} class="over">{html.escape(title)}</th>')
        first = " first"
        for c in mine:
            lower.append(f'<th class="{kinds[c]}{first}">{html.escape(c[1])}</th>')
            first = ""
    return f"<tr>{''.join(upper)}</tr><tr>{''.join(lower)}</tr>"


def _text_kind(values: pd.Series) -> str:
    """Long texts are broken into lines, short ones are not."""
    longest = max((len(str(v)) for v in values.dropna()), default=0)
    return "text" if longest <= 40 else "text long"


def _digits(values: pd.Series) -> int:
    """Decimals to show: none for whole numbers, three for fractions, fewer for larger numbers."""
    known = values.dropna().astype(float)
    if known.empty or ((known == known.round()).all() and known.abs().max() > 1):
        return 0
    if pd.api.types.is_integer_dtype(values):
        return 0
    largest = known.abs().max()
    return 3 if largest < 10 else 1 if largest < 1000 else 0


def _number(value: Any, digits: int) -> str:
    if value is None or pd.isna(value):
        return "–"
    return f"{value:,.{digits}f}".replace("-", "−")


def _text(value: Any) -> str:
    return (
        "–" if value is None or (not isinstance(value, str) and pd.isna(value)) else html.escape(str(value))
    )


def _formula(text: str) -> str:
    """A formula with its subscripts `_x` and `_{...}`."""
    return re.sub(r"_(?:\{([^}]*)\}|([A-Za-z0-9]))", r"<sub>\1\2</sub>", html.escape(text))


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)


POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

CSS = """
:root { --ink: #1d2530; --soft: #5b6675; --line: #dfe3e9; --wash: #f6f8fa; --link: #1f5fa8; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
header, main, footer { max-width: 1240px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 30px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 14px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 0 0 8px; }
h3 { font-size: 15.5px; margin: 18px 0 4px; }
details > summary { cursor: pointer; font-weight: 600; margin: 10px 0; }
p { margin: 0 0 10px; max-width: 92ch; }
code { font: 12.5px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
small { color: var(--soft); font-size: 12.5px; }
dl {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 8px 26px;
  margin: 0 0 16px; }
dt { font-size: 11.5px; text-transform: uppercase; letter-spacing: 0.05em; color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
dl .whole { grid-column: 1 / -1; }
nav { display: flex; flex-wrap: wrap; gap: 8px; padding: 12px 0 16px; border-bottom: 1px solid var(--line); }
nav a {
  color: var(--link); text-decoration: none; border: 1px solid var(--line); border-radius: 999px;
  padding: 3px 13px; font-size: 13.5px; }
nav a:hover { background: var(--wash); }
section { padding: 26px 0 10px; border-bottom: 1px solid var(--line); }
section:last-child { border-bottom: 0; }
.figure { margin: 8px 0 4px; min-height: 120px; }
.formulas {
  color: var(--soft); font-size: 13px; margin: 2px 0 14px; padding: 8px 14px;
  background: var(--wash); border-radius: 6px; }
.formulas sub { line-height: 0; }
.formulas ul { margin: 0; padding-left: 18px; }
.formulas .n { margin: 4px 0 0; color: var(--ink); max-width: none; }
.table { overflow-x: auto; margin: 8px 0 18px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
.table table { width: 100%; }
.table td small { margin-left: 5px; }
.table.wide td, .table.wide th { padding: 5px 6px; }
.table.wide table { font-size: 13px; }
.table.wide td small { display: block; line-height: 1.15; font-size: 11.5px; }
th {
  text-align: left; font-weight: 600; vertical-align: bottom; line-height: 1.25;
  color: var(--soft); font-size: 12.5px; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); }
td.text, th.text { white-space: nowrap; }
td.long, th.long { white-space: normal; min-width: 15em; max-width: 26em; }
.table.spread th:first-child, .table.spread td:first-child {
  position: sticky; left: 0; background: #fff; box-shadow: 1px 0 0 var(--line); }
.table.spread thead tr:nth-child(2) th:first-child { position: static; box-shadow: none; }
th.over { text-align: center; border-left: 1px solid var(--line); color: var(--ink); }
td.num, th.num { text-align: right; }
td.num { white-space: nowrap; }
thead th { border-bottom: 1.5px solid #b6bec9; }
tr.group td { border-top: 2px solid #8d97a5; }
tr.heading th {
  color: var(--ink); font-size: 13.5px; padding-top: 14px; white-space: normal; border-bottom: 0;
  border-top: 1.5px solid #b6bec9; }
tr.heading span:nth-child(n+3) { display: block; font-weight: 400; color: var(--soft); font-size: 12.5px; }
tbody tr:hover { background: var(--wash); }
.sanity { border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px 6px; margin: 0 0 14px; }
.sanity td, .sanity th { border: 0; padding: 3px 26px 3px 0; color: var(--ink); font-size: 13.5px; }
.sanity p { color: var(--soft); font-size: 13px; margin: 6px 0 4px; max-width: none; }
.badge {
  display: inline-block; border-radius: 4px; padding: 0 7px; font-size: 12px; font-weight: 600;
  margin: 0 4px; }
.badge.ok { background: #dff1e6; color: #17613c; }
.badge.bad { background: #fbe1e1; color: #94201f; }
.badge.none { background: #eceff3; color: #4a5563; }
.note {
  border-left: 3px solid #c7ced8; background: var(--wash); padding: 7px 14px; font-size: 13.5px;
  margin: 0 0 14px; max-width: none; }
.note.bad { border-color: #c9403e; }
.note summary { cursor: pointer; font-weight: 600; }
.note ul { margin: 4px 0 0; padding-left: 18px; }
footer { color: var(--soft); font-size: 12.5px; padding: 18px 28px 40px; }
@media print { nav { display: none; } section { break-inside: avoid; } }
"""

"""Every view of a run as one HTML page that needs no network.

Text from files is escaped; the page forbids every connection by its own content policy. It is written aside
and renamed. A view that breaks shows its error in its section; the page is written all the same.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.lake.ledger import openings, told
from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.lake.run_folder import CODE, REPORT
from analysis.lake.several_runs import Runs
from analysis.report.figure import LARGE, POLICY, SEALED, embedded, library, packed
from analysis.report.first_screen import FirstScreen, Lead, first_screen
from analysis.report.html_table import grid
from analysis.report.section import ROWS, VIEWS, Section
from analysis.selection.mixture import mixtures, rows_of
from analysis.selection.sanity import checks
from analysis.selection.selection import cells, order_searches, split_of
from cl_core.aside import aside
from cl_core.errors import BadRequest, defined_at, located, source_of

ORDER = (
    "published",
    "selected_trials",
    "leaderboard",
    "final",
    "selection_gap",
    "survey",
    "split_effects",
    "worth",
    "accuracy_curves",
    "pareto_front",
    "forgetting",
    "task_curves",
    "stability_plasticity",
    "recency_bias",
    "old_and_new_errors",
    "task_confusion",
    "task_and_class",
    "class_drilldown",
    "weight_norms",
    "score_bias",
    "task_values",
    "hyperparameters",
    "best_tenth",
    "importance",
    "range_edges",
    "best_of_n",
    "winner_stability",
    "early_stopping",
    "training_loss",
    "time_spent",
    "failures",
    "class_orders",
    "variance_parts",
)
"""The order of sections; other views follow by name."""

OPEN = {
    "published",
    "leaderboard",
    "survey",
    "accuracy_curves",
    "pareto_front",
    "forgetting",
    "stability_plasticity",
}
"""The sections whose figure and table are in sight at once; others show their answer, and unfold."""

FAILED = "This view failed:"
"""The beginning of the text of a view that raised an error."""

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
    own = not isinstance(results, Runs) and path.resolve().parent == results.folder.resolve()
    page = render(results, beside=own)
    try:
        with aside(path) as hidden:
            hidden.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadRequest(
            f"cannot write {path}: {error.strerror or error}; make the folder writable"
        ) from error
    return path


def render(results: Results, beside: bool = True) -> str:
    """Return the page as text; it names its folders unless it lies `beside` the tables of one."""
    known = {*VIEWS.names(), *VIEWS.broken()}
    names = [n for n in ORDER if n in known] + sorted(known - {*ORDER})
    found = [(name, section(results, name)) for name in names]
    sections = [_shown(name, part) for name, part in found if not (part.optional and part.bare)]
    drawn = any(one["figure"] for one in sections)
    parts = results.parts if isinstance(results, Runs) else [results]
    runs = results.runs
    failed = runs[runs["status"] == "failed"]
    warnings = [*results.study.resolved.warnings, *mixtures(rows_of(runs))]
    return (
        _environment()
        .get_template("page.html")
        .render(
            marks=MARK,
            grid=grid,
            page={
                "title": results.study.name or results.folder.resolve().name,
                "policy": Markup(POLICY),
                "sealed": Markup(SEALED),
                "library": Markup(library()) if drawn else "",
                "line": _line(results),
                "first": _first(results),
                "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "labels": list(
                    dict.fromkeys(label for part in parts if (label := part.study.protocol.label))
                ),
                "facts": _facts(results),
                "known": {"scenario": results.scenarios, "label": results.labels},
                "sanity": _sanity(results),
                "failed": list(zip(failed["run"], failed["error"], strict=True)),
                "notes": [*(f"Warning: {text}" for text in warnings), *results.notices],
                "sections": sections,
                "beside": "beside this page"
                if beside and len(parts) == 1
                else "of " + ", ".join(part.place for part in parts),
            },
        )
    )


@cache
def _environment() -> Environment:
    """The templates of the page. Every text is escaped unless it is Markup."""
    loader = PackageLoader("analysis.report")
    out = Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    out.filters["formula"] = _formula
    return out


def _shown(name: str, part: Section) -> dict[str, Any]:
    """A section with its anchor and its figure as the template takes them."""
    anchor = re.sub(r"[^A-Za-z0-9]+", "-", name)
    figure = None if part.figure is None else embedded(part.figure)
    large = figure is not None and len(figure) >= LARGE
    text = None if figure is None else Markup(packed(figure) if large else figure)
    return {"id": anchor, "part": part, "figure": text, "packed": large, "folded": _folded(name, part)}


def _folded(name: str, part: Section) -> str:
    """The line that unfolds a section: what it holds; empty for one that is open."""
    if name in OPEN or not part.answer or part.bare:
        return ""
    count = len(part.tables) + (part.table is not None)
    tables = {0: "", 1: "table"}.get(count, f"{count} tables")
    held = " and ".join(filter(None, ["figure" if part.figure is not None else "", tables]))
    return held[:1].upper() + held[1:]


def section(results: Results, name: str) -> Section:
    """Draw a view, or a section with its one-line error."""
    title = name.replace("_", " ").capitalize()
    view: object = None
    try:
        view = VIEWS[name]
        found: object = VIEWS[name](results)
    except BadRequest as error:
        return Section(title, f"{FAILED} {error}")
    except Exception as error:  # whatever a view raises, the other views must stand
        return Section(title, f"{FAILED} {located(error, source_of(view))}")
    if isinstance(found, Section):
        return found
    rule = f"it must return a Section, not {type(found).__name__} ({defined_at(view)})"
    return Section(title, f"{FAILED} {rule}")


def _first(results: Results) -> FirstScreen:
    """Draw the first screen, or its one-line error: the sections must stand without it."""
    try:
        return first_screen(results)
    except BadRequest as error:
        text = str(error)
    except Exception as error:
        text = located(error, source_of(first_screen))
    return FirstScreen([Lead("", f"{FAILED} {text}")], None, "", [])


def _facts(results: Results) -> dict[str, str]:
    """The lines at the head of the page, by name."""
    data, runs = results.study.data, results.runs
    name = str(data.get("name") or ", ".join(map(str, dict.fromkeys(runs["dataset"]))))
    extra = {k: v for k, v in data.items() if k in ("size", "classes", "per_class") and v}
    status = runs["status"].value_counts()
    running = set(results.tasks["run"]) - set(runs["run"])
    counts = [f"{int(status.get(k, 0)):,} {k}" for k in ("completed", "stopped", "failed")]
    counts += [f"{len(running):,} unfinished"] if running else []
    return {
        "data": " ".join([name or "unknown", *(f"{k.replace('_', ' ')} {v}" for k, v in extra.items())]),
        "net": ", ".join(map(str, dict.fromkeys(runs["net"]))),
        "scenarios": ", ".join(results.scenarios),
        "methods": ", ".join(results.labels),
        "runs": ", ".join(counts),
        "protocol": _protocol(results),
        "test set": _test_set(results),
        "versions": _versions(results),
        "machine": _machine(results),
        "code": ", ".join(sorted({str(c) for c in runs["code"].dropna()})),
        "commit": _commit(results),
        "begun": str(_resolved(results).get("created") or ""),
        "devices": ", ".join(sorted({str(d) for d in runs["device"].dropna()})),
        "study digest": results.study.resolved.identity,
    }


def _line(results: Results) -> str:
    """The one line below the title: data, net, runs, and the day of the last run."""
    known = _facts(results)
    ended = results.runs["ended"].max()
    day = "" if pd.isna(ended) else f"last run {datetime.fromtimestamp(float(ended), UTC):%Y-%m-%d}"
    parts = [known["data"], known["net"], f"runs: {known['runs']}", known["machine"], day]
    return " · ".join(filter(None, parts))


def _resolved(results: Results) -> Mapping[str, Any]:
    found = results.study.plain.get("resolved")
    return found if isinstance(found, Mapping) else {}


def _machine(results: Results) -> str:
    """The machine that began the study: its GPUs or CPUs."""
    found = _resolved(results).get("hardware")
    if not isinstance(found, Mapping):
        return ""
    gpus = ", ".join(map(str, found.get("gpus") or ()))
    return gpus or (f"{found['cpus']} CPU cores" if found.get("cpus") else "")


def _commit(results: Results) -> str:
    """The git commits of the folders that the runs were started from, as in `code.json`."""
    found = []
    for part in results.parts if isinstance(results, Runs) else [results]:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.append(str(json.loads((part.folder / CODE).read_text(encoding="utf-8")).get("commit", "")))
    return ", ".join(dict.fromkeys(filter(None, found)))


def _protocol(results: Results) -> str:
    """The rule by which trials were selected, and the rows that it looked at."""
    parts = results.parts if isinstance(results, Runs) else [results]
    studies = [part.study for part in parts if "protocol" in part.study.plain]
    said = [", ".join(filter(None, (s.protocol.select_on, s.resolved.causal))) for s in studies]
    return "; ".join(dict.fromkeys(said))


def _test_set(results: Results) -> str:
    """Count the openings of the test set, by purpose."""
    parts = results.parts if isinstance(results, Runs) else [results]
    found = [opening for part in parts for opening in openings(part.folder)]
    return told(found)


def _sanity(results: Results) -> dict[str, Any]:
    """The check of every scenario's references, or the reason why there is none."""
    try:
        rows = checks(results)
    except BadRequest as error:
        return {"rows": [], "text": f"Sanity: {error}", "bad": True}
    if not rows:
        ended = "No run of a cell that compares methods" if order_searches(results) else "No run"
        return {"rows": [], "text": f"{ended} has ended yet.", "bad": False}
    return {"rows": rows, "split": ROWS[split_of(results, [c for c in cells(results) if len(c.best)])]}


def _versions(results: Results) -> str:
    """Versions by the study file, else by the newest run."""
    found: object = results.study.resolved.versions
    if not found:
        for text in results.runs["versions"].dropna().tail(1):
            with contextlib.suppress(ValueError):
                found = json.loads(str(text))
    return ", ".join(f"{k} {v}" for k, v in found.items()) if isinstance(found, Mapping) else ""


def _formula(text: str) -> Markup:
    """A formula with its subscripts `_x` and `_{...}`."""
    return Markup(re.sub(r"_(?:\{([^}]*)\}|([A-Za-z0-9]))", r"<sub>\1\2</sub>", str(escape(text))))

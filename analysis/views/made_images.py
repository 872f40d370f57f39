"""Images that methods make of old classes, as contact sheets."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.lake.run_folder import PICTURES, SHEETS
from analysis.report.section import VIEWS, Section
from analysis.report.style import panels, place

TITLE = "Made images"


@VIEWS.register("made_images")
def made_images(results: Results) -> Section:
    """The last contact sheet of each run that `cl-search pictures` has trained again."""
    sheets = _sheets(results)
    if not sheets:
        return Section(
            TITLE, "No images drawn: `cl-search pictures` trains a run again and draws them.", optional=True
        )
    last = {str(sheet["run"]): sheet for sheet in sheets}  # later tasks come last
    rows = [_row(sheet) for sheet in sheets]
    return Section(
        TITLE,
        "A row is an old class: the first of 256 images drawn. No image of an old task was read for them; "
        "exemplars of Mnemonics began as real images of their own task. The run was trained again.",
        [
            "class of an image: argmax of the previous network's logits; with MeRGAN the class that the "
            "generator was given, with Mnemonics that of the exemplar"
        ],
        f"n = {plural(len(rows), 'sheet')} of {plural(len(last), 'run')}; drawn: a run's last task",
        pd.DataFrame(rows),
        _figure(results, list(last.values())),
        optional=True,
        question="Which images do methods make of old classes?",
        answer=_answer(rows),
    )


def _sheets(results: Results) -> list[Mapping[str, Any]]:
    """The sheets in the folder whose file is there, in the order in which they were drawn."""
    path = results.folder / SHEETS
    if results.runs.empty or not path.is_file():
        return []
    known = json.loads(path.read_text(encoding="utf-8"))
    return [sheet for sheet in known if (results.folder / PICTURES / str(sheet["file"])).is_file()]


def _row(sheet: Mapping[str, Any]) -> dict[str, object]:
    label, _, scenario = str(sheet["cell"]).partition("@")
    return {
        "scenario": scenario,
        "label": label,
        "run": sheet["run"],
        "task": int(sheet["task"]),
        "classes seen in images": len(sheet["shown"]),
        "images shown": sum(sheet["shown"].values()),
        "file": f"{PICTURES}/{sheet['file']}",
    }


def _answer(rows: Sequence[Mapping[str, object]]) -> str:
    last = rows[-1]
    seen = last["classes seen in images"]
    classes = "class" if seen == 1 else "classes"
    return f"In task {last['task']}, images of {last['label']} show {seen} old {classes}."


def _figure(results: Results, sheets: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw a panel a run, with the picture as it is in the folder."""
    names = [f"{sheet['run']}, task {sheet['task']}" for sheet in sheets]
    figure = panels(names, columns=1, height=420)
    for index, sheet in enumerate(sheets):
        data = base64.b64encode((results.folder / PICTURES / str(sheet["file"])).read_bytes()).decode()
        figure.add_trace(go.Image(source=f"data:image/png;base64,{data}"), **place(index, figure))
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure

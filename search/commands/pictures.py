"""`pictures`: the images that a method makes of old classes, as contact sheets beside the tables.

Made images are not kept, so the run is trained again. Its networks are compared with the recorded ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis import open_results
from analysis.lake.run_folder import PICTURES, SHEETS, file_stem
from analysis.lake.run_rows import run_rows
from analysis.report.page import write_report
from cl_core.aside import aside
from cl_core.errors import BadRequest
from cl_core.images.contact_sheet import write_contact_sheet
from cl_core.images.view import View
from cl_core.method import METHODS, Method
from cl_core.own_code import only
from cl_core.rng import Streams
from cl_core.training.events import Event
from cl_core.training.trainer import Training
from search.preparation.recorded_run import recorded_spec
from search.worker.logs import checked_run, named_run
from search.worker.runner import cached_data

MADE, A_ROW = 256, 8  # images drawn, and shown of a class


def pictures(
    folder: Path, run: str, say: Callable[[str], None] = lambda line: None, own_code: bool = False
) -> list[Path]:
    """Train a recorded run again, and write one PNG for each task whose method makes images.

    The report is written anew. Code that the folder names as module:attribute is imported only with
    `own_code`. Raises BadRequest where there is no such run, or its method makes no images.
    """
    with only(None if own_code else ()):
        return _pictures(folder, run, say)


def _pictures(folder: Path, run: str, say: Callable[[str], None]) -> list[Path]:
    checked_run(run)
    rows = run_rows(folder)
    run = run if run in rows else named_run(run, rows)
    spec = recorded_spec(folder, rows[run])
    configuration = spec.configuration
    method = METHODS[configuration.method](configuration.hp)
    if type(method).pictures is Method.pictures:
        raise BadRequest(f"pictures draws images that a method makes, and {method.name} makes none: try abd")
    recorded = open_results(folder).read("tasks", [run]).set_index("task")["network"]
    found: dict[int, dict[str, np.ndarray]] = {}

    def watch(event: Event) -> None:
        if event.kind == "phase ends" and event.task.index:
            g = Streams(configuration.seed, event.task.index, ("contact sheet",))
            with torch.no_grad():
                made = method.pictures(event.state, event.task, MADE, g)
            if made is not None:
                found[event.task.index] = by_class(*made, event.view)

    training = Training(configuration, cached_data(configuration.data), watch=watch)
    sheets: list[dict[str, Any]] = []
    for task in range(rows[run]["tasks_done"]):
        result = training.next_task()
        if result.network != recorded.get(task):
            say(f"task {task}: the network is another than the recorded one, as code or machine differ")
        if task in found:
            path = folder / PICTURES / f"{file_stem(run)}-task{task}.png"
            write_contact_sheet(path, found[task])
            shown = {name: len(images) for name, images in found[task].items()}
            known = {"run": run, "label": spec.label, "cell": spec.cell, "task": task, "shown": shown}
            sheets.append({"file": path.name, **known})
    _note(folder, sheets)
    write_report(folder)
    return [folder / PICTURES / str(sheet["file"]) for sheet in sheets]


def by_class(x: torch.Tensor, y: torch.Tensor, view: View) -> dict[str, np.ndarray]:
    """Return the first images [n, H, W, C] uint8 of each class of y [N], by its name; x [N, C, H, W]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (view.data.mean, view.data.std))
    pixels = ((x.float().cpu() * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    images = pixels.permute(0, 2, 3, 1).numpy()
    labels = y.cpu().numpy()
    return {view.class_names[c]: images[labels == c][:A_ROW] for c in np.unique(labels).tolist()}


def _note(folder: Path, sheets: list[dict[str, Any]]) -> None:
    """Write down the sheets of a run, in place of earlier ones of the same files."""
    path = folder / SHEETS
    try:
        known: list[Mapping[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    except ValueError:  # damaged: what is drawn now is listed anew
        known = []
    files = {sheet["file"] for sheet in sheets}
    kept = [sheet for sheet in known if sheet["file"] not in files]
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as hidden:
        hidden.write_text(json.dumps([*kept, *sheets], indent=1), encoding="utf-8")

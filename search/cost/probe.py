"""Speed of a run here: a few steps of its first two tasks, through the runner that will carry it out."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.lake.run_folder import RESUME, bytes_below, tables_of
from cl_core.errors import RunError
from cl_core.images.dataset import Data, Images
from cl_core.images.loading import evenly
from cl_core.method import METHODS
from cl_core.records import TABLES
from cl_core.task import Task, no_rows
from cl_core.training.configuration import Configuration
from search.cost.dry_run import TaskCount, rehearse
from search.lake.writer import Schemas, start_tables, write_rows
from search.storage.scratch import scratch
from search.worker.runner import Runner
from spaces.resolved.run_spec import RunSpec

STEPS = 8  # of a task of the first probe
MOST = 2048  # images by which evaluation is timed


@dataclass(frozen=True)
class Pace:
    """Seconds and bytes of one run's parts. Task 0 is the base task; 1 stands for all later ones."""

    image: tuple[float, float]  # seconds an image-step of training, of tasks 0 and 1
    forward: float  # seconds an image in evaluation
    task: float  # seconds of a task beside these: rows and checkpoint written
    run: float  # seconds to set a run up
    checkpoint_bytes: int  # of a shared first task
    resume_bytes: int  # of a resume checkpoint
    kept_bytes: float  # per class, besides network and exemplars
    run_bytes: int  # of a run's files in the tables, before the first row
    row_bytes: Mapping[str, float]  # table -> bytes a row
    terms: tuple[float, float]  # rows of `phases` an epoch, of tasks 0 and 1
    classifiers: int


def probe(spec: RunSpec, data: Data, schemas: Schemas, seconds: float) -> tuple[Pace, Pace]:
    """Probe one run twice, for about `seconds` in all. Raises RunError where it fails.

    Only rows and epochs are cut: net, batch, device, threads and the method's phases are the run's own. The
    method is probed without chf and adaptive, since their attempts cost the same. The first steps of a
    process are slow, so a short probe goes before.
    """
    configuration = dataclasses.replace(spec.configuration, chf=None, adaptive=None)
    spec = dataclasses.replace(spec, configuration=configuration)
    cut = shortened(configuration, data)
    began = time.perf_counter()
    first = _once(spec, cut, schemas, 1)
    took = time.perf_counter() - began
    if 2 * took > seconds:
        return first, _once(spec, cut, schemas, 1)
    began = time.perf_counter()
    _once(spec, cut, schemas, 1)
    epochs = max(1, int((seconds - took) / 2 / (time.perf_counter() - began)))
    epochs = min(
        epochs,
        *(
            recipe.epochs
            for recipe in configuration.recipes(data, METHODS[configuration.method](configuration.hp))
        ),
    )
    return _once(spec, cut, schemas, epochs), _once(spec, cut, schemas, epochs)


def shortened(configuration: Configuration, data: Data) -> Data:
    """Cut the data to some steps of the first two tasks, and to almost no rows of later classes and test."""
    method = METHODS[configuration.method](configuration.hp)
    sizes = configuration.scenario.sizes(data.num_classes)
    order = configuration.order(data.num_classes, data.class_names)
    batch = max(recipe.batch for recipe in configuration.recipes(data, method))
    trained = max(2, method.images_a_class)  # beside rows held out; a task of one row is refused
    least = 1 + math.ceil(trained / (1 - configuration.validation))
    wanted = dict.fromkeys(range(data.num_classes), least)
    done = 0
    for size in sizes[:2]:
        each = math.ceil(STEPS * batch / size / (1 - configuration.validation))
        wanted |= dict.fromkeys(order[done : done + size], max(least, each))
        done += size
    train, test = _some(data.train, wanted), None
    if configuration.unsealed and data.test is not None:
        test = _some(data.test, dict.fromkeys(wanted, least))
    return dataclasses.replace(data, train=train, test=test, fingerprint="")


def _some(images: Images, wanted: Mapping[int, int]) -> Images:
    """Take at most so many images of each class."""
    parts = []
    for c, n in wanted.items():
        rows = np.flatnonzero(images.y == c)
        parts.append(rows[evenly(len(rows), n)])
    rows = np.sort(np.concatenate(parts))
    return Images(images.x[rows], images.y[rows])


def _once(spec: RunSpec, data: Data, schemas: Schemas, epochs: int) -> Pace:
    """Run one probe."""
    recipe: dict[str, Any] = dict(spec.configuration.recipe)
    for part in ("base", "increment"):
        recipe[part] = {**(recipe.get(part) or {}), "epochs": epochs}
    spec = dataclasses.replace(spec, configuration=dataclasses.replace(spec.configuration, recipe=recipe))
    counts = rehearse(spec.configuration, data)
    with scratch() as folder, _said() as said:
        start_tables(folder, schemas)
        empty = {table: bytes_below(tables_of(folder) / table) for table in TABLES}
        began = time.perf_counter()
        runner = Runner(spec, folder, folder / "checkpoints", data=data)
        setup = time.perf_counter() - began
        walls = []
        for _ in range(min(2, runner.training.tasks)):
            began = time.perf_counter()
            if runner.step().status == "failed":
                raise RunError(f"the probe of {spec.cell} failed: {said.getvalue().strip().splitlines()[-1]}")
            walls.append(time.perf_counter() - began)
        return _pace(runner, counts, walls, setup, empty, folder)


def _pace(
    runner: Runner,
    counts: list[TaskCount],
    walls: list[float],
    setup: float,
    empty: Mapping[str, int],
    folder: Path,
) -> Pace:
    results, training = runner.results, runner.training
    forward = _forward(runner)
    # Image-steps: a record leaves out images that only complete a last batch, which take time all the same.
    image = [result.seconds / count.images for result, count in zip(results, counts, strict=False)]
    beside = [
        wall - result.seconds - forward * (count.forwards + count.evaluated)
        for wall, result, count in zip(walls, results, counts, strict=False)
    ]
    checkpoints = folder / "checkpoints"
    own = training.resume_checkpoint_key(training.done - 1)
    row = runner.run_row("completed")
    write_rows(folder, "runs", runner.spec.run, [row], runner.schemas["runs"])
    base = (checkpoints / f"{training.base_key()}.safetensors").stat().st_size
    files = {t: bytes_below(tables_of(folder) / t) - empty[t] for t in TABLES}
    lines = {table: max(1, len(rows)) for table, rows in runner.rows.items()}
    seen = sum(training.sizes[: training.done])
    last = results[-1]
    terms = [
        len([r for r in runner.rows["phases"] if r["task"] == k]) / max(1, counts[k].epochs)
        for k in range(len(results))
    ]
    # An empty file of a table has its schema and nothing else; a run's own has that too.
    fixed = sum(min(empty[table], size) for table, size in files.items())
    resume = folder / RESUME / f"{own}.safetensors"
    return Pace(
        image=(image[0], image[-1]),
        forward=forward,
        task=max(0.0, float(np.mean(beside))),
        run=setup,
        checkpoint_bytes=base,
        resume_bytes=resume.stat().st_size if resume.exists() else base,
        kept_bytes=(last.kept_bytes - last.exemplar_bytes) / seen,
        run_bytes=fixed + max(0, files["runs"] - empty["runs"]),
        row_bytes={t: max(0, files[t] - empty[t]) / n for t, n in lines.items()},
        terms=(terms[0], terms[-1]),
        classifiers=len({r["classifier"] for r in runner.rows["classes"]}),
    )


@torch.no_grad()
def _forward(runner: Runner) -> float:
    """Return the seconds per image of the method's own answers."""
    training = runner.training
    sizes = training.sizes[: training.done]
    rows = training.view.rows(range(sum(sizes)))[:MOST]
    training.state.net.eval()
    task = Task(training.done - 1, sizes, no_rows(), training.base_recipe)
    took = []
    for _ in range(2):  # the first time is slower
        began = time.perf_counter()
        for batch in training.view.batches(rows):
            answers = training.method.scores(training.state, batch.x, task)
        float(next(iter(answers.values())).sum())  # waits for a GPU
        took.append(time.perf_counter() - began)
    return min(took) / len(rows)


@contextlib.contextmanager
def _said() -> Any:
    """Give the output of a failing run."""
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        yield text

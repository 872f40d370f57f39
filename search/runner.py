"""One run from plain values: trains task by task, writes its rows, keeps its resume point.

What `trial`, `--local` and every worker call. Nothing below this line knows Ray, Optuna, pydantic or plotly.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from cl_core.aside import aside
from cl_core.configuration import Configuration
from cl_core.dataset import Data, DataSpec, load
from cl_core.errors import BadRequest, ClSearchError
from cl_core.hparams import digest
from cl_core.keys import base_identity, base_stage_key, boundary_key, numerics_digest
from cl_core.metrics import summary
from cl_core.recipe import recipe_dict
from cl_core.records import ClassRow, ConfusionRow, Identity, PhaseRow, StageRow, TrialRow, as_dict
from cl_core.result import TaskResult
from cl_core.stages import Boundaries, StageStore
from cl_core.trainer import Training
from search.writer import Schemas, drop_trial, read_rows, study_schemas, write_rows

INCREMENTS = "average_incremental_accuracy_without_first"  # what stoppers compare
_TASK_TABLES = {"stages": "task", "phases": "task", "classes": "after_task", "confusion": "after_task"}


@dataclass(frozen=True)
class RunSpec:
    """A run and its place in a study."""

    trial: str
    cell: str
    label: str
    number: int
    purpose: str  # search | final | reference
    config: str  # digest of the sampled configuration
    configuration: Configuration
    objectives: tuple[str, ...] = ("average_incremental_accuracy",)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can carry."""
        return {
            **{k: getattr(self, k) for k in self.__dataclass_fields__},
            "configuration": self.configuration.to_dict(),
            "objectives": list(self.objectives),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """The run that `to_dict` described."""
        configuration = Configuration.from_dict(values["configuration"])
        objectives = tuple(values["objectives"])
        return cls(**{**values, "configuration": configuration, "objectives": objectives})


@dataclass(frozen=True)
class Progress:
    """What a run reports after a task, or when it has ended."""

    trial: str
    task: int  # the last finished one; -1 before the first
    tasks: int
    values: tuple[float | None, ...]  # the objectives over the tasks so far
    increments: float | None  # the accuracy over the increments so far, by which trials are stopped
    done: bool
    status: str  # running | completed | stopped | failed
    error: str | None = None

    @property
    def value(self) -> float | None:
        """The first objective."""
        return self.values[0]


class Runner:
    """One run, a task a step. Rows go below `folder`; with `folder` None nothing is kept.

    `stages` is the store's folder: the base stage is shared there, and the run resumes from its own last
    boundary. Construction raises BadRequest; a step never raises what concerns this run alone: it ends as
    "failed".
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: Path | None = None,
        stages: Path | None = None,
        schemas: Schemas | None = None,
        data: Data | None = None,
        attempt: int = 0,
        share: bool = True,
    ) -> None:
        self.spec, self.folder, self.attempt, self.share = spec, folder, attempt, share
        self.data = data if data is not None else cached_data(spec.configuration.data)
        self.schemas = schemas or study_schemas([spec.configuration.method])
        store = StageStore(stages) if stages is not None else None
        self.boundaries = None if folder is None or store is None else _boundaries(folder, spec)
        self.training = Training(spec.configuration, self.data, store, self.boundaries, share)
        self.started = time.time()
        self.results: list[TaskResult] = []
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in _TASK_TABLES}
        self.status = "running"
        if folder is not None:
            self._take_up(folder)

    @property
    def split(self) -> str:
        """The split whose counts the objective and the metrics are computed on."""
        return "val" if self.spec.configuration.validation else "test"

    def step(self) -> Progress:
        """Train one task, write its rows, keep its boundary. A failure ends the run with its row."""
        try:
            if not self.training.finished:
                result = self.training.next_task()
                self.results.append(result)
                self._record(result)
                self.training.keep_boundary()
            if self.training.finished:
                self._end("completed")
        except Exception as error:
            return self.fail(error)
        return self.progress()

    def fail(self, error: BaseException) -> Progress:
        """End the run as failed; the row has the error's first line, its traceback goes to the log."""
        import traceback

        traceback.print_exception(error, file=sys.stderr)
        first = (str(error).strip().splitlines() or [""])[0]
        message = first if isinstance(error, ClSearchError) else f"{type(error).__name__}: {first}"
        try:
            self._end("failed", message)
        except (ClSearchError, OSError) as second:
            traceback.print_exception(second, file=sys.stderr)
        self.status = "failed"
        return self.progress(message)

    def stop(self) -> Progress:
        """End the run early: its rows stay, its status is "stopped"."""
        if self.status == "running":
            self._end("stopped")
        return self.progress()

    def progress(self, error: str | None = None) -> Progress:
        """Where the run stands."""
        known = {**self.metrics(), **costs(self.rows["stages"])}
        return Progress(
            self.spec.trial,
            self.training.done - 1,
            self.training.tasks,
            tuple(known.get(name) for name in self.spec.objectives),
            known.get(INCREMENTS),
            self.status != "running",
            self.status,
            error,
        )

    def metrics(self, split: str | None = None) -> dict[str, float | None]:
        """The metrics of the primary classifier over the tasks so far."""
        confusions = self.confusions(split or self.split)
        return summary(confusions, self.training.sizes[: len(confusions)]) if confusions else {}

    def confusions(self, split: str) -> list[np.ndarray]:
        """The primary classifier's confusion counts after each task so far, from the rows."""
        return primary_confusions(self.rows, self.training.sizes, split)

    def save_model(self, path: Path) -> None:
        """Write the network as safetensors, with what prediction needs in its metadata."""
        meta = {
            "class_names": list(
                self.training.view.class_names[: sum(self.training.sizes[: self.training.done])]
            ),
            "mean": self.data.mean,
            "std": self.data.std,
            "shape": self.data.shape,
            "net": self.spec.configuration.net or self.data.net,
            "method": self.spec.configuration.method,
            "classifier": self.training.method.primary(),
        }
        tensors = self.training.state.tensors()
        try:
            with aside(path) as hidden:
                save_file(tensors, hidden, metadata={"cl_search": json.dumps(meta)})
        except (OSError, SafetensorError) as error:
            raise BadRequest(f"the model must be written to a writable place: {path}: {error}") from error

    def _take_up(self, folder: Path) -> None:
        # Rows of finished tasks count only where a boundary stands to go on from: the rest is trained again.
        done = self.training.done
        for table, column in _TASK_TABLES.items():
            rows = read_rows(folder, table, self.spec.trial)
            self.rows[table] = [row for row in rows if row[column] < done]
        tasks = [{row[column] for row in self.rows[table]} for table, column in _TASK_TABLES.items()]
        if any(found != set(range(done)) for found in tasks):  # of a damaged file, all is trained again
            self.training.forget_boundaries()
            again = (self.spec.configuration, self.data, self.training.store)
            self.training = Training(*again, self.boundaries, self.share)
            self.rows = {table: [] for table in _TASK_TABLES}
        drop_trial(folder, self.spec.trial, ["trials"])

    def _record(self, result: TaskResult) -> None:
        for table, rows in task_rows(_identity(self.spec), self.training, result).items():
            self.rows[table] += rows
            if self.folder is not None:
                write_rows(self.folder, table, self.spec.trial, self.rows[table], self.schemas[table])

    def _end(self, status: str, error: str | None = None) -> None:
        if self.folder is not None:
            row = self.trial_row(status, error)
            write_rows(self.folder, "trials", self.spec.trial, [row], self.schemas["trials"])
        self.status = status
        self.training.forget_boundaries()

    def trial_row(self, status: str, error: str | None = None) -> dict[str, Any]:
        """The row of the `trials` table as things stand."""
        here = {
            "numerics": self.training.numerics,
            "wall_seconds": time.time() - self.started,
            "started": self.started,
            "ended": time.time(),
            "attempt": self.attempt,
            "threads": torch.get_num_threads(),
            "device": str(self.training.device),
            "precision": self.training.precision,
            "versions": json.dumps(versions(), sort_keys=True),
        }
        return {**trial_row(self.spec, self.data, self.rows, status, error), **here}


def end_from_rows(
    spec: RunSpec, folder: Path, schemas: Schemas, status: str, error: str | None = None
) -> None:
    """End a run whose worker will not: write its `trials` row from the rows on disk, remove its boundary.

    It needs neither the worker's device nor its network, so a driver without a GPU can do it.
    """
    data = cached_data(spec.configuration.data)
    rows = {table: read_rows(folder, table, spec.trial) for table in _TASK_TABLES}
    known = {row["numerics"] for row in rows["stages"]}
    row = trial_row(spec, data, rows, status, error)
    row |= {"ended": time.time(), "numerics": known.pop() if len(known) == 1 else None}
    write_rows(folder, "trials", spec.trial, [row], schemas["trials"])
    own = _boundaries(folder, spec)
    for stage in rows["stages"]:
        key = boundary_key(spec.configuration, data, stage["numerics"], stage["task"], own.scope)
        own.store.remove(key)


def _boundaries(folder: Path, spec: RunSpec) -> Boundaries:
    """Boundaries lie in the run's own folder, even where the first tasks are shared with other runs."""
    return Boundaries(StageStore(folder / "stages"), spec.trial)


def trial_row(
    spec: RunSpec, data: Data, rows: Mapping[str, list[dict[str, Any]]], status: str, error: str | None = None
) -> dict[str, Any]:
    """The row of the `trials` table that a run's other rows give; of the machine it says nothing."""
    configuration = spec.configuration
    method = configuration.make_method()
    sizes = configuration.scenario.sizes(data.num_classes)
    split = "val" if configuration.validation else "test"
    confusions = primary_confusions(rows, sizes, split)
    metrics: dict[str, Any] = dict(summary(confusions, sizes[: len(confusions)])) if confusions else {}
    metrics |= costs(rows["stages"])
    row = TrialRow(
        **_identity(spec),
        config=spec.config,
        number=spec.number,
        purpose=spec.purpose,
        dataset=data.name,
        scenario=configuration.scenario.name,
        base=sizes[0],
        increments=",".join(map(str, sizes[1:])),
        class_order=configuration.class_order or configuration.scenario.class_order,
        seed=configuration.seed,
        net=configuration.net or data.net,
        status=status,
        split=split,
        tasks=len(sizes),
        tasks_done=len(confusions),
        error=error,
        objective=metrics.get(spec.objectives[0]),
        **metrics,
    )
    recipes = zip(("base", "increment"), configuration.recipes(data, method), strict=True)
    return {
        **as_dict(row),
        **{f"hp.{name}": value for name, value in method.values().items()},
        **{f"recipe.{part}.{n}": v for part, recipe in recipes for n, v in recipe_dict(recipe).items()},
    }


def costs(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run has cost so far, from its rows in `stages`, by the names of `cl_core.metrics.COSTS`."""
    last = max(stages, key=lambda stage: stage["task"], default=None)
    return {
        "kept_bytes": last and last["kept_bytes"],
        "seconds": sum(stage["seconds"] for stage in stages),
    }


def primary_confusions(
    rows: Mapping[str, list[dict[str, Any]]], sizes: tuple[int, ...], split: str
) -> list[np.ndarray]:
    """The primary classifier's counts [seen, seen] after each task that has a row in `stages`."""
    out = [np.zeros((k, k), dtype=np.int64) for k in np.cumsum(sizes)[: len(rows["stages"])]]
    for row in rows["confusion"]:
        if row["primary"] and row["split"] == split and row["after_task"] < len(out):
            out[row["after_task"]][row["true_class"], row["predicted_class"]] = row["count"]
    return out


def _identity(spec: RunSpec) -> dict[str, Any]:
    return as_dict(Identity(spec.cell, spec.label, spec.configuration.method, spec.trial))


def task_rows(
    identity: dict[str, Any], training: Training, result: TaskResult
) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table but `trials` that one task leaves."""
    stage = StageRow(
        **identity,
        task=result.task,
        stage=result.stage,
        classes=result.classes,
        images=result.images,
        exemplars=result.exemplars,
        exemplar_bytes=result.exemplar_bytes,
        kept_bytes=result.kept_bytes,
        numerics=training.numerics,
        key=result.key,
        note=result.note,
        teacher_agreement=result.teacher_agreement,
        shared=result.shared,
        seconds=result.seconds,
        peak_memory_bytes=result.peak_memory_bytes,
    )
    force = {
        **{f"hp.{name}": value for name, value in training.method.values().items()},
        **{f"recipe.{name}": value for name, value in result.recipe.items()},
    }
    rows: dict[str, list[dict[str, Any]]] = {
        "stages": [{**as_dict(stage), **force}],
        "classes": [],
        "confusion": [],
    }
    rows["phases"] = [as_dict(PhaseRow(**identity, task=result.task, **asdict(p))) for p in result.phases]
    task_of = [t for t, size in enumerate(training.sizes) for _ in range(size)]
    names = training.view.class_names
    for e in result.evaluations:
        for c in range(len(e.confusion)):
            row = ClassRow(
                **identity,
                split=e.split,
                after_task=result.task,
                classifier=e.classifier,
                primary=e.primary,
                class_=c,
                class_name=names[c],
                task=task_of[c],
                n=int(e.confusion[c].sum()),
                correct=int(e.confusion[c, c]),
                correct_within_task=int(e.correct_within_task[c]),
                predicted=int(e.confusion[:, c].sum()),
                mean_true_score=float(e.mean_true_score[c]),
                mean_other_score=None if e.mean_other_score is None else float(e.mean_other_score[c]),
                weight_norm=float(e.weight_norm[c]),
                bias=None if e.bias is None else float(e.bias[c]),
            )
            rows["classes"].append(as_dict(row))
        for t, p in zip(*(index.tolist() for index in np.nonzero(e.confusion)), strict=True):
            cell = ConfusionRow(
                **identity,
                split=e.split,
                after_task=result.task,
                classifier=e.classifier,
                primary=e.primary,
                true_class=t,
                predicted_class=p,
                count=int(e.confusion[t, p]),
            )
            rows["confusion"].append(as_dict(cell))
    return rows


@lru_cache(maxsize=2)
def _cached(spec: DataSpec) -> Data:
    return load(spec)


def cached_data(spec: DataSpec) -> Data:
    """The data set, kept for the next run of this process."""
    return _cached(spec)


def base_key(configuration: Configuration, data: Data) -> str:
    """Equal for runs that share a first task, whatever the machine."""
    return digest(base_identity(configuration, data))


def base_ready(configuration: Configuration, data: Data, stages: Path) -> bool:
    """Whether the base stage of a run stands in the store, for a machine like this one."""
    return base_stage_key(configuration, data, numerics_digest(configuration)) in StageStore(stages)


def train_base(configuration: Configuration, stages: Path, data: Data | None = None) -> str:
    """Train and publish the base stage of a run, unless it stands; returns its key. Raises ClSearchError."""
    data = data if data is not None else cached_data(configuration.data)
    training = Training(configuration, data, StageStore(stages))
    training.train_base()
    return training.base_key()


def config_digest(values: Mapping[str, Any]) -> str:
    """The digest that groups the runs of one sampled configuration."""
    return digest(dict(values), 16)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    try:
        own = importlib.metadata.version("cl-search")
    except importlib.metadata.PackageNotFoundError:
        own = "source"
    return {"cl-search": own, "torch": torch.__version__, "python": ".".join(map(str, sys.version_info[:3]))}

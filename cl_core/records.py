"""The rows that a run leaves behind: frozen dataclasses, which are the Parquet schema.

A field's name is the column's name (a trailing underscore is dropped: `class_` is the column `class`). A
field marked `volatile` may differ between two equal runs (time, memory, device); comparisons leave it out.
The columns `hp.*` and `recipe.*` are the union over a study's methods, so they are added when the study is
resolved. Accuracies are fractions; tasks are 0-based; classes are numbered in arrival order.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any

import numpy as np

SCHEMA_VERSION = 5
OWN_DEFAULT = -1  # the trial number of the published default where the search has no trial for it
REUSED = 1_000_000  # trials that share the training of trial n have the numbers n + REUSED, n + 2 REUSED, ...
CONFIRM = "confirm"  # the purpose of a run that confirms a selection on a fresh class order
SEARCHING = ("search", CONFIRM)  # the purposes of the runs that decide a selection
ORACLE = "selected on the test split (oracle-test)"  # must stand beside every number of such a study


def trained_by(trial: int) -> int:
    """Return the number of the trial whose training a trial shares: its own, unless it is reused."""
    return trial % REUSED if trial >= REUSED else trial


def volatile(default: Any = dataclasses.MISSING) -> Any:
    """A field that may differ between equal runs."""
    return dataclasses.field(default=default, metadata={"volatile": True})


@dataclass(frozen=True)
class Identity:
    """The four columns that every table begins with."""

    cell: str
    label: str
    method: str
    run: str


@dataclass(frozen=True)
class RunRow(Identity):
    """One run: trial x class order x seed. Metrics are those of the primary classifier on `split`."""

    trial: int  # number of the trial in its cell
    trial_digest: str  # of its values: equal over class orders and seeds
    purpose: str  # search | confirm | final | reference
    dataset: str
    scenario: str
    base: int  # classes of the first task
    increments: str  # classes of the later tasks: "2,2,2,2"
    class_order: str
    seed: int
    net: str
    status: str  # completed | stopped | failed
    split: str  # val | test
    tasks: int
    tasks_done: int
    reuses: int | None = None  # the trial whose training this one shares, under `search.reuse`
    error: str | None = None  # first line
    objective: float | None = None  # the first objective's value of this run
    average_incremental_accuracy: float | None = None
    average_incremental_accuracy_without_first: float | None = None
    average_incremental_accuracy_task_mean: float | None = None
    first_task_accuracy: float | None = None
    last_accuracy: float | None = None
    last_accuracy_task_mean: float | None = None
    forgetting: float | None = None
    backward_transfer: float | None = None
    old_new_gap: float | None = None
    kept_bytes: int | None = None  # as in `tasks`, after the last task done
    parameters: int | None = None  # as in `tasks`, after the last task done
    flops: int | None = None  # as in `tasks`, after the last task done
    # The task after which the stopper would have ended this run; depends on the runs beside it.
    audited_after: int | None = volatile(None)
    numerics: str | None = None  # as in `tasks`
    code: str | None = volatile(None)  # digest of the code that trained it: see `cl_core.training.code`
    seconds: float | None = volatile(None)  # of training, wherever it happened
    wall_seconds: float | None = volatile(None)  # from start to end of this run here
    started: float | None = volatile(None)  # Unix time
    ended: float | None = volatile(None)
    attempt: int = volatile(0)
    threads: int | None = volatile(None)
    device: str | None = volatile(None)
    precision: str | None = volatile(None)
    versions: str | None = volatile(None)  # JSON: {"torch": ..., "cl-search": ...}


@dataclass(frozen=True)
class TaskFacts:
    """One task of one run: what was trained, what is kept, what it cost."""

    network: str  # digest: equal for equal networks after this task
    classes: int  # of this task
    images: int  # of training, counted in every pass; not those that only complete a last batch
    exemplars: int  # kept after this task
    exemplar_bytes: int
    kept_bytes: int  # exemplars, prototypes, covariances, generators; never teacher or network
    numerics: str  # digest of what decides the bits on the machine: torch, device, threads, dtype
    parameters: int | None = None  # of the networks that answer; of their heads, in the rows of seen classes
    flops: int | None = None  # of one image through the networks that answer: matrix products, convolutions
    checkpoint: str | None = None  # its address: the name of its file in the checkpoint store
    note: str | None = None  # a fallback that was taken
    teacher_agreement: float | None = None  # share of validation images of old classes with its answer
    attempts: str | None = None  # under adaptive, JSON: [{"values": {"hp.kd_weight": 1.0}, "accuracy": ...}]
    shared: bool = volatile(False)  # the network came from the checkpoint store
    seconds: float = volatile(0.0)  # of training, wherever it happened
    peak_memory_bytes: int | None = volatile(None)


@dataclass(frozen=True)
class TaskIdentity(Identity):
    """A task of a run."""

    task: int


@dataclass(frozen=True)
class TaskRow(TaskFacts, TaskIdentity):
    """One task of one run: what was trained, what is kept, what it cost."""


@dataclass(frozen=True)
class PhaseValue:
    """The mean of one loss term over one epoch, in which a step counts by its images."""

    phase: str
    epoch: int
    term: str
    value: float
    weight: float
    learning_rate: float


@dataclass(frozen=True)
class PhaseRow(PhaseValue, TaskIdentity):
    """The mean of one loss term over one epoch; the objective is the sum of value x weight."""


@dataclass(frozen=True)
class ClassRow(Identity):
    """One class, seen after one task by one classifier."""

    split: str  # val | test
    after_task: int
    classifier: str  # head | nearest-mean | corrected | ...
    primary: bool
    class_: int
    class_name: str
    task: int  # of the class
    n: int
    correct: int
    correct_within_task: int  # answers restricted to the classes of its own task
    predicted: int  # times this class was answered
    mean_true_score: float | None = None  # mean logit (or score) of the true class
    mean_other_score: float | None = None  # mean of the largest other
    weight_norm: float | None = None  # of the class's head row
    bias: float | None = None
    correct_rows: bytes | None = None  # one bit an image of the class, in file order: see `unpack_rows`


@dataclass(frozen=True)
class ConfusionRow(Identity):
    """The number of images of `true_class` answered with `predicted_class`; zero counts are left out."""

    split: str
    after_task: int
    classifier: str
    primary: bool
    true_class: int
    predicted_class: int
    count: int


TABLES: dict[str, type] = {
    "runs": RunRow,
    "tasks": TaskRow,
    "phases": PhaseRow,
    "classes": ClassRow,
    "confusion": ConfusionRow,
}

SORT: dict[str, tuple[str, ...]] = {
    "runs": ("run",),
    "tasks": ("run", "task"),
    "phases": ("run", "task", "phase", "epoch", "term"),
    "classes": ("run", "split", "after_task", "classifier", "class"),
    "confusion": ("run", "split", "after_task", "classifier", "true_class", "predicted_class"),
}
"""The columns that identify a row of each table; gathered files are sorted by them."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: type  # str, int, float, bool or bytes
    nullable: bool
    volatile: bool = False


def columns(table: str) -> list[Column]:
    """The fixed columns of a table; `hp.*` and `recipe.*` come on top, per study."""
    row = TABLES[table]
    hints = typing.get_type_hints(row)
    out = []
    for field in dataclasses.fields(row):
        hint, nullable = hints[field.name], False
        if isinstance(hint, types.UnionType):
            (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
            nullable = True
        out.append(Column(field.name.rstrip("_"), hint, nullable, bool(field.metadata.get("volatile"))))
    return out


def as_dict(row: Identity) -> dict[str, Any]:
    """A row as column name -> value."""
    return {f.name.rstrip("_"): getattr(row, f.name) for f in dataclasses.fields(row)}


def pack_rows(right: np.ndarray) -> bytes:
    """Pack [n] bool, one a row, into bits: the column `correct_rows`. The last byte is filled with zeros."""
    return np.packbits(right).tobytes()


def unpack_rows(bits: bytes, n: int) -> np.ndarray:
    """Return [n] bool of a value of the column `correct_rows`; n is the column `n` beside it."""
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=n).astype(bool)

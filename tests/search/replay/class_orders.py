"""A recorded benchmark of tuning in continual learning: every configuration of a grid on eight class orders.

A cell is one method on one scenario: about 100 configurations, the published default among them, each
trained on the same eight class orders of ten classes of Tiny ImageNet at 16 pixels. The table
class_orders.parquet has a row for each cell, trial, class order and task: counts on validation and on test
rows of the classes seen so far, and one bit for each validation row. The searches are study files in
studies/; that of iCaRL on B4-inc2 is not recorded. To record one (20 to 60 minutes on one core):

    cl-search run tests/search/replay/studies/lwf-B4-inc2.yaml --local
    python -m tests.search.replay.class_orders runs/lwf-B4-inc2

The study files select on test rows only because a run is then measured on both splits; what is tuned here is
tuned on the validation rows. Readers need `recorded`, and nothing else of this project.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.lake.results import Results
from analysis.lake.searched_space import spaces
from analysis.selection.points import points
from cl_core.errors import BadRequest
from cl_core.records import unpack_rows
from cl_core.scenarios.class_orders import class_order

FILE = Path(__file__).with_name("class_orders.parquet")
CLASSES = 10  # of every cell
KEYS = ["cell", "trial", "class_order", "task"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """One cell: N trials on O class orders of T tasks. `default` is the trial of the published default."""

    cell: str
    method: str
    values: pd.DataFrame  # [N, axes]: what a trial searched
    points: Floats  # [N, D]: the same in the unit cube
    orders: tuple[str, ...]  # O names of class orders
    default: int
    validation: Floats  # [N, O, T]: accuracy on the validation rows of the classes seen so far
    test: Floats  # [N, O, T]
    images: NDArray[np.int64]  # [N, O, T]: of training
    rows: tuple[NDArray[np.bool_], ...]  # T of [N, O, n]: right answers on validation rows

    @property
    def base(self) -> float:
        """The cost of a first task, in runs: its images over those of the increments of one run."""
        return float(self.images[:, :, 0].mean() / self.images[:, :, 1:].sum(axis=2).mean())

    @property
    def classes(self) -> tuple[slice, ...]:
        """The validation rows of every class, all as many."""
        count = self.rows[-1].shape[2] // CLASSES
        return tuple(slice(count * c, count * (c + 1)) for c in range(CLASSES))

    @cached_property
    def shares(self) -> Floats:
        """The part of the average incremental accuracy that every validation row adds, [N, O, rows]."""
        trials, orders, tasks = self.validation.shape
        out = np.zeros((trials, orders, self.rows[-1].shape[2]))
        for at, name in enumerate(self.orders):
            order = class_order(name, CLASSES)
            for answers in self.rows:
                count = answers.shape[2]
                seen = sorted(order[: count * CLASSES // out.shape[2]])
                rows = np.concatenate([np.r_[self.classes[c]] for c in seen])
                out[:, at, rows] += answers[:, at] / (tasks * count)
        return out


def recorded_rows(results: Results) -> pd.DataFrame:
    """Return the rows of a run folder. Raises BadRequest where it is not carried out to the end."""
    runs = results.runs
    planned = results.study.plain["search"]["trials"] * results.study.protocol.runs
    if len(runs) < planned or not (runs["status"] == "completed").all():
        raise BadRequest(f"{results.folder} is not carried out to the end: continue it first")
    ((cell, space),) = (spaces(results) or {}).items()
    unit = points(space, runs)
    # The published rates are for SGD; under Adam the default is to go on with the rate of the first task.
    published = {p.column: p.default for p in space} | {"recipe.increment.lr": runs["recipe.base.lr"]}
    defaults = np.all([runs[p.column] == published[p.column] for p in space if not p.single], axis=0)
    if not defaults.any():
        raise BadRequest(f"the grid of {results.folder} lacks the published default: add its values")
    wide = pd.DataFrame(
        {
            "cell": cell,
            "run": runs["run"],
            "method": runs["method"],
            "trial": runs["trial"],
            "class_order": runs["class_order"],
            "default": defaults,
            **{p.short: runs[p.column] for p in space if not p.single},
            **{f"unit.{index}": unit[:, index] for index in range(unit.shape[1])},
        }
    )
    tasks = results.tasks[["run", "task", "images"]]
    classes = results.classes[results.classes["primary"]].sort_values(["run", "after_task", "class_name"])
    counts = classes.groupby(["run", "after_task", "split"])[["n", "correct"]].sum().unstack("split")
    counts.columns = [f"{split}_{name}" for name, split in counts.columns]
    val = classes[classes["split"] == "val"]
    bits = val.groupby(["run", "after_task"])[["correct_rows", "n"]].apply(_joined).rename("val_rows")
    measured = counts.join(bits).reset_index().rename(columns={"after_task": "task"})
    table = wide.merge(tasks, on="run").merge(measured, on=["run", "task"]).drop(columns="run")
    return table.sort_values(KEYS, ignore_index=True)


def _joined(classes: pd.DataFrame) -> bytes:
    """Return the bits of all classes of a run after a task, class by class in the order of their names."""
    parts = [unpack_rows(bits, n) for bits, n in zip(classes["correct_rows"], classes["n"], strict=True)]
    return np.packbits(np.concatenate(parts)).tobytes()


@cache
def recorded() -> dict[str, Recorded]:
    """Return every recorded cell, by name."""
    table = pd.read_parquet(FILE)
    return {str(cell): _cell(str(cell), rows) for cell, rows in table.groupby("cell")}


def _cell(cell: str, table: pd.DataFrame) -> Recorded:
    table = table.dropna(axis=1, how="all").sort_values(KEYS)
    trials, orders, tasks = (table[key].nunique() for key in KEYS[1:])
    shape = trials, orders, tasks
    first = table.drop_duplicates("trial")
    unit = [name for name in first if name.startswith("unit.")]
    known = {
        *KEYS,
        "method",
        "default",
        "images",
        "val_n",
        "val_correct",
        "test_n",
        "test_correct",
        "val_rows",
    }
    bits = [unpack_rows(bits, n) for bits, n in zip(table["val_rows"], table["val_n"], strict=True)]
    return Recorded(
        cell,
        str(first["method"].iloc[0]),
        first[[name for name in first if name not in known and name not in unit]].reset_index(drop=True),
        first[unit].to_numpy(dtype=float),
        tuple(map(str, table["class_order"].unique())),
        int(np.flatnonzero(first["default"])[0]),
        (table["val_correct"] / table["val_n"]).to_numpy().reshape(shape),
        (table["test_correct"] / table["test_n"]).to_numpy().reshape(shape),
        table["images"].to_numpy().reshape(shape),
        tuple(np.stack(bits[t::tasks]).reshape(trials, orders, -1) for t in range(tasks)),
    )


def main(folders: list[str]) -> None:
    """Add run folders to the table, in place of the same cells there."""
    if not folders:
        raise SystemExit("usage: python -m tests.search.replay.class_orders RUN_FOLDER...")
    try:
        new = [recorded_rows(Results(Path(folder).expanduser())) for folder in folders]
    except BadRequest as error:
        raise SystemExit(f"error: {error}") from None
    table = pd.concat(new, ignore_index=True)
    if FILE.exists():
        old = pd.read_parquet(FILE)
        table = pd.concat([old[~old["cell"].isin(table["cell"])], table], ignore_index=True)
    table.sort_values(KEYS, ignore_index=True).to_parquet(FILE, compression="zstd", index=False)
    print(f"{table['cell'].nunique()} cells, {len(table)} rows -> {FILE}")


if __name__ == "__main__":
    main(sys.argv[1:])

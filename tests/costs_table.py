"""The table of costs in cl_core/README.md: time, bytes, parameters and FLOPs of every method of `survey-all`.

python -m tests.costs_table [--time] [--rounds 5] [--write]

Bytes, parameters and FLOPs are the same on every machine. Times are measured with --time alone, and only a
quiet machine gives times worth writing; without it, --write keeps those that the page has. A time is one
increment over one of LwF, trained right before it. The first round trains the base tasks for all.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cl_core.images.loading import load
from cl_core.training.checkpoints import CheckpointStore
from cl_core.training.trainer import Training
from spaces.resolved.cell import Cell
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.study.study_file import load_study

PAGE = Path(__file__).parents[1] / "cl_core/README.md"
MARKS = ("<!-- costs -->\n", "<!-- /costs -->")
HEAD = ("method", "time of an increment, over LwF's", "kept bytes", "parameters", "FLOPs of an image")
SETS = ("scenarios=[B4-inc2]", "recipe.net=resnet32")
SIZED = ("data={name: synthetic, size: 32, classes: 8}", "data.per_class=24", "recipe.epochs=1")
TIMED = ("data={name: synthetic, size: 16, classes: 6}", "data.per_class=32", "recipe.epochs=2")
REFERENCE = "lwf"

Costs = tuple[int, int, int]  # kept bytes, parameters, FLOPs


def study_on(images: Sequence[str]) -> ResolvedStudy:
    """Return `survey-all` on small images: a cell a method."""
    study = load_study("survey-all", [*SETS, *images])
    return resolve(study, load(study.tuning_data))


def costs(study: ResolvedStudy) -> dict[str, Costs]:
    """Train every label once; its values are those after the last task."""
    out = {}
    for cell in study.cells:
        training = Training(study.first_run(cell), study.data, measure=False)
        last = [training.next_task() for _ in range(training.tasks)][-1]
        out[cell.label] = (last.kept_bytes, last.parameters, last.flops)
    return out


def round_of_times(study: ResolvedStudy, store: CheckpointStore) -> dict[str, float]:
    """Return the time of each label's increment over that of the reference, which is trained before each."""
    (reference,) = (cell for cell in study.cells if cell.label == REFERENCE)
    return {
        cell.label: 1 / _seconds(study, reference, store) * _seconds(study, cell, store)
        for cell in study.cells
    }


def _seconds(study: ResolvedStudy, cell: Cell, store: CheckpointStore) -> float:
    training = Training(study.first_run(cell), study.data, store, measure=False)
    training.next_task()
    return training.next_task().seconds


def table(found: Mapping[str, Costs], times: Mapping[str, str]) -> str:
    """Return the table; a method without a time has a dash."""
    rows = [
        f"| `{name}` | {times.get(name, '–')} | {' | '.join(f'{value:,}' for value in values)} |\n"
        for name, values in found.items()
    ]
    return f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}\n" + "".join(rows)


def timed(rounds: int) -> dict[str, str]:
    """Return each method's median over rounds."""
    study = study_on(TIMED)
    with TemporaryDirectory() as folder:
        found = [round_of_times(study, CheckpointStore(Path(folder))) for _ in range(rounds)]
    return {name: f"{statistics.median(one[name] for one in found):.2f}" for name in found[0]}


def written() -> str:
    """Return the table that stands on the page."""
    return PAGE.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]


def times_of(text: str) -> dict[str, str]:
    """Return the times of a table by method, without dashes."""
    cells = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    return {row[0].strip("`"): row[1] for row in cells if _is_number(row[1])}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the costs of every method.")
    parser.add_argument("--time", action="store_true", help="measure times; only on a quiet machine")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds over all methods, with --time (default 5)"
    )
    parser.add_argument("--write", action="store_true", help="write the table into cl_core/README.md")
    asked = parser.parse_args()
    times = timed(asked.rounds) if asked.time else times_of(written())
    made = table(costs(study_on(SIZED)), times)
    if asked.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(text.replace(MARKS[0] + written(), MARKS[0] + made), encoding="utf-8")
    print(made, end="")

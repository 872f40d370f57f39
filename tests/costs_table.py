"""The table of costs in cl_core/README.md: time, bytes and parameters of every method of `survey-all`.

python -m tests.costs_table [--time] [--rounds 5] [--write]

Bytes and parameters are the same on every machine. Times are measured with --time alone, and only a quiet
machine gives times worth writing; without it, --write keeps those that the page has.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from cl_core.images.loading import load
from cl_core.training.trainer import Training
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.study.study_file import load_study

PAGE = Path(__file__).parents[1] / "cl_core/README.md"
MARKS = ("<!-- costs -->\n", "<!-- /costs -->")
HEAD = ("method", "time of an increment, over LwF's", "kept bytes", "parameters")
SETS = ("data={name: synthetic, size: 32, classes: 8}", "scenarios=[B4-inc2]", "recipe.net=resnet32")
FEW, TIMED = (("data.per_class=24", "recipe.epochs=1"), ("data.per_class=64", "recipe.epochs=2"))
REFERENCE = "lwf"

Costs = tuple[float, int, int]  # seconds of an increment, kept bytes, parameters


def measured_study(timed: bool) -> ResolvedStudy:
    """Return `survey-all` on small images: a cell a method, with more of them for times."""
    study = load_study("survey-all", [*SETS, *(TIMED if timed else FEW)])
    return resolve(study, load(study.tuning_data))


def costs(study: ResolvedStudy) -> dict[str, Costs]:
    """Train every label once, on one thread; its last two values are those after the last task."""
    out = {}
    for cell in study.cells:
        training = Training(study.first_run(cell), study.data)
        results = [training.next_task() for _ in range(training.tasks)]
        last = results[-1]
        seconds = statistics.mean(result.seconds for result in results[1:])
        out[cell.label] = (seconds, last.kept_bytes, last.parameters)
    return out


def table(found: Mapping[str, Costs], times: Mapping[str, str]) -> str:
    """Return the table; a method without a time has a dash."""
    rows = [
        f"| `{name}` | {times.get(name, '–')} | {kept:,} | {parameters:,} |\n"
        for name, (_, kept, parameters) in found.items()
    ]
    return f"| {' | '.join(HEAD)} |\n|---|---|---|---|\n" + "".join(rows)


def over_reference(rounds: Sequence[Mapping[str, Costs]]) -> dict[str, str]:
    """Return each method's median over rounds of its time over the reference's in the same round."""
    return {
        name: f"{statistics.median(one[name][0] / one[REFERENCE][0] for one in rounds):.2f}"
        for name in rounds[0]
    }


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
    study = measured_study(asked.time)
    rounds = [costs(study) for _ in range(asked.rounds if asked.time else 1)]
    made = table(rounds[0], over_reference(rounds) if asked.time else times_of(written()))
    if asked.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(text.replace(MARKS[0] + written(), MARKS[0] + made), encoding="utf-8")
    print(made, end="")

"""Run the benchmarks: `python -m tests.benchmarks [NAME] [--json]`; without a name all of them.

With --json, JSON alone on stdout: {benchmark: {figure: value}}, for `terms` {run: {phase: {term: values}}}.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cl_core.errors import BadRequest
from tests.benchmarks import (
    chance,
    lake,
    levels,
    reuse,
    scale,
    search,
    search_quality,
    steps,
    terms,
    tuning,
    where,
    work,
)

BENCHMARKS = ("chance", "search", "search_quality", "steps", "terms", "tuning", "where", "work")
BY_NAME = ("lake", "levels", "reuse", "scale")  # minutes at thousands of trials, so they have to be asked for


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "name", nargs="?", choices=sorted([*BENCHMARKS, *BY_NAME]), help="one benchmark; all without"
    )
    parser.add_argument("--json", action="store_true", help="JSON alone on stdout")
    steps.add_arguments(parser)
    reuse.add_arguments(parser)
    parser.add_argument("--trials", type=int, default=500, help="lake: trials of the generated lake (500)")
    terms.add_arguments(parser)
    asked = parser.parse_args()
    measures = {
        "chance": chance.measure,
        "lake": lambda: lake.measure(asked.trials) if asked.json else lake.table(asked.trials),
        "levels": levels.measure,
        "reuse": lambda: reuse.measure(asked),
        "scale": scale.measure,
        "search": search.measure,
        "search_quality": search_quality.measure,
        "steps": lambda: steps.measure(asked),
        "terms": lambda: terms.measure(asked),
        "tuning": tuning.measure,
        "where": where.measure,
        "work": work.measure,
    }
    figures: dict[str, Any] = {}
    for name in [asked.name] if asked.name else BENCHMARKS:
        started = time.perf_counter()
        try:
            figures[name] = measures[name]()
        except BadRequest as error:
            parser.error(str(error))
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    if asked.json:
        print(json.dumps(figures, indent=2))
        return
    for name, values in figures.items():
        if name in ("lake", "terms"):
            {"lake": lake.show, "terms": terms.show}[name](values)
            continue
        for figure, value in _flat(values):
            print(f"{name}.{figure} = {value:g}")


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every figure with its name, joined with dots where figures are nested."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", figure) for inner, figure in _flat(value))
        else:
            yield name, value


if __name__ == "__main__":
    main()

"""The runs of a run folder in TensorBoard, MLflow or Weights & Biases: one run there for each that has ended.

It reads the tables, during a study and after it. Done again, it writes what is new or has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from analysis.lake.open import open_results
from analysis.lake.run_folder import TRACKING
from analysis.tracking.to_mlflow import MLflow
from analysis.tracking.to_tensorboard import TensorBoard
from analysis.tracking.to_wandb import WeightsAndBiases
from analysis.tracking.tracked_run import tracked_runs
from cl_core.errors import BadRequest, unknown

TOOLS: Mapping[str, type[TensorBoard] | type[MLflow] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
}


@dataclass(frozen=True)
class Tracked:
    """The outcome: runs that were written, runs that were there already, and how to look at them."""

    written: int
    known: int
    place: str
    look: str  # a command


def track(
    folder: str | Path, to: str, into: str | None = None, say: Callable[[str], None] = lambda line: None
) -> Tracked:
    """Write the ended runs of a run folder to a tool; `into` is its place, `tracking/<tool>` unless given.

    Raises BadRequest on an unknown tool, or where its package is not installed or its place cannot be used.
    """
    if to not in TOOLS:
        raise unknown("tool", to, TOOLS)
    results = open_results(folder)
    own = results.folder / TRACKING
    try:
        own.mkdir(exist_ok=True)
    except OSError as error:
        raise BadRequest(f"cannot write {own}: {error.strerror}; make the folder writable") from error
    try:
        with FileLock(own / ".lock", blocking=False):
            tool = TOOLS[to](own / to, into)
            runs = tracked_runs(results)
            new = [run for run in runs if not tool.has(run)]
            for number, run in enumerate(new, 1):
                tool.write(run)
                if number % 100 == 0:
                    say(f"{number} of {len(new)} runs")
    except Timeout:
        raise BadRequest(f"another track is writing runs of {results.folder}: wait for it") from None
    return Tracked(len(new), len(runs) - len(new), tool.place, tool.look)

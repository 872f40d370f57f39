"""`train`: one run without Ray and without a study."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.lake.run_folder import CHECKPOINTS, log_file
from cl_core.errors import BadRequest, RunError
from cl_core.method import METHODS
from cl_core.metrics import accuracy_matrix
from cl_core.training import chf, shared_base
from cl_core.training.code import code_of
from search.lake.ledger import note_opening
from search.lake.writer import start_tables, study_schemas
from search.preparation.single_run import check_own, write_spec
from search.preparation.train_request import TrainRequest
from search.storage.code_record import Code, check_code, write_code
from search.storage.places import check_writable
from search.storage.scratch import scratch
from search.worker.logs import logged, stamp
from search.worker.runner import Runner
from spaces.resolved.environment import versions
from spaces.resolved.run_spec import RunSpec


def train(
    request: TrainRequest,
    say: Callable[[str], None] = lambda line: None,
    warn: Callable[[Sequence[str]], None] = lambda warnings: None,
) -> dict[str, Any]:
    """Train the run; return its metrics, accuracy matrix and paths, as plain values.

    `say` receives a line per task, `warn` notes on the images and the protocol before work begins.
    Raises BadRequest before any work, RunError when training fails.
    """
    spec = request.spec()
    if request.save is not None:
        if request.save.is_dir():
            raise BadRequest(f"--save needs a file's name, and {request.save} is a folder: add one")
        check_writable(request.save.parent, "--save")
    if request.out is not None:
        check_writable(request.out, "--out")
        check_own(request.out, spec)
    with _lines(request.out, spec) as log:
        # Refuses data, scenario, method, net and code before a folder is made.
        first = Runner(spec)
        code = Code(code_of(spec.configuration.parts(first.data)))
        if request.out is not None:
            check_code(request.out, code, False, "name an empty folder")
        line = _without_effect(spec)
        warn([*first.data.notes, *([] if line is None else [line])])
        checkpoints = None
        if request.out is not None:
            request.out.mkdir(parents=True, exist_ok=True)
            start_tables(request.out, study_schemas([spec.configuration.method]))
            checkpoints = request.out / CHECKPOINTS
            write_spec(request.out, spec)
            write_code(request.out, code)
        with logged(log):
            runner = Runner(spec, request.out, checkpoints)
        if request.out is not None and request.unsealed:
            study = spec.configuration.digest(runner.data)
            note_opening(request.out, "train --unsealed", study, [spec.cell], 1, versions())
        split = "test" if request.unsealed else "val"
        while True:
            with logged(log):
                progress = runner.step()
                stamp(progress.line(spec.objectives[0]))
            say(progress.line(spec.objectives[0]))
            if progress.done:
                break
        if progress.status == "failed":
            kept = f"cl-search logs {request.out} {spec.run}" if request.out else "--out DIR keeps it"
            raise RunError(f"{progress.error} (full output: {kept})")
        with logged(log):
            out = _result(runner, split)
        if request.save is not None:
            runner.save_model(request.save)
            out["model"] = str(request.save)
    if request.out is not None:
        out["folder"] = str(request.out)
    return out


def _without_effect(spec: RunSpec) -> str | None:
    """Return a line where the protocol of a single run changes nothing."""
    configuration = spec.configuration
    method = METHODS[configuration.method](configuration.hp)
    if configuration.chf is not None and (line := chf.idle(method, configuration.hp)):
        return line
    return shared_base.idle(method) if configuration.shared_base else None


def _result(runner: Runner, split: str) -> dict[str, Any]:
    """Return a run's metrics and accuracy matrix on a split for JSON; undefined values are null."""
    matrix = accuracy_matrix(runner.confusions(split), runner.training.sizes)
    configuration = runner.spec.configuration
    return {
        "method": configuration.method,
        "data": runner.data.name,
        "scenario": configuration.scenario.name,
        "split": split,
        "seed": configuration.seed,
        **{name: _finite(value) for name, value in runner.metrics(split).items()},
        "accuracy_matrix": [[_finite(float(value)) for value in row] for row in matrix],
    }


@contextlib.contextmanager
def _lines(out: Path | None, spec: RunSpec) -> Iterator[Path]:
    """Give the file for the output of the run: its log, or one that is removed afterwards."""
    if out is not None:
        yield log_file(out, spec.run)
        return
    with scratch() as folder:
        yield folder / "log"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

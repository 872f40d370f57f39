"""The driver at many trials: simulated workers write rows of ten tasks.

Queue, Optuna, dispatcher, receipts, compaction, status and restart are real; nothing is trained. The sampler
is `random`; CL_SEARCH_BENCHMARK_SAMPLER=tpe takes another one, and with it the stopper `asha`.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from analysis.lake.checksums import write_sealed
from cl_core.images.dataset import Data
from search.cells.search_queue import SearchQueue
from search.commands.status import status
from search.jobs.dispatcher import Dispatcher
from search.lake.compaction import compact_left
from search.lake.receipts import receipt
from search.lake.rows import run_row
from search.lake.writer import run_files, start_tables, study_schemas
from search.storage.repair import mend_folder
from search.worker.job import Answer, Job, Workspace
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.study_yaml import study_yaml
from spaces.study.study_file import load_study

TRIALS = int(os.environ.get("CL_SEARCH_BENCHMARK_TRIALS", "10000"))
SAMPLER = os.environ.get("CL_SEARCH_BENCHMARK_SAMPLER", "random")
STOPPER = "none" if SAMPLER == "random" else "asha"
TASKS, CLASSES = 10, 20


def measure() -> dict[str, float]:
    """CPU of the driver for each trial and its memory on the way, then status, restart and files on disk."""
    out: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        study, folder = _study(), Path(place) / "run"
        folder.mkdir()
        (folder / "study.yaml").write_text(study_yaml(study))
        start_tables(folder, study_schemas(study.methods))
        workers = _Workers(study, folder)
        with SearchQueue(study, folder, bases=False) as queue:
            driver = Dispatcher(queue, Workspace(folder, folder / "checkpoints"))
            done, cpu, mark = 0, 0.0, 0
            while not driver.finished:
                began = time.process_time()
                job = driver.next()
                cpu += time.process_time() - began
                assert job is not None
                for answer in workers.answers(job):
                    began = time.process_time()
                    stopped = driver.answer(answer)
                    cpu += time.process_time() - began
                    if stopped:
                        break
                done += 1
                if done in (TRIALS // 10, TRIALS // 2, TRIALS):
                    out[f"cpu_ms_per_trial_{done}"] = round(1000 * cpu / (done - mark), 2)
                    out[f"memory_mb_{done}"] = round(_memory() / 1e6)
                    cpu, mark = 0.0, done
            driver.close()
        out["files"] = sum(1 for path in folder.rglob("*") if path.is_file())
        out["megabytes"] = round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6, 1)
        began = time.process_time()
        state = status(folder)
        out["status_cpu_seconds"] = round(time.process_time() - began, 2)
        assert sum(state["runs"].values()) == TRIALS
        began = time.process_time()
        mend_folder(folder)
        start_tables(folder, study_schemas(study.methods))
        compact_left(folder)
        with SearchQueue(study, folder, bases=False) as queue:
            assert queue.finished
        out["restart_cpu_seconds"] = round(time.process_time() - began, 2)
        out["memory_peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return out


class _Workers:
    """Workers that train nothing. The rows of every run are those of a template."""

    def __init__(self, study: ResolvedStudy, folder: Path) -> None:
        self.study, self.folder, self.schemas = study, folder, study_schemas(study.methods)
        self.random = np.random.default_rng(0)
        self.tables = {
            table: pa.Table.from_pylist(_rows(table, schema), schema=schema)
            for table, schema in self.schemas.items()
            if table != "runs"
        }

    def answers(self, job: Job) -> list[Answer]:
        """Write the rows of a job; return the answer after each of its tasks."""
        spec, value = job.spec, float(self.random.uniform(0.2, 0.8))
        none: dict[str, list[dict[str, object]]] = {"tasks": [], "confusion": []}
        row = run_row(spec, self.study.data, none, "completed")
        metrics = {"objective": value, "average_incremental_accuracy": value, "tasks_done": TASKS}
        row |= {**metrics, "average_incremental_accuracy_without_first": value, "ended": time.time()}
        runs = pa.Table.from_pylist(
            [{name: row.get(name) for name in self.schemas["runs"].names}], schema=self.schemas["runs"]
        )
        for table, rows in {**self.tables, "runs": runs}.items():
            path, _ = run_files(self.folder, table, spec.run)
            known = rows.set_column(
                rows.column_names.index("run"), "run", pa.array([spec.run] * len(rows), pa.string())
            )
            write_sealed(known.cast(self.schemas[table]), path)
        steps = [Answer(job.id, task, TASKS, (value,), "running", None, value) for task in range(TASKS - 1)]
        last = Answer(job.id, TASKS - 1, TASKS, (value,), "completed", None, value)
        return [*steps, replace(last, receipt=receipt(self.folder, spec.run))]


def _rows(table: str, schema: pa.Schema) -> list[dict[str, object]]:
    """Rows of ten tasks: as many as a run has."""
    numbers = {"tasks": TASKS, "phases": 3 * TASKS, "classes": 110, "confusion": 600}
    kinds = {pa.types.is_integer: 1, pa.types.is_floating: 0.5, pa.types.is_boolean: True}
    row: dict[str, object] = {}
    for field in schema:
        row[field.name] = next((value for test, value in kinds.items() if test(field.type)), None)
        if pa.types.is_string(field.type):
            row[field.name] = "text"
        elif pa.types.is_list(field.type):
            row[field.name] = []
    return [{**row, "task": index % TASKS} if "task" in row else row for index in range(numbers[table])]


def _study() -> ResolvedStudy:
    y = np.repeat(np.arange(CLASSES), 20)
    x = np.random.default_rng(0).integers(0, 256, (len(y), 8, 8), dtype=np.uint8)
    plain = {
        "study": "simulated",
        "data": "digits",
        "scenarios": [f"B0-{TASKS}tasks"],
        "methods": ["lwf", "icarl"],
        "search": {"sampler": SAMPLER, "trials": TRIALS // 2, "stopper": STOPPER},
        "protocol": {"confirm": None},
    }
    return resolve(load_study(plain), Data.from_arrays(x, y, name="arrays"))


def _memory() -> int:
    """Bytes of this process that lie in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

"""The lake at many trials: seconds and peak memory of each verb, each in a process of its own.

Beside them the same group-by over the table `confusion` in bare DuckDB and in Polars.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks.generated_lake import generate

Figures = dict[str, float]


def measure(trials: int) -> Figures:
    """Seconds and memory of a generated lake: `table` has the figures of every verb."""
    found = table(trials)
    return {
        "report_seconds": found["report"]["seconds"],
        "report_mb": found["report"]["page_mb"],
        "forgetting_and_bias_seconds": found["forgetting and bias"]["seconds"],
        "gather_gb": found["gather"]["gb"],
        "peak_gb": max(figures["gb"] for verb, figures in found.items() if verb in OURS),
    }


def table(trials: int) -> dict[str, Figures]:
    """Verb -> seconds and gigabytes, on a lake with the files of single runs and then on the gathered one."""
    with tempfile.TemporaryDirectory() as place:
        folder = generate(Path(place) / "run", trials)
        return {verb: _apart(verb, folder) for verb in VERBS}


def show(found: Mapping[str, Figures]) -> None:
    """Print `table`."""
    print(f"{'verb':<26} {'seconds':>8} {'of CPU':>7} {'GB':>6}")
    for verb, figures in found.items():
        more = "  ".join(f"{k} {v:g}" for k, v in figures.items() if k not in ("seconds", "cpu", "gb"))
        times = f"{figures['seconds']:>8.2f} {figures['cpu']:>7.2f}"
        print(f"{verb:<26} {times} {figures['gb']:>6.2f}  {more}")


def _apart(verb: str, folder: Path) -> Figures:
    """Measure a verb in a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.lake", verb, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _runs(folder: Path) -> Figures:
    from analysis import open_results

    return {"rows": len(open_results(folder).runs)}


def _gather(folder: Path) -> Figures:
    from search.lake.writer import gather

    return {"rows": sum(gather(folder).values())}


def _forgetting_and_bias(folder: Path) -> Figures:
    from analysis import open_results

    results = open_results(folder)
    runs = results.table("run_metrics").select("run", "split", "classifier", "forgetting", "recency_ratio")
    last = """select task_confusion.* from task_confusion
        join run_metrics using (run, split, classifier) where after_task = tasks_done - 1"""
    return {"rows": len(runs.pandas()), "pairs": len(results.query(last).arrow())}


def _report(folder: Path) -> Figures:
    from analysis import write_report

    page = write_report(folder, folder.parent / "page.html")
    return {"page_mb": round(page.stat().st_size / 1e6, 2)}


def _duckdb(folder: Path) -> Figures:
    import duckdb

    duckdb.sql("set threads = 2")
    files = folder / "tables" / "confusion" / "*.parquet"
    rows = duckdb.sql(
        "select run, split, classifier, after_task, true_class // 10, predicted_class // 10, sum(count)"
        f" from '{files}' group by all"
    ).fetchnumpy()
    return {"rows": len(rows["run"])}


def _polars(folder: Path) -> Figures:
    import polars as pl

    rows = (
        pl.scan_parquet(folder / "tables" / "confusion" / "*.parquet")
        .group_by(
            "run",
            "split",
            "classifier",
            "after_task",
            pl.col("true_class") // 10,
            pl.col("predicted_class") // 10,
        )
        .agg(pl.col("count").sum())
        .collect(engine="streaming")
    )
    return {"rows": len(rows)}


VERBS: dict[str, Callable[[Path], Figures]] = {
    "main table, unmerged": _runs,
    "gather": _gather,
    "main table": _runs,
    "forgetting and bias": _forgetting_and_bias,
    "group-by in bare DuckDB": _duckdb,
    "group-by in bare Polars": _polars,
    "report": _report,
}
OURS = ("main table, unmerged", "gather", "main table", "forgetting and bias", "report")


if __name__ == "__main__":
    began = time.perf_counter()
    figures = VERBS[sys.argv[1]](Path(sys.argv[2]))
    used = {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu": round(time.process_time(), 2),
        "gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps({**used, **figures}))

"""Tables of a lake that a test writes or changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.lake.arrow_schema import table_schema
from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.lake.run_folder import GATHERED, file_stem, run_file, table_folder
from cl_core.records import TABLES

HP = {"hp.kd_weight": float, "hp.exemplars_per_class": int, "hp.distill": bool}
RECIPE = {"recipe.base.lr": float, "recipe.increment.lr": float}


def schema(table: str) -> pa.Schema:
    """The full schema of a table of this lake."""
    return table_schema(table, {"runs": HP | RECIPE, "tasks": HP}.get(table))


def rewrite(folder: Path, table: str, run: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Apply `change(frame)` to a run's file of a table."""
    path = run_file(folder, table, run)
    frame = pq.read_table(path).to_pandas()
    changed = change(frame)
    pq.write_table(pa.Table.from_pandas(changed, schema=schema(table), preserve_index=False), path)


def setting(name: str, value: object, where: int = 0) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change for `rewrite`: one value of a column."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[where, name] = value
        return frame

    return change


def put(folder: Path, table: str, stem: str, rows: list[dict]) -> Path:
    """One file of a table."""
    path = table_folder(folder, table) / f"{stem}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema(table)), path, compression="zstd")
    return path


def gather(folder: Path, table: str, stems: list[str], remove: bool = True) -> None:
    """Merge some trials' files as `gather` does."""
    paths = [table_folder(folder, table) / f"{stem}.parquet" for stem in stems]
    pq.write_table(pa.concat_tables([pq.read_table(p) for p in paths]), paths[0].parent / GATHERED)
    for path in paths if remove else []:
        path.unlink()


def merged(folder: Path, rows: Mapping[str, list[dict]], added: Mapping[str, Mapping[str, type]]) -> None:
    """Write every table as one gathered file."""
    for table in TABLES:
        path = table_folder(folder, table) / GATHERED
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = pa.Table.from_pylist(rows.get(table, []), schema=table_schema(table, added.get(table)))
        pq.write_table(whole, path)


def place(scenario: str, sizes: Sequence[int], class_order: str, seed: int = 0) -> dict[str, Any]:
    """Return the place of a run as its row gives it: scenario, class order, seed, net."""
    increments = ",".join(map(str, sizes[1:]))
    return {
        "scenario": scenario,
        "base": sizes[0],
        "increments": increments,
        "class_order": class_order,
        "seed": seed,
        "net": "convnet-small",
    }


def lake_with(lake: Path, changes: Mapping[int, Mapping[str, Any]]) -> tuple[Results, str]:
    """Change rows of the table `runs` in the first cell: trial's number -> columns. Return lake and cell."""
    results = open_results(lake)
    first = str(results.runs["cell"].iloc[0])
    for row in results.runs.to_dict("records"):
        if row["cell"] == first and row["trial"] in changes:
            known = {str(k): None if isinstance(v, float) and v != v else v for k, v in row.items()}
            put(lake, "runs", file_stem(row["run"]), [{**known, **changes[row["trial"]]}])
    return open_results(lake), first

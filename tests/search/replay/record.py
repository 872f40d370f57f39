"""Make a recorded table from a run's folder: `python -m tests.search.replay.record RUN_FOLDER`.

The run is one of a study file that lies here; the table is written beside it.

A row is a configuration of the grid. Tasks are 0-based: `accuracy_t` is the accuracy over the classes seen
after task t, on the validation rows; `increments_t` the mean of those from the second task on, which is what
runs report to stoppers; `seconds_t` the training of task t on the machine of the recording. The first task
is the same for all rows: it was trained once and shared.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from cl_core.errors import BadRequest

HERE = Path(__file__).parent
AXES = {"kd_weight": "hp.kd_weight", "temperature": "hp.temperature", "lr": "recipe.increment.lr"}


def recorded_rows(results: Results) -> pd.DataFrame:
    """The table of a run that was carried out to the end. Raises BadRequest where something is missing."""
    trials = results.runs.set_index("run")
    if len(trials) < results.study.plain["search"]["trials"] or not (trials["status"] == "completed").all():
        raise BadRequest(f"{results.folder} is not carried out to the end: continue it first")
    classes = results.classes
    counted = classes[classes["primary"] & (classes["split"] == "val")]
    counts = counted.groupby(["run", "after_task"])[["n", "correct"]].sum()
    accuracy = (counts["correct"] / counts["n"]).unstack().loc[trials.index].to_numpy()
    seconds = results.tasks.pivot(index="run", columns="task", values="seconds").loc[trials.index]
    if not np.isfinite(accuracy).all() or not np.allclose(accuracy.mean(1), trials["objective"], atol=1e-12):
        raise BadRequest(f"the classes of {results.folder} do not give its objective: record it again")
    table = pd.DataFrame({name: trials[column].to_numpy() for name, column in AXES.items()})
    tasks = range(accuracy.shape[1])
    parts = {f"accuracy_{t}": accuracy[:, t].round(6) for t in tasks}
    parts |= {f"increments_{t}": accuracy[:, 1 : t + 1].mean(1).round(6) for t in tasks[1:]}
    parts |= {f"seconds_{t}": seconds[t].to_numpy().round(3) for t in tasks}
    table = pd.concat([table, pd.DataFrame(parts)], axis=1)
    return table.sort_values(list(AXES), ignore_index=True)


def header(results: Results) -> str:
    """Return the origin of the table, as comment lines."""
    study = results.study.plain
    resolved, first = study["resolved"], results.runs.iloc[0]
    versions = {**resolved["versions"], **json.loads(first["versions"])}
    lines = [
        f"{len(results.runs)} configurations of {', '.join(study['methods'])} on {first['dataset']}, "
        f"{first['scenario']}, judged on the validation rows; made by tests/search/replay/record.py",
        f"from the run of tests/search/replay/{study['study']}.yaml of {resolved['created'][:10]} on a "
        f"{first['device']}, {first['threads']} thread a run, {first['precision']}",
        f"study {resolved['identity']}, data {resolved['fingerprint'][:20]}, numerics {first['numerics']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        "accuracy_t: over the classes seen after task t; increments_t: mean of accuracy_1 to accuracy_t; "
        "seconds_t: of training",
    ]
    return "".join(f"# {line}\n" for line in lines)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise SystemExit("usage: python -m tests.search.replay.record RUN_FOLDER")
    results = Results(Path(arguments[0]).expanduser())
    try:
        if not (HERE / f"{results.study.name}.yaml").is_file():
            raise BadRequest(f"{results.folder} is no run of a study file in {HERE}")
        table = recorded_rows(results)
    except BadRequest as error:
        raise SystemExit(f"error: {error}") from None
    path = HERE / f"{results.study.name}.csv"
    path.write_text(header(results) + table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    print(f"{len(table)} configurations -> {path}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The work of a study against a plain Ray Tune function with Optuna and ASHA: trained image-steps.

Both search the same spaces of the same four methods, with as many trials, one at a time, and train with the
same trainer. The plain function trains every trial from its first task on, and Tune's ASHA stops it with its
defaults, by the average incremental accuracy after each task. Images are noise around the pattern of a class
and the net is small, since image-steps are counted and nothing is timed. A ratio is plain over ours.

That compares equal numbers of trials. What noise selects has no quality, so the ratios at equal quality of
the selection come from recorded class orders, in figures `at_equal_gain`: see
`tests.benchmarks.equal_quality`. Their scenarios are `B4-inc2` for half of the classes first, and five
equal tasks in place of ten.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from cl_core.metrics import summary
from cl_core.training.configuration import Configuration
from cl_core.training.trainer import Training
from search import run_study
from search.backends.ray_environment import ray_environment
from search.worker.runner import cached_data
from spaces.resolved.cell import Cell
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.study.study_file import parse_study
from tests.benchmarks import equal_quality

METRIC = "average_incremental_accuracy"
Figures = dict[str, float]
TRIALS = 12
SCENARIOS = {"b50": "B5-inc1", "b0": "B0-10tasks"}
"""Half of ten classes first and then five increments, and ten equal tasks."""


def study_of(scenario: str, trials: int) -> dict[str, Any]:
    """Return the study: four methods, the learning rate of the increments and their own hyperparameters."""
    return {
        "study": "work",
        "data": {"name": "synthetic", "classes": 10, "per_class": 20, "size": 8},
        "scenarios": [scenario],
        "methods": {
            "lwf": None,
            "replay": {"exemplars_per_class": 2},
            "icarl": {"exemplars_per_class": 2},
            "bic": {"exemplars_per_class": 2},
        },
        "recipe": {
            "net": "convnet-small",
            "epochs": 2,
            "batch": 32,
            "increment": {"lr": {"float": [0.01, 0.2], "log": True}},
        },
        "search": {"trials": trials, "stopper": "asha"},
        "protocol": {"validation": 0.2},
    }


def ours(study: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the image-steps that `run` trains, those of its confirmation, and the number of its runs."""
    with tempfile.TemporaryDirectory() as folder:
        results = run_study(study, out=Path(folder) / "run", local=True).results
        tasks, runs = results.tasks, results.runs
    images = tasks[~tasks["shared"]].groupby("run")["images"].sum()
    confirming = runs.loc[runs["purpose"] == "confirm", "run"]
    return int(images.sum()), int(images.reindex(confirming).sum()), len(runs)


def plain(study: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """Return the image-steps of the plain Tune function for the same cells, and the number of its trials.

    Ray must be running. Its results go below `folder`.
    """
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    parsed = parse_study(dict(study))
    resolved = resolve(parsed, cached_data(parsed.data.spec()))
    images = trials = 0
    for cell in resolved.cells:
        tuner = tune.Tuner(
            trained,
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                num_samples=parsed.search.trials,
                search_alg=ConcurrencyLimiter(
                    OptunaSearch(partial(space, resolved, cell), metric=METRIC, mode="max", seed=0), 1
                ),
                scheduler=ASHAScheduler(max_t=cell.tasks),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(name=cell.label, storage_path=str(folder), verbose=0),
        )
        for result in tuner.fit():
            if result.error:
                raise result.error
            assert result.metrics is not None
            images += result.metrics["images"]
            trials += 1
    return images, trials


def space(resolved: ResolvedStudy, cell: Cell, trial: optuna.Trial) -> dict[str, str]:
    """Suggest the values of a trial; return its configuration as JSON."""
    order, seed = resolved.runs(cell)[0]
    configuration = resolved.configuration(cell, cell.space.sample_with(trial), order, seed)
    return {"configuration": json.dumps(configuration.to_dict())}


def trained(config: Mapping[str, Any]) -> None:
    """Train one trial, and report the metric and the image-steps so far after each task."""
    from ray import tune

    configuration = Configuration.from_dict(json.loads(config["configuration"]))
    training = Training(configuration, cached_data(configuration.data))
    confusions, images = [], 0
    while not training.finished:
        result = training.next_task()
        confusions += [e.confusion for e in result.evaluations if e.primary]
        images += result.images
        tune.report({METRIC: summary(confusions, training.sizes)[METRIC], "images": images})


def measure() -> dict[str, float | dict[str, Figures]]:
    """Return the ratios, and what they are made of."""
    with ray_environment(), tempfile.TemporaryDirectory() as folder:
        import ray

        os.environ["PYTHONWARNINGS"] = "ignore"
        ray.init(
            address="local",  # not one that happens to run here
            num_cpus=1,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        out: Figures = {}
        try:
            for name, scenario in SCENARIOS.items():
                study = study_of(scenario, TRIALS)
                own, confirming, runs = ours(study)
                print(f"work: {name}: {own} image-steps in {runs} runs", file=sys.stderr)
                other, trials = plain(study, Path(folder) / name)
                print(f"work: {name}: plain Tune {other} in {trials} trials", file=sys.stderr)
                out[f"{name}_over_plain_tune"] = round(other / own, 3)
                out |= {f"{name}_image_steps": own, f"{name}_image_steps_of_plain_tune": other}
                out[f"{name}_image_steps_of_confirmation"] = confirming
                out |= {f"{name}_runs": runs, f"{name}_trials_of_plain_tune": trials}
        finally:
            ray.shutdown()
    cells = equal_quality.measure()
    return {
        **out,
        "b50_over_plain_tune_at_equal_gain": at_equal_gain(cells, "B4-inc2"),
        "b0_over_plain_tune_at_equal_gain": at_equal_gain(cells, "B0-5tasks"),
        "at_equal_gain": cells,
    }


def at_equal_gain(cells: Mapping[str, Figures], scenario: str) -> float:
    """Return plain Tune's work for our gain over ours, the mean over the recorded cells of a scenario."""
    ratios = [one["plain_for_our_gain"] for cell, one in cells.items() if cell.endswith(f"@{scenario}")]
    return float(np.mean(ratios))

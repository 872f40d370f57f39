"""Reuse of trainings: four buffer sizes and two classifiers, on digits or on an image folder.

Image-steps: iCaRL on a grid of buffers and classifiers, each trial trained alone, with shared base
checkpoints, and with `search.reuse`. Quality: random searches in a record of trainings, each judged on test
rows, that train equally much. One keeps the published classifier, one draws it, one evaluates both on every
network. Noise: how far the accuracies of the two classifiers vary together when the same values are trained
with other seeds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cl_core.hparams import Value
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import load
from cl_core.metrics import summary
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.checkpoints import CheckpointStore
from cl_core.training.configuration import Configuration
from cl_core.training.trainer import Training

METRIC = "average_incremental_accuracy"
BUFFERS, CLASSIFIERS = (5, 10, 20, 50), ("nearest-mean", "head")


class Variant(NamedTuple):
    """A method with fixed values, its searched weight and the place of its published classifier."""

    method: str
    hp: Mapping[str, Value]
    weight: str
    published: int


VARIANTS = {
    "iCaRL": Variant("icarl", {"loss": "bce"}, "old_weight", 0),
    "iCaRL, cross-entropy": Variant("icarl", {"loss": "ce"}, "kd_weight", 0),
    "LUCIR": Variant("lucir", {}, "margin_weight", 1),
}
SCENARIOS = ("B0-5tasks", "B5-5tasks")  # five equal tasks, and half of the classes first
DRAWN = 10  # trainings of a record, the published values among them
TRAINED = (2, 4, 8)  # trainings of a search
SEEDS = 6  # of the noise
REDRAWS = 4000
NET, LR = "convnet-small", 2e-3
RECIPE: dict[str, Value] = {"optimizer": "adam", "epochs": 4, "batch": 32, "lr": LR}
Figures = dict[str, float]
Values = dict[str, NDArray[np.float64]]  # split -> [classifiers]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--images", help="reuse: an image folder of ten classes; digits without")


class Trainer:
    """Trains on one data set; counts the image-steps of what it trains."""

    def __init__(self, spec: DataSpec, folder: Path) -> None:
        self.spec, self.data, self.store = spec, load(spec), CheckpointStore(folder)
        self.images = 0

    def train(
        self,
        variant: Variant,
        hp: Mapping[str, Value],
        scenario: str = SCENARIOS[0],
        lr: float = LR,
        seed: int = 0,
        share: bool = True,
        reuse: bool = False,
    ) -> Values:
        """Train a trial; return the metric of both classifiers on validation and on test rows."""
        configuration = Configuration(
            method=variant.method,
            data=self.spec,
            scenario=parse_scenario(scenario),
            hp={**variant.hp, **hp},
            recipe={**RECIPE, "increment": {"lr": lr}},
            net=NET,
            seed=seed,
            validation=0.2,
            unsealed=True,
            threads=1,
        )
        store, own = self.store, self.store if reuse else None
        training = Training(configuration, self.data, store if share else None, reuse=own)
        counts: dict[tuple[str, str], list[Any]] = {}
        while not training.finished:
            result = training.next_task()
            self.images += 0 if result.shared else result.images
            for e in result.evaluations:
                counts.setdefault((e.split, e.classifier), []).append(e.confusion)
        known = {key: summary(found, training.sizes)[METRIC] for key, found in counts.items()}
        return {split: np.array([known[split, c] for c in CLASSIFIERS]) for split in ("val", "test")}


def image_steps(spec: DataSpec, scenario: str) -> Figures:
    """Return the image-steps of the grid: alone, with shared base checkpoints, and with reuse."""
    out: Figures = {}
    for name, share, reuse in (("alone", False, False), ("shared_base", True, False), ("reuse", True, True)):
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(spec, Path(folder))
            for exemplars, classifier in product(BUFFERS, CLASSIFIERS):
                hp = {"exemplars_per_class": exemplars, "classifier": classifier}
                trainer.train(VARIANTS["iCaRL"], hp, scenario, share=share, reuse=reuse)
            out[name] = trainer.images
    out["shared_base_over_reuse"] = round(out["shared_base"] / out["reuse"], 3)
    out["alone_over_reuse"] = round(out["alone"] / out["reuse"], 3)
    return out


def record(trainer: Trainer, variant: Variant, exemplars: int) -> Values:
    """Return the metric [trainings, classifiers] by split of random values; the first are the published."""
    rng = np.random.default_rng(exemplars)
    found = []
    for number in range(DRAWN):
        hp: dict[str, Value] = {"exemplars_per_class": exemplars}
        lr = LR
        if number:
            hp[variant.weight] = float(np.exp(rng.uniform(np.log(0.1), np.log(10))))
            lr = float(np.exp(rng.uniform(np.log(2e-4), np.log(2e-2))))
        found.append(trainer.train(variant, hp, lr=lr))
    return {split: np.array([one[split] for one in found]) for split in ("val", "test")}


def searches(known: Values, published: int, trained: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the mean metric on test rows of what searches of `trained` trainings select."""
    out: dict[str, list[float]] = {"fixed": [], "drawn": [], "reused": []}
    for _ in range(REDRAWS):
        some = rng.choice(DRAWN, trained, replace=False)
        drawn = rng.integers(len(CLASSIFIERS), size=trained)
        val, test = known["val"][some], known["test"][some]
        rows = np.arange(trained)
        out["fixed"].append(test[val[:, published].argmax(), published])
        out["drawn"].append(test[rows, drawn][val[rows, drawn].argmax()])
        out["reused"].append(test.ravel()[val.ravel().argmax()])
    return {name: float(np.mean(values)) for name, values in out.items()}


def shared_noise(trainer: Trainer) -> float:
    """Return the correlation of both classifiers' accuracies over seeds, pooled over methods and buffers."""
    apart = []
    for variant, exemplars in product(VARIANTS.values(), BUFFERS[1:3]):
        hp: dict[str, Value] = {"exemplars_per_class": exemplars}
        values = np.array([trainer.train(variant, hp, seed=seed)["test"] for seed in range(SEEDS)])
        apart.append(values - values.mean(axis=0))
    return float(np.corrcoef(np.concatenate(apart).T)[0, 1])


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    spec = DataSpec("digits")
    if asked.images:
        spec = DataSpec("image-folder", root=asked.images, size=16, per_class=asked.per_class)
    out: dict[str, Any] = {"image_steps": {name: image_steps(spec, name) for name in SCENARIOS}}
    print(f"reuse: image-steps {out['image_steps']}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(spec, Path(folder))
        out["quality"] = {}
        for name, variant in VARIANTS.items():
            records = [record(trainer, variant, exemplars) for exemplars in BUFFERS]
            rng = np.random.default_rng(0)
            for trained in TRAINED:
                found = [searches(known, variant.published, trained, rng) for known in records]
                means = {way: round(float(np.mean([one[way] for one in found])), 4) for way in found[0]}
                out["quality"][f"{name}, {trained} trainings"] = means
                print(f"reuse: {name}, {trained} trainings: {means}", file=sys.stderr)
        out["shared_noise"] = round(shared_noise(trainer), 3)
    return out

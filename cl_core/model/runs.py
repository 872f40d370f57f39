"""One run from a notebook or a script: `run` trains it, `Result` holds what it left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_core.errors import BadRequest
from cl_core.hparams import Value
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.metrics import accuracy_matrix, summary
from cl_core.nets.network import Network
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.configuration import Configuration
from cl_core.training.result import TaskResult
from cl_core.training.trainer import Training


@dataclass(frozen=True)
class Result:
    """A finished run: what every task left, and the metrics of the primary classifier."""

    configuration: Configuration
    class_names: tuple[str, ...]  # in arrival order
    tasks: tuple[TaskResult, ...]
    network: Network

    def confusions(self, split: str = "val", classifier: str | None = None) -> list[np.ndarray]:
        """The confusion counts [seen, seen] after every task; of the primary classifier by default."""
        found = [
            e.confusion
            for task in self.tasks
            for e in task.evaluations
            if e.split == split and (e.primary if classifier is None else e.classifier == classifier)
        ]
        if len(found) != len(self.tasks):
            raise BadRequest(f"no counts of split {split!r} for classifier {classifier or 'primary'!r}")
        return found

    @property
    def sizes(self) -> tuple[int, ...]:
        """Classes of each task."""
        return tuple(task.classes for task in self.tasks)

    def metrics(self, split: str = "val", classifier: str | None = None) -> dict[str, float | None]:
        """Every metric by name, as fractions."""
        return summary(self.confusions(split, classifier), self.sizes)

    def accuracy_matrix(self, split: str = "val", classifier: str | None = None) -> np.ndarray:
        """R[t, k]: accuracy on task k's classes after task t, [T, T], NaN above the diagonal."""
        return accuracy_matrix(self.confusions(split, classifier), self.sizes)

    @property
    def average_incremental_accuracy(self) -> float | None:
        """Mean over tasks of the pooled accuracy on the seen classes of the validation split."""
        return self.metrics()["average_incremental_accuracy"]

    @property
    def last_accuracy(self) -> float | None:
        """Pooled accuracy on all classes after the last task."""
        return self.metrics()["last_accuracy"]

    @property
    def forgetting(self) -> float | None:
        """Mean drop from the best earlier accuracy of each old task (Chaudhry et al., 2018)."""
        return self.metrics()["forgetting"]


def run(
    method: str,
    data: Data,
    scenario: str | Mapping[str, Any],
    *,
    hp: Mapping[str, Value] | None = None,
    recipe: Mapping[str, Any] | None = None,
    net: str | None = None,
    seed: int = 0,
    validation: float = 0.1,
    unsealed: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> Result:
    """Train one method over a scenario and return what it left; for notebooks and scripts.

    Raises BadRequest before any work, RunError where training fails.
    """
    configuration = Configuration(
        method=method,
        data=DataSpec(data.name),
        scenario=parse_scenario(scenario),
        hp=hp or {},
        recipe=recipe or {},
        net=net,
        seed=seed,
        validation=validation,
        unsealed=unsealed,
        device=device,
        threads=threads,
    )
    training = Training(configuration, data)
    results = []
    while not training.finished:
        results.append(training.next_task())
    return Result(configuration, training.view.class_names, tuple(results), training.state.net)

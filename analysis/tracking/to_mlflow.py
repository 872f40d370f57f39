"""Runs in an experiment of MLflow, found again by their tags."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from analysis.tracking.packages import package_of
from analysis.tracking.tracked_run import TrackedRun
from cl_core.errors import BadRequest, first_line

KEY, DIGEST = "cl_search.key", "cl_search.digest"  # tags; the second is set last
STATUS = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
MOST = 100  # parameters that MLflow takes at once
PAGE = 1000  # runs that are listed at once


class MLflow:
    """A tracking server or database: that of MLFLOW_TRACKING_URI or a SQLite file, unless given."""

    def __init__(self, own: Path, into: str | None) -> None:
        mlflow = package_of("mlflow", "mlflow")
        entities = package_of("mlflow", "mlflow.entities")
        self._metric, self._param, self._tag = entities.Metric, entities.Param, entities.RunTag
        self._error = mlflow.exceptions.MlflowException
        uri = into or os.environ.get("MLFLOW_TRACKING_URI") or str(own)
        if "://" not in uri:  # a folder
            folder = Path(uri).expanduser().resolve()
            folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.place = uri
        self.look = f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        self._client: Any = mlflow.MlflowClient(uri)
        self._experiments: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {}

    def has(self, run: TrackedRun) -> bool:
        """Tell whether the run is there as it is now."""
        return self._known(run.study)[1].get(run.key, ("", ""))[1] == run.digest

    def write(self, run: TrackedRun) -> None:
        """Write the run, in place of an earlier state. Raises BadRequest where MLflow refuses it."""
        experiment, known = self._known(run.study)
        try:
            if run.key in known:
                self._client.delete_run(known[run.key][0])
            begun = None if run.started is None else int(run.started * 1000)
            ended = int((run.ended or run.started or 0.0) * 1000)
            tags = {KEY: run.key, "cell": run.cell, "label": run.label, "status": run.status}
            made = self._client.create_run(experiment, begun, tags, run.name).info.run_id
            metrics = [
                self._metric(name, value, ended, task)
                for task, numbers in enumerate(run.tasks)
                for name, value in {f"task/{name}": value for name, value in numbers.items()}.items()
            ]
            metrics += [
                self._metric(name, value, ended, len(run.tasks)) for name, value in run.metrics.items()
            ]
            params = [self._param(name, str(value)) for name, value in run.values.items()]
            for first in range(0, len(metrics), PAGE):
                self._client.log_batch(made, metrics=metrics[first : first + PAGE])
            for first in range(0, len(params), MOST):
                self._client.log_batch(made, params=params[first : first + MOST])
            self._client.log_batch(made, tags=[self._tag(DIGEST, run.digest)])
            self._client.set_terminated(made, STATUS[run.status], ended or None)
        except self._error as error:
            raise BadRequest(f"MLflow at {self.place} refused {run.name}: {first_line(error)}") from error
        known[run.key] = (made, run.digest)

    def _known(self, study: str) -> tuple[str, dict[str, tuple[str, str]]]:
        """Return the experiment of a study, and of each run in it the number there and the digest."""
        if study not in self._experiments:
            try:
                found = self._client.get_experiment_by_name(study)
                number = self._client.create_experiment(study) if found is None else found.experiment_id
                self._experiments[study] = (number, self._listed(number))
            except self._error as error:
                raise BadRequest(f"cannot use MLflow at {self.place}: {first_line(error)}") from error
        return self._experiments[study]

    def _listed(self, experiment: str) -> dict[str, tuple[str, str]]:
        known, page = {}, None
        while True:
            found = self._client.search_runs([experiment], max_results=PAGE, page_token=page)
            for one in found:
                tags = one.data.tags
                if KEY in tags:
                    known[tags[KEY]] = (one.info.run_id, tags.get(DIGEST, ""))
            page = found.token
            if not page:
                return known

"""Runs of Weights & Biases, written offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from analysis.tracking.packages import package_of
from analysis.tracking.tracked_run import TrackedRun
from cl_core.errors import BadRequest, first_line

SENT = "tracked.json"  # beside the files of a run: its digest


class WeightsAndBiases:
    """A folder of runs. Offline ones are sent by `wandb sync`; a run keeps its id, so it is never doubled."""

    def __init__(self, own: Path, into: str | None) -> None:
        self._folder = (own if into is None else Path(into).expanduser()).resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._mode = os.environ.get("WANDB_MODE", "offline")
        self._package = package_of("wandb", "wandb")
        self.place = str(self._folder)
        online = self._mode == "online"
        self.look = (
            "https://wandb.ai" if online else f"wandb sync {shlex.quote(self.place)}/wandb/offline-run-*"
        )

    def has(self, run: TrackedRun) -> bool:
        """Tell whether the run was written as it is now."""
        for folder in self._folders(run):
            try:
                if json.loads((folder / SENT).read_text(encoding="utf-8"))["digest"] == run.digest:
                    return True
            except (OSError, ValueError, KeyError):
                continue
        return False

    def write(self, run: TrackedRun) -> None:
        """Write the run, in place of an earlier state. Raises BadRequest where the library refuses it."""
        for folder in self._folders(run):
            shutil.rmtree(folder)
        settings: dict[str, Any] = {"console": "off", "silent": True, "disable_git": True, "save_code": False}
        try:
            opened = self._package.init(
                project=run.study,
                group=run.cell,
                name=run.name,
                id=run.key,
                resume="allow" if self._mode == "online" else None,
                config=dict(run.values),
                tags=[run.label, run.status],
                dir=str(self._folder),
                mode=self._mode,
                settings=self._package.Settings(**settings, x_disable_stats=True),
            )
            for task, numbers in enumerate(run.tasks):
                opened.log({f"task/{name}": value for name, value in numbers.items()}, step=task)
            opened.summary.update(dict(run.metrics))
            opened.finish(exit_code=int(run.status == "failed"))
        except self._package.Error as error:
            raise BadRequest(f"Weights & Biases refused {run.name}: {first_line(error)}") from error
        for folder in self._folders(run):
            (folder / SENT).write_text(json.dumps({"run": run.name, "digest": run.digest}), encoding="utf-8")

    def _folders(self, run: TrackedRun) -> list[Path]:
        return sorted((self._folder / "wandb").glob(f"*run-*-{run.key}"))

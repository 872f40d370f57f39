"""Runs as folders of event files, with the HParams dashboard."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from analysis.lake.run_folder import file_stem
from analysis.tracking.packages import package_of
from analysis.tracking.tracked_run import TrackedRun
from cl_core.errors import BadRequest

RECEIPT = "tracked.json"  # in the folder of a run: its digest


class TensorBoard:
    """A log folder; each run is a folder in it, which appears when it is whole."""

    def __init__(self, own: Path, into: str | None) -> None:
        self._folder = own if into is None else Path(into).expanduser()
        self._package = package_of("tensorboard", "tensorboardX")
        self._summary = package_of("tensorboard", "tensorboardX.summary")
        self.place = str(self._folder)
        self.look = f"tensorboard --logdir {shlex.quote(self.place)}"

    def has(self, run: TrackedRun) -> bool:
        """Tell whether the run is there as it is now. Raises BadRequest where its folder is another's."""
        folder = self._folder / file_stem(run.name)
        if not folder.exists():
            return False
        try:
            receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            receipt = {}
        if receipt.get("key") != run.key:
            raise BadRequest(f"{folder} is not of this run folder: name another --into")
        return bool(receipt.get("digest") == run.digest)

    def write(self, run: TrackedRun) -> None:
        """Write the run, in place of an earlier state."""
        folder = self._folder / file_stem(run.name)
        hidden = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(hidden, ignore_errors=True)
        with self._package.SummaryWriter(str(hidden)) as writer:
            for task, numbers in enumerate(run.tasks):
                for name, value in numbers.items():
                    writer.add_scalar(f"task/{name}", value, task, walltime=run.ended)
            whole = {f"run/{name}": value for name, value in run.metrics.items()}
            for part in self._summary.hparams(dict(run.values), whole):
                writer.file_writer.add_summary(part)
            for name, value in whole.items():
                writer.add_scalar(name, value, len(run.tasks), walltime=run.ended)
            writer.add_text("status", run.status, len(run.tasks), walltime=run.ended)
        receipt = {"run": run.name, "key": run.key, "digest": run.digest}
        (hidden / RECEIPT).write_text(json.dumps(receipt), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        hidden.rename(folder)

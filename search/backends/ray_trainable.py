"""The class trainable for Ray Tune: one step is one task, and one worker process serves many jobs.

There are no Tune checkpoints. Finished tasks are in the checkpoint store, from which the run of a killed
worker continues.
"""

from __future__ import annotations

from typing import Any

from ray.tune import Trainable

from search.worker.worker import Worker


class TaskTrainable(Trainable):
    """Carries out one job after another. Its config is that of `JobSearcher.suggest`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first job of this process."""
        self._worker = _worker(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another job in this process."""
        self._worker.close()
        self._worker = _worker(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one task; return the answer, and `done` as Tune reads it."""
        answer = self._worker.step()
        return {"answer": answer, "done": answer.done}

    def cleanup(self) -> None:
        """Free what is held."""
        self._worker.close()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Save nothing: the checkpoint store has it."""
        return None

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing: the checkpoint store has it."""


def _worker(config: dict[str, Any]) -> Worker:
    return Worker(config["job"], config["space"], config["attempt"])

"""The Ray Tune class trainable: one step is one task, and one worker process serves many trials.

There are no Tune checkpoints: finished tasks are in the checkpoint store, from which the run of a killed
worker continues.
"""

from __future__ import annotations

from typing import Any

from ray.tune import Trainable

from search.worker.worker import Order, Work


class TaskTrainable(Trainable):
    """Carries out one order after another. Its config is `Order.to_dict()`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first order of this process."""
        self._work: Work | None = None
        self._build(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another order in this process."""
        self._build(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one task; small plain values come back."""
        assert self._work is not None
        return self._work.step().to_dict()

    def cleanup(self) -> None:
        """Free what is held."""
        if self._work is not None:
            self._work.close()
            self._work = None

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Nothing: the checkpoint store is the truth."""
        return None

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the checkpoint store is the truth."""

    def _build(self, config: dict[str, Any]) -> None:
        self.cleanup()
        self._work = Work(Order.from_dict(config))

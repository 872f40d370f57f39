"""The class trainable for Ray Tune: one step is one task, and one worker process serves many jobs.

Where runs train together, the process hands its job to one that several runs share (`ray_shared`).

There are no Tune checkpoints. Finished tasks are in the checkpoint store, from which the run of a killed
worker continues.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import ray
from ray.tune import PlacementGroupFactory, Trainable

from search.backends.orphan import end_with_raylet
from search.backends.ray_shared import SharedWorker, close_shared
from search.worker.job import Node
from search.worker.worker import Worker

_NODE_ID = "ray.io/node-id"  # a label that Ray gives to every node


class TaskTrainable(Trainable):
    """Carries out one job after another. Its config is that of `JobSearcher.suggest`."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """Return the resources of one run, on a node that its job does not avoid."""
        labels = dict(config["labels"])
        if config["avoid"]:
            labels[_NODE_ID] = f"!in({','.join(config['avoid'])})"
        if not labels:
            return PlacementGroupFactory([config["bundle"]])
        return PlacementGroupFactory([config["bundle"]], bundle_label_selector=[labels])

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first job of this process."""
        end_with_raylet()
        self._node = _node()
        self._worker = self._begun(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another job in this process."""
        self._worker.close()
        self._worker = self._begun(new_config)
        return True

    def _begun(self, config: dict[str, Any]) -> Worker | SharedWorker:
        # After a worker has died a run trains in a process of its own: the next death is its own, too.
        job, space, attempt = config["job"], config["space"], config["attempt"]
        processes = config["processes"]
        if processes is not None and not attempt:
            return SharedWorker(processes, self._node.id, job, space, attempt)
        if processes is not None:
            close_shared(processes, job.id)
        return Worker(job, space, attempt)

    def step(self) -> dict[str, Any]:
        """Train one task; return the answer, and `done` as Tune reads it."""
        answer = replace(self._worker.step(), node=self._node)
        return {"answer": answer, "done": answer.done}

    def cleanup(self) -> None:
        """Free what is held."""
        self._worker.close()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Save nothing: the checkpoint store has it."""
        return None

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing: the checkpoint store has it."""


def _node() -> Node:
    """Return the node of this process. Several nodes may share a machine, so its name has a bit of its id."""
    own = ray.get_runtime_context().get_node_id()
    return Node(own, f"{socket.gethostname()} ({ray.util.get_node_ip_address()}, {own[:8]})")

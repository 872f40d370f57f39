"""The end of a task: what a method trains beside the finished network, then `Method.end`."""

from __future__ import annotations

import dataclasses

from cl_core.method import END, Phase
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training.learner import Learner
from cl_core.training.result import Trained


def end_task(learner: Learner, task: Task, g: Streams) -> Trained:
    """Train the phases of `Method.end_phases` and end the task. Raises RunError."""
    phases = learner.method.end_phases(learner.state, task, learner.view, g)
    trained = learner.train_phases(map(end_phase, phases), task, g)
    learner.method.end(learner.state, task, learner.view, g)
    return trained


def end_phase(phase: Phase) -> Phase:
    """Return a phase of `Method.end_phases`, named as on record. Raises ValueError if it trains the net."""
    if phase.train_mode or phase.params is None:
        raise ValueError(
            f"a phase of end_phases must leave the network as it is: give {phase.name!r} its params, and "
            "train_mode=False"
        )
    return dataclasses.replace(phase, name=f"{END}{phase.name}")

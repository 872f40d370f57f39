"""The end of a task: what a method trains beside the finished network, then `Method.end`."""

from __future__ import annotations

import dataclasses
import time

from cl_core.method import END, Phase
from cl_core.records import PhaseValue
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training.learner import Learner
from cl_core.training.result import Trained


def end_task(learner: Learner, task: Task, g: Streams) -> Trained:
    """Train the phases of `Method.end_phases` and end the task. Raises RunError."""
    started = time.perf_counter()
    values: list[PhaseValue] = []
    images = 0
    for whole in learner.method.end_phases(learner.state, task, learner.view, g):
        phase = learner.adapt(end_phase(whole))
        if phase is not None:
            images += learner.train_phase(phase, task, g, values)
    trained = Trained(tuple(values), images, time.perf_counter() - started)
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

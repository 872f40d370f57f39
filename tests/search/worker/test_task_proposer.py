"""The values that Optuna proposes for every attempt at a task."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import pytest

from cl_core.errors import BadRequest
from cl_core.training.adaptive_options import Attempt
from search.worker.runner import proposer_of
from search.worker.task_proposer import TaskProposer, task_proposer
from spaces.space.method_space import space_of
from spaces.space.task_space import task_space, to_plain
from tests import tiny

ATTEMPTS = 24


def proposer(attempts: int = ATTEMPTS, seed: Sequence[object] = (0,)) -> TaskProposer:
    return TaskProposer(task_space("lwf", space_of("lwf", {"temperature": 2.0})), attempts, seed)


def attempts_at(task: int, best: float, one: TaskProposer, count: int = ATTEMPTS) -> list[Attempt]:
    """Attempts whose accuracy falls with the distance from the best weight, in factors of e."""
    history: list[Attempt] = []
    while len(history) < count:
        values = dict(one.propose(task, history)) if history else {}
        weight = float(values.get("hp.kd_weight", 0.25))
        history.append(Attempt(values, 1.0 - abs(math.log(weight / best)) / 10, 100))
    return history


def test_the_best_weight_of_each_task_is_found_where_it_differs_by_task() -> None:
    for task, best in enumerate((0.05, 0.6, 6.0), start=1):
        found = max(attempts_at(task, best, proposer()), key=lambda attempt: attempt.accuracy or 0.0)
        assert abs(math.log(float(found.values["hp.kd_weight"]) / best)) < math.log(1.5)


def test_proposals_follow_the_task_the_seed_and_the_history_and_nothing_else() -> None:
    history = attempts_at(1, 0.6, proposer(), 5)
    again = attempts_at(1, 0.6, proposer(), 5)
    assert again == history
    late = proposer()
    late.propose(3, history[:2])  # what was proposed before does not matter
    assert late.propose(1, history[:4]) == history[4].values
    others = [proposer(seed=(1,)).propose(1, history[:4]), proposer().propose(2, history[:4])]
    assert all(other != history[4].values for other in others)


def test_attempts_that_diverged_are_known_and_give_no_accuracy() -> None:
    history = [Attempt({}, None, 0), *(Attempt({"hp.kd_weight": 1.0 + k / 4}, None, 0) for k in range(15))]
    assert 0.02 <= proposer().propose(1, history)["hp.kd_weight"] <= 8.0


def test_a_run_gets_a_proposer_where_it_is_adaptive() -> None:
    assert proposer_of(tiny.configuration("lwf")) is None
    plain = {"seed": 0, "parameters": to_plain(task_space("lwf", space_of("lwf")))}
    made = tiny.configuration("lwf", adaptive={"attempts": 2, "proposer": plain})
    ours = proposer_of(made)
    assert ours is not None
    values = ours.propose(1, [Attempt({}, 0.5, 1)])
    assert set(values) == {"hp.kd_weight", "hp.temperature"}
    assert "optuna" in sys.modules
    with pytest.raises(BadRequest, match="needs the parameters to search"):
        task_proposer(tiny.configuration("lwf", adaptive={}))

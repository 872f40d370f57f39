"""Task-wise adaptation: what is kept, what is read, and that an attempt is a plain task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_core.errors import BadRequest, NonFiniteLoss
from cl_core.hparams import Value
from cl_core.method import METHODS, Method
from cl_core.recipe import Recipe
from cl_core.task import Task, no_rows
from cl_core.training.adaptive import learn_adaptively
from cl_core.training.adaptive_options import Attempt
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.checks import check
from cl_core.training.result import Learnt, Trained
from cl_core.training.trainer import Training
from tests import tiny


class Listed:
    """Proposes the values of a list, one after the other, and notes what it was shown."""

    def __init__(self, *values: Mapping[str, Value]) -> None:
        self.values, self.shown = values, []

    def propose(self, task: int, history: Sequence[Attempt]) -> Mapping[str, Value]:
        self.shown.append((task, [attempt.accuracy for attempt in history]))
        return self.values[len(history) - 1]


class Simulated:
    """A task whose accuracy follows from its number and its distillation weight; None diverges."""

    def __init__(self, by_weight: Any) -> None:
        self.by_weight, self.tried, self.kept = by_weight, [], []

    def learn(self, method: Method, task: Task) -> Trained:
        self.tried.append(method.values()["kd_weight"])
        if self.by_weight(task.index, self.tried[-1]) is None:
            raise NonFiniteLoss("diverged")
        return Trained((), 100, 1.0)

    def accuracy(self, method: Method, task: Task, classes: Iterable[int]) -> Any:
        assert list(classes) == list(range(task.seen))
        return self.by_weight(task.index, self.tried[-1])

    def keep(self) -> None:
        self.kept.append(self.tried[-1])

    def take_kept(self, task: Task) -> None:
        self.kept.append("taken")

    def run(self, proposer: Listed, index: int = 1) -> Learnt:
        def changed(values: Mapping[str, Value]) -> tuple[Method, Task]:
            task = Task(index, (2,) * (index + 1), no_rows(), Recipe())
            return METHODS["lwf"]({name.removeprefix("hp."): v for name, v in values.items()}), task

        return learn_adaptively(len(proposer.values) + 1, changed, proposer, self)


def weights(*values: float) -> Listed:
    return Listed(*({"hp.kd_weight": value} for value in values))


# What is kept


def test_the_best_value_of_each_task_is_found_where_it_differs_by_task() -> None:
    best = {1: 0.5, 2: 4.0, 3: 0.25}  # the last is the default
    found = {}
    for task in best:
        simulated = Simulated(lambda index, weight: 0.9 if weight == best[index] else 0.5)
        learnt = simulated.run(weights(0.5, 1.0, 4.0), task)
        found[task] = learnt.method.values()["kd_weight"]
        assert simulated.tried == [0.25, 0.5, 1.0, 4.0]
        assert simulated.kept[-2:] == [best[task], "taken"]
        assert [attempt.accuracy for attempt in learnt.attempts].count(0.9) == 1
        assert learnt.trained.images == 400
        assert learnt.trained.seconds == pytest.approx(4.0)
    assert found == best


def test_a_tie_keeps_the_own_values_of_the_run_and_a_proposer_sees_every_attempt() -> None:
    proposer = weights(1.0, 2.0)
    learnt = Simulated(lambda index, weight: 0.5).run(proposer)
    assert learnt.method.values() == METHODS["lwf"]().values()
    assert proposer.shown == [(1, [0.5]), (1, [0.5, 0.5])]
    assert learnt.note == "adaptive: attempt 1 of 3, 0.5000"
    assert learnt.attempts == (
        Attempt({}, 0.5, 100),
        Attempt({"hp.kd_weight": 1.0}, 0.5, 100),
        Attempt({"hp.kd_weight": 2.0}, 0.5, 100),
    )


def test_an_attempt_that_diverges_is_never_kept() -> None:
    learnt = Simulated(lambda index, weight: None if weight < 1 else 0.3).run(weights(2.0, 0.5))
    assert learnt.method.values()["kd_weight"] == 2.0
    assert [attempt.accuracy for attempt in learnt.attempts] == [None, 0.3, None]
    assert learnt.trained.images == 100
    assert learnt.note == "adaptive: attempt 2 of 3, 0.3000; the run's own values diverged"
    with pytest.raises(NonFiniteLoss, match="diverged"):
        Simulated(lambda index, weight: None).run(weights(1.0, 2.0))


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=6))
@settings(max_examples=60)
def test_the_earliest_of_the_best_attempts_is_kept(accuracies: list[float | None]) -> None:
    tried = [0.25, *(0.5 + k for k in range(len(accuracies)))]
    by_weight = dict(zip(tried, [0.5, *accuracies], strict=True))
    learnt = Simulated(lambda index, weight: by_weight[weight]).run(weights(*tried[1:]))
    known = [0.5, *(-1.0 if accuracy is None else accuracy for accuracy in accuracies)]
    assert learnt.method.values()["kd_weight"] == tried[known.index(max(known))]
    assert learnt.trained.images == 100 * sum(accuracy >= 0 for accuracy in known)


# An attempt is a plain task


def _learnt(trace: dict[str, Any]) -> dict[str, Any]:
    """A task's trace without what tells of all attempts."""
    return {key: value for key, value in trace.items() if key not in ("images", "note", "attempts")}


@pytest.mark.parametrize("method", METHODS.names())
def test_with_one_attempt_a_run_is_the_plain_one_bit_for_bit(method: str) -> None:
    plain = tiny.run(method)
    made = tiny.train(tiny.configuration(method, adaptive={"attempts": 1}), proposer=Listed())
    assert [_learnt(t) for t in made.traces] == [_learnt(t) for t in plain.traces]
    assert [t["images"] for t in made.traces] == [t["images"] for t in plain.traces]
    for a, b in zip(made.states, plain.states, strict=True):
        assert all((a[name] == b[name]).all() for name in (*a, *b))


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("lwf", {"hp.kd_weight": 4.0, "recipe.lr": 0.1}),
        ("icarl", {"hp.old_weight": 5.0, "recipe.epochs": 3}),
        ("pass", {"hp.proto_weight": 1.0}),
        ("ss_il", {"hp.lr_task_decay": "none", "recipe.lr": 0.2}),
        ("bic", {"hp.distill": False}),
    ],
)
@pytest.mark.parametrize("last", [True, False], ids=["kept last", "kept before another"])
def test_a_kept_attempt_is_the_plain_task_with_its_values(
    method: str, values: dict[str, Value], last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accuracies are replaced, so that a certain attempt is kept."""
    wanted = [0.1, 0.2, 0.9] if last else [0.1, 0.9, 0.2]
    accuracies = iter(wanted)
    monkeypatch.setattr("cl_core.training.task_start.TaskStart.accuracy", lambda *args: next(accuracies))
    other: dict[str, Value] = {"recipe.lr": 0.3}
    proposer = Listed(*([other, values] if last else [values, other]))
    made = tiny.train(tiny.configuration(method, adaptive={"attempts": 3}, until=2), proposer=proposer)
    hp = {name[3:]: value for name, value in values.items() if name.startswith("hp.")}
    increment = {name[7:]: value for name, value in values.items() if name.startswith("recipe.")}
    plain = tiny.train(tiny.configuration(method, hp, recipe={"increment": increment}, until=2))
    assert [_learnt(t) for t in made.traces] == [_learnt(t) for t in plain.traces]
    assert made.results[1].hp == plain.results[1].hp
    assert made.results[1].recipe == plain.results[1].recipe
    tried = json.loads(str(made.results[1].attempts))
    assert made.results[1].images == sum(attempt["images"] for attempt in tried)
    assert made.results[0].attempts is None


def test_a_method_that_restarts_is_left_alone() -> None:
    made = tiny.train(tiny.configuration("joint", adaptive={"attempts": 3}), proposer=Listed())
    assert made.traces == tiny.run("joint").traces


# Past data alone

FEW = Listed({"recipe.lr": 0.01}, {"recipe.lr": 0.2})
THREE = {"attempts": 3}


@pytest.mark.parametrize("method", ["lwf", "icarl", "il2a"])
def test_images_of_classes_to_come_do_not_matter(method: str) -> None:
    expected = tiny.train(tiny.configuration(method, adaptive=THREE), proposer=FEW)
    source = tiny.copied(tiny.data())
    training = Training(tiny.configuration(method, adaptive=THREE), source, proposer=FEW)
    noise, clean = np.random.default_rng(0), source.train.x.copy()
    for t, result in enumerate(expected.results):
        seen = sum(tiny.SIZES[: t + 1])
        source.train.x[:] = clean
        rows = [*training.view.rows(range(seen, 7)), *training.view.rows(range(seen, 7), "val")]
        later = [int(row) for row in rows]
        source.train.x[later] = noise.integers(0, 256, clean[later].shape, dtype=np.uint8)
        again = training.next_task()
        assert again.attempts == result.attempts
        assert (again.network, again.phases, again.hp) == (result.network, result.phases, result.hp)


def test_validation_images_of_old_classes_decide_with_the_new_ones() -> None:
    source = tiny.copied(tiny.data())
    made = Training(tiny.configuration("lwf", adaptive=THREE), source, proposer=FEW)
    first = tiny.train(tiny.configuration("lwf", adaptive=THREE, until=2), proposer=FEW).results[1]
    made.next_task()
    rows = [int(row) for row in made.view.rows(range(3), "val")]
    source.train.x[rows] = 0
    assert made.next_task().attempts != first.attempts


# Resuming, keys, options


@pytest.mark.parametrize("method", METHODS.names())
def test_a_resumed_run_equals_the_straight_one(method: str, tmp_path: Path) -> None:
    made = tiny.configuration(method, recipe={"epochs": 1}, adaptive=THREE)
    straight, store = tiny.train(made, proposer=FEW), CheckpointStore(tmp_path)
    first = Training(made, tiny.data(), store, ResumeCheckpoints(store), proposer=FEW)
    first.next_task()
    first.keep_resume_checkpoint()
    first.next_task()  # its attempts are lost, and made again
    second = Training(made, tiny.data(), store, ResumeCheckpoints(store), proposer=FEW)
    assert second.done == 1
    assert [tiny.trace(second.next_task()) for _ in (1, 2)] == straight.traces[1:]


def test_a_resume_checkpoint_belongs_to_its_options_and_the_first_task_to_all() -> None:
    options = (None, {}, {"attempts": 6}, {"attempts": 3}, {"proposer": {"seed": 1}})
    trainings = [Training(tiny.configuration("lwf", adaptive=each), tiny.data()) for each in options]
    assert len({training.base_key() for training in trainings}) == 1
    keys = [training.resume_checkpoint_key(1) for training in trainings]
    assert keys[1] == keys[2]  # 6 is the default
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"adaptive": {"attemps": 3}}, "unknown key of adaptive 'attemps': did you mean 'attempts'"),
        ({"adaptive": {"attempts": 0}}, r"adaptive.attempts must lie in \[1, 1000\], not 0"),
        ({"adaptive": True}, "adaptive must be a mapping"),
        ({"adaptive": {}, "chf": {}}, "chf and adaptive both set values task by task: take one"),
        ({"adaptive": {}, "validation": 0.0, "unsealed": True}, "and validation is 0: hold out 0.1"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused_before_any_work(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(BadRequest, match=rule) as caught:
        check(tiny.configuration("lwf", **changes), tiny.data())
    assert "\n" not in str(caught.value)


def test_a_run_without_a_proposer_ends_at_its_second_task() -> None:
    training = Training(tiny.configuration("lwf", adaptive={}), tiny.data())
    training.next_task()
    with pytest.raises(ValueError, match="needs a proposer"):
        training.next_task()

"""Tasks that continue inside: what is saved, when, and that nothing but time is lost."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cl_core.errors import NonFiniteLoss, RunError
from cl_core.state import same_tensors
from cl_core.training import epoch_checkpoint
from cl_core.training.checkpoint_keys import epoch_checkpoint_key
from cl_core.training.checkpoints import DAMAGED, Checkpoint, CheckpointStore, ResumeCheckpoints
from cl_core.training.epoch_checkpoint import EpochCheckpoints, Place, TaskLeft
from cl_core.training.trainer import Training
from tests import tiny

FILE = f"{epoch_checkpoint_key('run')}.safetensors"


class Listed:
    """Proposes two rates, one after the other; with the second a training diverges."""

    def propose(self, task: int, history: Any) -> Any:
        return {"recipe.lr": (0.2, 100.0, 0.05)[len(history) - 1]}


def _saving(folder: Path, ends: Callable[[], float | None] = lambda: None) -> ResumeCheckpoints:
    return ResumeCheckpoints(CheckpointStore(folder), "run", 0.0, ends)


def _same(run: tiny.Run, straight: tiny.Run) -> bool:
    states = zip(run.states, straight.states, strict=True)
    return run.traces == straight.traces and all(same_tensors(a, b) for a, b in states)


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("lwf", {"chf": {"lrs": "0.3,1", "attempts": 2}}),
        ("lwf", {"adaptive": {"attempts": 4}}),
        ("pass", {"shared_base": True}),
        ("foster", {"recipe": {"optimizer": "adam", "lr": 0.01}}),
        ("eeil", {"hp": {"grad_noise": "sum_grad"}}),
    ],
    ids=["chf", "adaptive", "shared base", "adam", "gradient noise"],
)
def test_a_run_left_inside_its_tasks_equals_the_straight_one(
    method: str, rest: dict[str, Any], tmp_path: Path
) -> None:
    settings = tiny.configuration(method, until=2, **rest)
    run, left = tiny.train_in_pieces(settings, CheckpointStore(tmp_path), 30, Listed())
    assert _same(run, tiny.train(settings, proposer=Listed()))
    assert left >= 4


def test_steps_that_are_replayed_continue_as_plain_ones(tmp_path: Path) -> None:
    settings = tiny.configuration("lwf", until=2, recipe={"epochs": 4})
    run, left = tiny.train_in_pieces(settings, CheckpointStore(tmp_path), record=lambda work: work)
    assert _same(run, tiny.train(settings))
    assert left == 8


def test_a_killed_run_continues_and_its_seconds_and_images_are_those_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    settings, straight = tiny.configuration("eeil", until=2), tiny.run("eeil")
    training = Training(settings, tiny.data(), None, _saving(tmp_path))
    training.next_task()
    training.keep_resume_checkpoint()
    assert not (tmp_path / FILE).exists()

    def watch(stop: int | None = None) -> Any:
        seen = 0

        def look(event: Any) -> None:
            nonlocal seen
            if event.kind == "epoch ends":
                clock[0] += 1
                seen += 1
                if seen == stop:
                    raise KeyboardInterrupt

        return look

    training.learner = dataclasses.replace(training.learner, watch=watch(3))
    with pytest.raises(KeyboardInterrupt):
        training.next_task()
    clock[0] += 1000
    again = Training(settings, tiny.data(), None, _saving(tmp_path), watch=watch())
    result = again.next_task()
    assert tiny.trace(result) == straight.traces[1]
    epochs = len({(p.phase, p.epoch) for p in result.phases})
    assert result.seconds == epochs
    assert result.images == straight.results[1].images


@pytest.mark.parametrize("left", [False, True])
def test_an_attempt_that_diverges_after_it_was_left_costs_the_seconds_of_all_its_epochs(
    left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, leave = [0.0], [False]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def watch(event: Any) -> None:
        if event.kind == "epoch ends":
            clock[0] += 1
            second = event.phase.recipe.lr == 0.2
            leave[0] = left and second and event.epoch == 1
            if second and event.epoch == 2:
                raise NonFiniteLoss("it became nan")

    def begun() -> Training:
        own = _saving(tmp_path, lambda: 0.0 if leave[0] else None)
        return Training(settings, tiny.data(), None, own, watch=watch, proposer=Listed())

    settings = tiny.configuration("lwf", until=2, adaptive={"attempts": 2})
    training = begun()
    training.next_task()
    training.keep_resume_checkpoint()
    if left:
        with pytest.raises(TaskLeft):
            training.next_task()
        training = begun()
    assert training.next_task().seconds == 4  # two attempts of two epochs


def test_a_damaged_checkpoint_is_set_aside_and_the_task_trained_from_its_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny.configuration("finetune", until=1)
    left = Training(settings, tiny.data(), None, _saving(tmp_path, lambda: 0.0))
    with pytest.raises(TaskLeft):
        left.next_task()
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    result = Training(settings, tiny.data(), None, _saving(tmp_path)).next_task()
    assert tiny.trace(result) == tiny.run("finetune").traces[0]
    assert (tmp_path / DAMAGED / FILE).exists()
    assert FILE in capsys.readouterr().err


def test_a_checkpoint_of_other_values_is_not_taken(tmp_path: Path) -> None:
    other = tiny.configuration("finetune", until=1, seed=3)
    left = Training(other, tiny.data(), None, _saving(tmp_path, lambda: 0.0))
    with pytest.raises(TaskLeft):
        left.next_task()
    own = Training(tiny.configuration("finetune", until=1), tiny.data(), None, _saving(tmp_path))
    assert tiny.trace(own.next_task()) == tiny.run("finetune").traces[0]


def test_a_base_checkpoint_that_is_left_continues_for_whoever_trains_it_next(tmp_path: Path) -> None:
    store, own = CheckpointStore(tmp_path / "bases"), _saving(tmp_path)
    left = Training(tiny.configuration("icarl"), tiny.data(), store, _saving(tmp_path, lambda: 0.0))
    with pytest.raises(TaskLeft):
        left.train_base()
    assert (tmp_path / FILE).exists()
    Training(tiny.configuration("icarl", {"old_weight": 9.0}), tiny.data(), store, own).train_base()
    assert not (tmp_path / FILE).exists()
    assert tiny.train(tiny.configuration("icarl"), store=store).traces == tiny.run("icarl").traces


class Clock:
    """A store whose saves take `cost` seconds of a clock that only moves by them and by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now, self.cost, self.saved = 0.0, cost, list[float]()
        monkeypatch.setattr(epoch_checkpoint.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(epoch_checkpoint.time, "time", lambda: self.now)

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, checkpoint: Checkpoint) -> None:
        self.saved.append(self.now)
        self.now += self.cost

    def train(self, epochs: int, ends: float | None = None) -> None:
        """Pass epochs of 10 seconds each."""
        saves = EpochCheckpoints(self, "key", "identity", 60.0, lambda: ends)  # type: ignore[arg-type]
        for epoch in range(1, epochs + 1):
            self.now += 10
            saves.epoch_ends(epochs - epoch, lambda: Place(1, (), 0, 0.0, {}))


@pytest.mark.parametrize(("cost", "saves"), [(0.0, 16), (4.0, 5)])
def test_saves_are_due_by_the_clock_and_take_a_fiftieth_of_the_training_at_most(
    cost: float, saves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, cost)
    clock.train(100)
    assert len(clock.saved) == saves
    assert cost * saves <= 1000 / 50 + cost


def test_a_phase_is_left_where_it_would_not_end_in_time_and_else_saved_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, 1.0)
    clock.train(4, ends=60.0)
    assert clock.saved == [10.0]
    clock = Clock(monkeypatch, 1.0)
    with pytest.raises(TaskLeft):
        clock.train(40, ends=60.0)
    assert clock.saved == [10.0]


def test_a_checkpoint_that_cannot_be_saved_disturbs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr(CheckpointStore, "save", full)
    settings = tiny.configuration("finetune", until=1)
    result = Training(settings, tiny.data(), None, _saving(tmp_path, lambda: 0.0)).next_task()
    assert tiny.trace(result) == tiny.run("finetune").traces[0]
    with contextlib.suppress(FileNotFoundError):
        assert not any(tmp_path.iterdir())
    assert "no checkpoint inside the task: the disk is full" in capsys.readouterr().err

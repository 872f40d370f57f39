"""Base checkpoints: published once, and the seconds of their training."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cl_core.training.checkpoints import CheckpointStore
from cl_core.training.trainer import Training
from tests import tiny


def test_training_the_base_alone_publishes_what_a_run_would(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    settings_ = tiny.configuration("bic")
    Training(settings_, tiny.data(), store).train_base()
    finished = tiny.train(settings_, store=store)
    assert finished.results[0].shared
    assert finished.traces == tiny.run("bic").traces
    with pytest.raises(ValueError, match="needs a store"):
        Training(settings_, tiny.data()).train_base()


def test_waiting_for_another_process_that_trains_the_base_is_no_time_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(CheckpointStore):
        @contextlib.contextmanager
        def lock(self, key: str) -> Iterator[None]:
            clock["now"] += 1000.0
            with super().lock(key):
                yield

    clock = {"now": 0.0}

    def tick() -> float:
        clock["now"] += 1.0
        return clock["now"]

    monkeypatch.setattr(time, "perf_counter", tick)
    assert tiny.train(tiny.configuration("lwf", until=1), store=Slow(tmp_path)).results[0].seconds == 1.0
    assert clock["now"] > 1000


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_the_first_task_of_a_process_loads_nothing_and_takes_as_long_as_the_next(optimizer: str) -> None:
    # Both were inside the first task's seconds: torch's compiler, and scikit-learn for one file. CPU seconds,
    # because other processes work beside this one.
    code = f"""
import sys, time
from cl_core.training.configuration import Configuration
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import load
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.trainer import Training
spec = DataSpec("digits", per_class=20)
recipe = {{"epochs": 5, "optimizer": "{optimizer}"}}
one = Configuration("icarl", spec, parse_scenario("B0-5tasks"), recipe=recipe, device="cpu", threads=1)
data, seconds = load(spec), []
before = None
for _ in range(3):
    training = Training(one, data)
    before = before or set(sys.modules)
    began = time.process_time()
    training.next_task()
    seconds.append(time.process_time() - began)
unloaded = [name for name in ("torch._dynamo", "sklearn") if name not in sys.modules]
print(sorted(set(sys.modules) - before), *unloaded, seconds[0] < 2 * max(seconds[1:]) + 0.2)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] torch._dynamo sklearn True"


def test_the_seconds_of_a_shared_stage_are_those_of_its_training(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    first = tiny.train(tiny.configuration("lwf"), store=store).results[0]
    second = tiny.train(tiny.configuration("replay"), store=store).results[0]
    assert second.shared
    assert second.seconds == first.seconds > 0
    assert second.images == first.images

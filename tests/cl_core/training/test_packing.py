"""The number of runs that train together on a GPU: the rule on given rates, and its measurement on a CPU."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cl_core.training.packing import Measured, find_packing, trained_together
from tests import tiny


class Device:
    """A GPU with known rates; runs need `each` of its memory, and more than all of it is an error."""

    def __init__(self, rates: dict[int, float], each: float = 0.01) -> None:
        self._rates, self._each = rates, each

    def __call__(self, runs: int) -> Measured:
        """Measure some runs."""
        if runs * self._each > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Measured(round(1000 * self._rates[runs]), 1000.0, runs * self._each)


RATES = {1: 26_000.0, 2: 33_000.0, 4: 40_000.0, 8: 44_300.0, 16: 45_400.0}


def test_runs_double_while_the_rate_grows_by_a_tenth() -> None:
    found = find_packing(Device(RATES), 16)
    assert found.runs == 8
    assert list(found.tried) == [1, 2, 4, 8, 16]
    assert found.tried[4].rate == 40_000
    assert find_packing(Device(RATES | {2: 28_000.0}), 16).runs == 1
    assert find_packing(Device(RATES | {16: 60_000.0}), 16).runs == 16


@pytest.mark.parametrize(("each", "runs"), [(0.05, 8), (0.06, 8), (0.11, 4), (0.3, 2), (0.43, 1), (0.9, 1)])
def test_no_number_is_tried_that_fills_more_than_85_percent_of_the_memory(each: float, runs: int) -> None:
    found = find_packing(Device(RATES, each), 16)
    assert found.runs == runs
    assert max(found.tried) * each <= 0.85 or found.tried == {1: found.tried[1]}


def test_no_more_runs_are_tried_than_there_may_be() -> None:
    assert list(find_packing(Device(RATES), 6).tried) == [1, 2, 4]
    assert list(find_packing(Device(RATES), 0).tried) == [1]


def test_a_gpu_that_is_full_all_the_same_ends_the_search_and_other_errors_are_raised() -> None:
    def shared(runs: int) -> Measured:
        if runs == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Device(RATES)(runs)

    assert find_packing(shared, 16).runs == 2
    with pytest.raises(KeyError):
        find_packing(Device({1: 1.0}), 16)


@pytest.mark.parametrize(("until", "first"), [(None, False), (1, True)])
def test_the_measured_images_are_those_of_the_second_task_of_all_runs(until: int | None, first: bool) -> None:
    settings = dataclasses.replace(tiny.configuration("lwf"), until=until)
    epochs = 3
    known = tiny.run("lwf", recipe={"epochs": epochs}).results[0 if first else 1].images
    found = trained_together(settings, tiny.data(), epochs, 2, memory=lambda device: 0.25)
    assert found.images == 2 * known
    assert found.seconds > 0
    assert found.memory == 0.25

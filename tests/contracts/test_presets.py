"""What every preset that ships must hold."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.dataset import DATASETS, Data
from cl_core.method import METHODS
from spaces import presets
from spaces.resolved import resolve
from spaces.study_file import load_study

CLASSES = {"digits": (10, 8), "cifar10": (10, 32), "cifar100": (100, 32), "tiny-imagenet": (200, 64)}


def stand_in(name: str) -> Data:
    """Data with the shape and the number of classes of a real data set."""
    classes, side = CLASSES[name]
    y = np.repeat(np.arange(classes), 20)
    x = np.random.default_rng(0).integers(0, 256, (len(y), side, side, 3), dtype=np.uint8)
    return Data.from_arrays(x, y, name=name)


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_resolves_and_is_named_as_its_file(name: str) -> None:
    study = load_study(name)
    assert study.study == name
    assert study.data.name in DATASETS.names()
    resolved = resolve(study, stand_in(study.data.name))
    assert len(resolved.cells) == len(study.methods) * len(study.scenarios)


@pytest.mark.parametrize("name", presets.names())
def test_every_cell_of_a_preset_that_has_increments_is_searched_with_the_same_budget(name: str) -> None:
    study = load_study(name)
    cells = resolve(study, stand_in(study.data.name)).cells
    restarting = [cell for cell in cells if METHODS[cell.method].restarts]
    searched = [cell for cell in cells if cell not in restarting]
    assert {cell.budget for cell in searched} == {study.search.trials}
    assert all(cell.space.searched for cell in searched)
    assert [(cell.budget, cell.note) for cell in restarting] == [(1, "nothing to search")] * len(restarting)


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_says_in_its_first_line_what_it_is(name: str) -> None:
    assert presets.summary(name).endswith(".")


def test_the_quickstart_needs_no_download_and_compares_at_least_four_methods() -> None:
    study = load_study("quickstart")
    assert study.data.name == "digits"
    assert len(study.methods) >= 4
    assert study.search.trials >= 6

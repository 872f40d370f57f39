"""Trials as points of the unit cube, hand-computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.lake.searched_space import Parameter
from analysis.selection.points import MIDDLE, points
from cl_core.hparams import Choice, Float

RATE = Parameter("recipe.lr", "recipe.lr", Float(1e-3, 1e-1, log=True), 1e-2)
KIND = Parameter("hp.selection", "hp.selection", Choice("herding", "random"), "herding")
SHARE = Parameter("hp.share", "hp.share", Float(0.0, 4.0), 1.0, when={"hp.selection": ("random",)})
FIXED = Parameter("hp.fixed", "hp.fixed", Choice("only"), "only")


def test_numbers_lie_in_their_range_and_categories_one_apart() -> None:
    rows = pd.DataFrame(
        {
            "recipe.lr": [1e-3, 1e-2, 1e-1],
            "hp.selection": ["herding", "random", "random"],
            "hp.share": [1.0, 1.0, 4.0],
            "hp.fixed": ["only"] * 3,
        }
    )
    found = points((RATE, KIND, SHARE, FIXED), rows)
    assert found[:, 0] == pytest.approx([0.0, 0.5, 1.0])
    assert np.linalg.norm(found[0, 1:3] - found[1, 1:3]) == pytest.approx(1.0)
    assert found[:, 3] == pytest.approx([MIDDLE, 0.25, 1.0])  # it does not act in the first trial
    assert found.shape == (3, 4)


def test_a_space_without_searched_values_has_points_without_coordinates() -> None:
    assert points((FIXED,), pd.DataFrame({"hp.fixed": ["only"] * 2})).shape == (2, 0)

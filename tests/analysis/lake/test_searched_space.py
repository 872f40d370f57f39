"""Values of the tables as values of the space that was searched."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.lake.searched_space import Parameter
from cl_core.hparams import Choice, Float, Int

SIZE = Parameter("hp.size", "hp.size", Int(2, 20), 10)
FLAG = Parameter("hp.flag", "hp.flag", Choice(True, False), True)
RATE = Parameter("hp.rate", "hp.rate", Float(0.1, 1.0), 0.5)


@pytest.mark.parametrize("missing", [[], [None]])
@pytest.mark.parametrize(("parameter", "known"), [(SIZE, 14), (FLAG, False), (RATE, 0.25)])
def test_a_cell_of_a_frame_is_a_value_whether_or_not_others_are_missing(
    parameter: Parameter, known: object, missing: list[None]
) -> None:
    column = pd.DataFrame({"x": [known, *missing]})["x"]
    found = parameter.value(column.iloc[0])
    assert found == known
    assert type(found) is type(known)


@pytest.mark.parametrize("found", [None, float("nan"), np.float64("nan"), pd.NA, np.int64(21), np.True_])
def test_a_value_outside_of_the_domain_is_none(found: object) -> None:
    assert SIZE.value(found) is None

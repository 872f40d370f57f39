"""`check`: the contracts of one part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis.lake.open import open_results
from analysis.report.section import VIEWS
from analysis.testing import VIEW_CONTRACTS
from cl_core.contract import Outcome, outcomes
from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import load
from cl_core.method import METHODS
from cl_core.nets.network import sample
from cl_core.testing import DATA_SET_CONTRACTS, METHOD_CONTRACTS, NET_CONTRACTS
from search.commands.cards import SHAPE, kind_of


def check(name: str, root: str | None = None, run: Path | None = None) -> Iterator[Outcome]:
    """Give each contract's outcome as it is known. Raises BadRequest.

    `root` is the folder of a data set's files, `run` the run folder that a view is drawn for.
    """
    kind = kind_of(name)
    if kind == "method":
        METHODS[name]
        return outcomes(METHOD_CONTRACTS, name)
    if kind == "net":
        sample(name, SHAPE, True)
        return outcomes(NET_CONTRACTS, name, SHAPE)
    if kind == "data set":
        load(DataSpec(name, root=root))
        return outcomes(DATA_SET_CONTRACTS, DataSpec(name, root=root))
    if run is None:
        raise BadRequest(f"view {name!r} is drawn for a run: name its folder, as in --run runs/quickstart")
    VIEWS[name]
    return outcomes(VIEW_CONTRACTS, name, open_results(run))

"""Contracts that every method, net and data set keeps. Run them on your own parts.

    from cl_core.testing import check_method
    check_method("mypkg.methods:Mine")          # raises AssertionError with a line for each that is broken

    @pytest.mark.parametrize("contract", METHOD_CONTRACTS)      # or one test each
    def test_mine(contract):
        contract("mypkg.methods:Mine")

The project's own tests run the same functions on what is built in. Those of views are in `analysis.testing`.
"""

from __future__ import annotations

from cl_core.contract import Contract, Outcome, outcomes, require, sentence
from cl_core.images.data_spec import DataSpec
from cl_core.nets.network import Shape
from cl_core.testing.data_sets import DATA_SET_CONTRACTS
from cl_core.testing.methods import METHOD_CONTRACTS
from cl_core.testing.nets import NET_CONTRACTS

__all__ = [
    "DATA_SET_CONTRACTS",
    "METHOD_CONTRACTS",
    "NET_CONTRACTS",
    "Contract",
    "Outcome",
    "check_data_set",
    "check_method",
    "check_net",
    "outcomes",
    "require",
    "sentence",
]


def check_method(name: str) -> None:
    """Run every contract on a method, a name or module:attribute. Raises AssertionError."""
    require(name, outcomes(METHOD_CONTRACTS, name))


def check_net(name: str, shape: Shape = (3, 32, 32)) -> None:
    """Run every contract on a net with images of `shape` [C, H, W]. Raises AssertionError."""
    require(name, outcomes(NET_CONTRACTS, name, shape))


def check_data_set(spec: DataSpec | str) -> None:
    """Run every contract on a data set of at least four classes. Raises AssertionError."""
    spec = DataSpec(spec) if isinstance(spec, str) else spec
    require(spec.name, outcomes(DATA_SET_CONTRACTS, spec))

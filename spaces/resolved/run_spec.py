"""RunSpec: one run of a study, as plain values that travel to whichever process trains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cl_core.hparams import digest, to_dict
from cl_core.images.data_spec import DataSpec
from cl_core.training.configuration import Configuration

if TYPE_CHECKING:  # a worker builds runs without pydantic
    from spaces.study.protocol import ProtocolPart


@dataclass(frozen=True)
class RunSpec:
    """A run and its place in a study."""

    run: str
    cell: str
    label: str
    trial: int  # number of the trial in its cell
    purpose: str  # search | confirm | final | reference
    trial_digest: str  # of the trial's values
    configuration: Configuration
    objectives: tuple[str, ...] = ("average_incremental_accuracy",)
    split: str = "val"  # whose counts decide: val, or test where that is what was asked for

    @property
    def measured(self) -> str:
        """The split of the run's metrics: the deciding one, or test if no validation rows are held out."""
        return self.split if self.configuration.validation else "test"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {
            **{k: getattr(self, k) for k in self.__dataclass_fields__},
            "configuration": self.configuration.to_dict(),
            "objectives": list(self.objectives),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """Rebuild the run that `to_dict` described."""
        configuration = Configuration.from_dict(values["configuration"])
        objectives = tuple(values["objectives"])
        return cls(**{**values, "configuration": configuration, "objectives": objectives})


def trial_digest(values: Mapping[str, Any]) -> str:
    """Return the digest that groups the runs of one trial."""
    return digest(dict(values), 16)


def searched(
    configuration: Configuration, protocol: ProtocolPart, proposer: Mapping[str, Any] | None = None
) -> Configuration:
    """Return a run as the search trains it under `protocol`.

    `proposer` describes what proposes values at every task under adaptive; without it the values are fixed.
    """
    adaptive = protocol.adaptive.model_dump() | {"proposer": proposer} if protocol.adaptive else None
    return replace(
        configuration,
        until=protocol.first,
        shared_base=protocol.select_on == "shared-base",
        chf=to_dict(protocol.chf) if protocol.chf else None,
        adaptive=adaptive if proposer else None,
        unsealed=protocol.opens_test,
    )


def evaluated(configuration: Configuration, purpose: str, data: DataSpec) -> Configuration:
    """Return a run of the search as it is trained for another `purpose`: all tasks, with test rows open.

    A final run trains on training and validation rows of `data`, the images of the evaluation. Where values
    are chosen inside the run, validation rows stay held out. A reference run keeps the split of the search.
    """
    out = replace(configuration, until=None, unsealed=True)
    if purpose == "final":
        inside = out.chf is not None or out.adaptive is not None
        out = replace(out, data=data, validation=out.validation if inside else 0.0)
    return out

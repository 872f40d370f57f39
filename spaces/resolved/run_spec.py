"""What one run is asked to do, as plain values that travel to whichever process carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cl_core.hparams import digest
from cl_core.training.configuration import Configuration


@dataclass(frozen=True)
class RunSpec:
    """A run and its place in a study."""

    run: str
    cell: str
    label: str
    trial: int  # number of the trial in its cell
    purpose: str  # search | final | reference
    trial_digest: str  # of the trial's values
    configuration: Configuration
    objectives: tuple[str, ...] = ("average_incremental_accuracy",)
    split: str = "val"  # whose counts decide: val, or test where that is what was asked for

    @property
    def measured(self) -> str:
        """The split of the run's metrics: the one that decides, or test where nothing is held out."""
        return self.split if self.configuration.validation else "test"

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can carry."""
        return {
            **{k: getattr(self, k) for k in self.__dataclass_fields__},
            "configuration": self.configuration.to_dict(),
            "objectives": list(self.objectives),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """The run that `to_dict` described."""
        configuration = Configuration.from_dict(values["configuration"])
        objectives = tuple(values["objectives"])
        return cls(**{**values, "configuration": configuration, "objectives": objectives})


def trial_digest(values: Mapping[str, Any]) -> str:
    """The digest that groups the runs of one trial."""
    return digest(dict(values), 16)

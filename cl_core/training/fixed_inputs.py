"""The batches of a phase whose inputs are fixed: the backbone's features of each row, computed once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cl_core.images.view import EVALUATION_BATCH, View
from cl_core.method import Phase
from cl_core.nets.network import Network
from cl_core.task import Batch


class FixedInputs:
    """Features [n, D] and labels [n] of a phase's rows, from the network in evaluation mode.

    In float32 on a CPU, a feature has the same bits in batches of any size above one, so the phase ends as if
    it read the images in every step. Raises ValueError where the phase has no fixed inputs.
    """

    def __init__(self, phase: Phase, net: Network, view: View) -> None:
        if not phase.rows:
            raise ValueError(f"phase {phase.name!r} has fixed inputs, so it needs rows")
        backbone = set(map(id, net.backbone.parameters()))
        if phase.params is None or any(id(p) in backbone for p in phase.params):
            raise ValueError(f"phase {phase.name!r} has fixed inputs, so it must not train the backbone")
        if phase.train_mode or phase.augment:
            raise ValueError(f"phase {phase.name!r} has fixed inputs: turn train_mode and augment off")
        self._rows = torch.cat([source.ids for source in phase.rows]).unique()
        net.eval()
        parts = self._rows.tensor_split(math.ceil(len(self._rows) / EVALUATION_BATCH))
        with torch.no_grad():
            self._features = torch.cat([net(view.images(part)).features for part in parts])
        self._labels = view.labels(self._rows).to(view.device)

    def batches(self, steps: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the batches of an epoch; `steps` are the row ids of each."""
        for rows in steps:
            at = torch.searchsorted(self._rows, rows).to(self._features.device)
            yield Batch(self._features[at], self._labels[at], rows=rows.to(at.device))

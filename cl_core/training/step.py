"""One step of a phase: the loss, its gradients, and the move of the parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cl_core.method import Phase
from cl_core.state import State
from cl_core.task import Batch, Task
from cl_core.training.optimisation import rows_to_keep
from cl_core.training.optimiser import make_optimiser
from cl_core.training.terms import objective

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


class Step:
    """The steps of a phase, one at a time; `sums` and `weights` are those of its loss's terms.

    All that changes from step to step lies in tensors: the batch, the learning rate of a GPU and the sums. So
    a step can be captured as a CUDA graph.
    """

    def __init__(
        self, phase: Phase, state: State, task: Task, params: Sequence[nn.Parameter], autocast: Autocast
    ) -> None:
        self._phase, self._state, self._task, self._params = phase, state, task, params
        self._autocast = autocast
        self._optimiser = make_optimiser(params, phase.recipe)
        self._kept_rows = rows_to_keep(state.net, phase.head_rows)
        device = params[0].device
        # float32 on a GPU, as its kernels read it.
        self._rate = torch.zeros((), device=device) if device.type == "cuda" else None
        self._plain_rate = 0.0
        self.weights: dict[str, float | Tensor] = {}
        self.sums: Tensor | None = None  # [terms]: of value x images over the epoch

    def tensors(self) -> dict[str, Tensor]:
        """Return what outlives an epoch beside what is trained: that of the optimiser."""
        return {f"optimiser.{name}": t for name, t in self._optimiser.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue with what `tensors` returned after an epoch; further tensors are passed over."""
        stem = "optimiser."
        self._optimiser.restore({n.removeprefix(stem): t for n, t in tensors.items() if n.startswith(stem)})

    def begin_epoch(self, rate: float) -> None:
        """Take the epoch's learning rate, and begin its sums at zero."""
        self._plain_rate = rate
        if self._rate is not None:
            self._rate.fill_(rate)
        if self.sums is not None:
            self.sums.zero_()

    def __call__(self, batch: Batch, width: int, change: Callable[[], None] | None = None) -> None:
        """Train on a batch that counts as `width` images; `change` may change the gradients."""
        with self._autocast():
            terms = self._phase.loss(self._state, batch, self._task)
        loss = objective(terms, self._phase.loss)
        for p in self._params:
            p.grad = None
        loss.backward()
        if change is not None:
            change()
        self._optimiser.step(self._plain_rate if self._rate is None else self._rate)
        with torch.no_grad():
            for rows, before, start, stop in self._kept_rows:
                rows[:start] = before[:start]
                rows[stop:] = before[stop:]
            values = torch.stack([term.value.float() for term in terms.values()])
            if self.sums is None:
                self.sums = torch.zeros_like(values)
            self.sums += width * values
        self.weights = {
            name: term.weight.detach() if isinstance(term.weight, Tensor) else term.weight
            for name, term in terms.items()
        }

"""Phases at the end of a task: in every task, beside a network that they leave as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from cl_core.images.view import View
from cl_core.method import METHODS, Phase, Rows
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.checkpoints import CheckpointStore
from cl_core.training.task_end import end_phase
from tests import tiny

FineTuning = METHODS["finetune"]


def _mean(s: State, b: Batch, task: Task) -> dict[str, Term]:
    with torch.no_grad():
        f = s.net(b.x).features
    return {"distance": Term((f - s.local["center"]).square().mean())}


def _centred(self: object, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
    s.local["center"] = nn.Parameter(torch.zeros(s.head.weight.shape[1]))
    params = (s.local["center"],)
    yield Phase("center", (Rows(task.rows),), task.recipe, _mean, params, train_mode=False)
    s.kept[f"center {task.index}"] = s.local["center"].detach().clone()


def test_they_train_in_every_task_also_where_the_first_network_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny.train(tiny.configuration("finetune"))
    monkeypatch.setattr(FineTuning, "end_phases", _centred)
    store = CheckpointStore(tmp_path)
    own, shared = (tiny.train(tiny.configuration("finetune"), store=store) for _ in range(2))
    assert [result.shared for result in shared.results] == [True, False, False]
    assert own.traces == shared.traces
    for t, (result, before) in enumerate(zip(own.results, plain.results, strict=True)):
        assert result.network == before.network
        assert [p.phase for p in result.phases] == ["train", "train", "end center", "end center"]
        assert result.images == 2 * before.images
        assert own.states[t][f"kept.center {t}"].any()


def test_a_phase_that_would_train_the_network_is_refused() -> None:
    phase = Phase("center", (), tiny.task(1).recipe, _mean, train_mode=False)
    with pytest.raises(ValueError, match="must leave the network as it is: give 'center' its params"):
        end_phase(phase)

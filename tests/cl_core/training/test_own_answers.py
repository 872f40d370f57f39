"""Values that a method keeps of each exemplar are found by the row ids of a batch: DER++ as an example."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_core.hparams import hparams
from cl_core.method import METHODS
from cl_core.task import Batch
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.chf import idle, strongest
from cl_core.training.trainer import Training
from tests import tiny
from tests.derpp import DERpp

OWN = "tests.derpp:DERpp"
BUDGETS: list[dict[str, Any]] = [{}, {"budget": "total"}, {"budget": "total", "selection": "random"}]


@pytest.mark.parametrize("hp", BUDGETS, ids=str)
def test_stored_answers_are_those_of_the_network_that_stored_them(hp: dict[str, Any]) -> None:
    training = Training(tiny.configuration(OWN, hp), tiny.data())
    answers: dict[int, torch.Tensor] = {}  # row -> the logits when it was stored
    while not training.finished:
        training.next_task()
        kept, net = training.state.kept, training.state.net.eval()
        rows = kept["rows"]
        assert sorted(training.state.memory.ids().tolist()) == rows.tolist()
        with torch.no_grad():
            now = net(training.view.images(rows)).logits
        for row, logits, answer in zip(rows.tolist(), kept["logits"], now, strict=True):
            stored = answers.setdefault(row, answer)
            assert torch.allclose(logits[: len(stored)], stored, atol=1e-5)
            assert not logits[len(stored) :].any()
    assert len({len(stored) for stored in answers.values()}) == 3


def test_the_loss_compares_each_exemplar_with_its_own_stored_logits() -> None:
    z = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0], [1.0, 5.0, 0.0]])
    state = tiny.fixed_state(z)
    state.kept = {
        "rows": torch.tensor([4, 17]),
        "logits": torch.tensor([[1.0, 4.0], [1.0, 0.0]]),
    }
    batch = Batch(torch.zeros(3, 1), torch.tensor([0, 2, 1]), rows=torch.tensor([17, 30, 4]))
    terms = DERpp({"alpha": 2.0}).loss(state, batch, tiny.task(1, 1, 1))
    # Row 17, of the first task: (1-1)^2; row 4: (1-1)^2 and (5-4)^2. Three stored logits count.
    assert terms["dark"].value.item() == pytest.approx(1 / 3)
    assert terms["dark"].weight == 2.0


@pytest.mark.parametrize("hp", BUDGETS, ids=str)
def test_two_equal_runs_and_a_resumed_one_are_equal(hp: dict[str, Any], tmp_path: Path) -> None:
    settings = tiny.configuration(OWN, hp)
    straight, again = tiny.train(settings), tiny.train(settings)
    assert again.traces == straight.traces
    store = CheckpointStore(tmp_path)
    first = Training(settings, tiny.data(), store, ResumeCheckpoints(store))
    traces = []
    for _ in range(2):
        traces.append(tiny.trace(first.next_task()))
        first.keep_resume_checkpoint()
    second = Training(settings, tiny.data(), store, ResumeCheckpoints(store))
    assert second.done == 2
    assert [*traces, tiny.trace(second.next_task())] == straight.traces
    assert straight.results[0].network == tiny.run("finetune").results[0].network  # the plain first task


def test_stored_answers_hold_to_the_past_without_a_teacher() -> None:
    low, high = (tiny.train(tiny.configuration(OWN, {"alpha": alpha})).results for alpha in (0.01, 5.0))
    dark = [[p.value for p in results[2].phases if p.term == "dark"][-1] for results in (low, high)]
    assert dark[1] < dark[0]


def test_chf_relaxes_a_weight_that_has_no_teacher() -> None:
    assert not METHODS[OWN].teacher
    assert [p.name for p in hparams(DERpp.HP).values() if p.stability] == ["alpha"]
    assert strongest(DERpp(), ()) == {"alpha": 5.0}
    assert idle(DERpp()) is None
    assert "relaxes nothing" in (idle(DERpp(), {"alpha"}) or "")
    chf = {"lrs": "1", "drop": 0.0, "attempts": 3}
    result = tiny.train(tiny.configuration(OWN, chf=chf, until=2)).results[1]
    assert result.hp["alpha"] in (5.0, 2.5, 1.25)


def test_the_page_shows_this_method_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "cl_core/README.md").read_text(encoding="utf-8")
    source = Path(inspect.getfile(DERpp)).read_text(encoding="utf-8")
    assert f"```python\n{source}```\n" in page

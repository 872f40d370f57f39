"""The measure of how strongly each term pulls: its numbers by hand, and that watching changes no run."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from cl_core.errors import BadRequest
from cl_core.method import Phase, Rows
from cl_core.recipe import Recipe
from cl_core.state import State
from cl_core.task import Batch, Task, Term, no_rows
from cl_core.training.checkpoints import CheckpointStore
from tests import tiny
from tests.benchmarks.terms import add_arguments, chosen, gradient_norms, measure, runs, term_shares


def _loss(s: State, b: Batch, t: Task) -> dict[str, Term]:
    raise AssertionError("only its terms are measured")


def _phase(**fields: object) -> Phase:
    return Phase("train", (Rows(no_rows()),), Recipe(), _loss, **fields)  # type: ignore[arg-type]


def test_the_norm_of_a_weighted_gradient_by_hand() -> None:
    state = tiny.fixed_state(torch.zeros(1, 3))
    a, b = torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor(5.0))
    terms = {
        "line": Term(3 * a[0] + 4 * b, 0.5),  # (1.5, 0) and 2
        "square": Term(a.square().sum() / 2, torch.tensor(2.0)),  # (2, 4)
        "constant": Term(torch.tensor(7.0)),
    }
    norms = gradient_norms(terms, _phase(params=(a, b)), state)
    assert norms["line"] == pytest.approx((2.5, 0.5))
    assert norms["square"] == pytest.approx((20**0.5, 2.0))
    assert norms["constant"] == (0.0, 1.0)
    assert a.grad is None
    # What does not train does not count.
    assert gradient_norms(terms, _phase(params=(b,)), state)["square"] == (0.0, 2.0)


def test_head_rows_that_are_put_back_do_not_count() -> None:
    state = tiny.fixed_state(torch.zeros(1, 3))
    terms = {"ce": Term(3 * state.head.weight[0].sum() + state.head.weight[2, 0])}
    assert gradient_norms(terms, _phase(head_rows=(1, 3)), state)["ce"][0] == 1.0
    assert gradient_norms(terms, _phase(), state)["ce"][0] == pytest.approx(19**0.5)


@pytest.mark.parametrize("method", ["lwf", "icarl", "bic", "ss_il"])
def test_shares_of_a_phase_sum_to_1_and_every_term_acts(method: str) -> None:
    phases = term_shares(tiny.configuration(method), tiny.data(), steps=3)
    assert set(phases) == {p.phase for p in tiny.run(method).results[1].phases}
    for name, terms in phases.items():
        assert set(terms) == {p.term for p in tiny.run(method).results[1].phases if p.phase == name}
        assert sum(t["share"] for t in terms.values()) == pytest.approx(1.0)
        assert all(t["share"] > 0 for t in terms.values())
    weights = {p.term: p.weight for p in tiny.run(method).results[1].phases}
    assert {n: t["weight"] for terms in phases.values() for n, t in terms.items()} == pytest.approx(weights)


def test_a_larger_weight_gives_a_larger_share() -> None:
    small, large = (
        term_shares(tiny.configuration("lwf", {"kd_weight": w}), tiny.data(), steps=2)["train"]["kd"]["share"]
        for w in (0.25, 2.5)
    )
    assert 0 < small < large < 1


def test_watching_changes_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cl_core.training.trainer import Training

    digests = []
    finished = Training.next_task

    def noted(self: Training) -> object:
        result = finished(self)
        digests.append(result.network)
        return result

    monkeypatch.setattr(Training, "next_task", noted)
    for _ in range(2):  # the second time the first task comes from the store
        term_shares(tiny.configuration("bic"), tiny.data(), store=CheckpointStore(tmp_path))
    assert digests == [r.network for r in tiny.run("bic").results[:2]] * 2


def test_the_table_has_every_method_that_distils_or_replays_and_each_of_its_losses() -> None:
    found = [(method, hp) for _, method, hp in runs()]
    methods = {method for method, _ in found}
    assert {"lwf", "icarl", "bic", "ss_il", "replay"} <= methods
    assert not methods & {"finetune", "joint"}
    assert [hp for method, hp in found if method == "icarl"] == [{"loss": "bce"}, {"loss": "ce"}]
    assert len({label for label, _, _ in runs()}) == len(found)


def test_some_runs_are_chosen_by_words_of_their_label_and_set_to_other_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [label for label, _, _ in chosen(["relation-angle"])] == [
        "distill relation-angle",
        "replay relation-angle",
    ]
    assert [label for label, _, _ in chosen(["bic", "kl distill"])] == ["bic", "distill kl"]
    assert chosen(None) == list(runs())
    with pytest.raises(BadRequest, match="unknown run 'relation'"):
        chosen(["relation"])
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    few = ["--data", "synthetic", "--per-class", "6", "--epochs", "1", "--scenario", "B0-2tasks"]
    shares = [
        measure(parser.parse_args([*few, "--run", "lwf", *more]))["lwf"]["train"]["kd"]
        for more in ([], ["--set", "kd_weight=5", "--set", "temperature=3"])
    ]
    assert shares[0]["share"] < shares[1]["share"]
    assert shares[1]["weight"] > shares[0]["weight"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--set", "kd_weight"])
    assert "must read like kd_weight=10" in capsys.readouterr().err

"""BiC without distillation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests import tiny
from tests.cl_core.methods.bic_inputs import BiC, given_state


@pytest.mark.parametrize("hp", [{}, {"kd_schedule": "fixed", "kd_lambda": 0.7}], ids=str)
def test_without_distillation_cross_entropy_has_weight_1_and_the_teacher_is_not_asked(
    hp: dict[str, Any],
) -> None:
    z, b = tiny.logits(0, 5), tiny.batch([0, 1, 3, 4])
    state = given_state(z, tiny.logits(1, 3))
    terms = BiC({"distill": False, **hp}).loss(state, b, tiny.task(3, 2))
    assert list(terms) == ["ce"]
    assert terms["ce"].weight == 1.0
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))
    assert state.teacher is not None
    assert not state.teacher.net.asked


def test_without_distillation_per_task_layers_still_correct_the_student_of_stage_1() -> None:
    z, b = tiny.logits(0, 7), tiny.batch([0, 3, 5, 6])
    state = given_state(z, tiny.logits(1, 5))
    state.kept["bias"] = torch.tensor([[1.0, 0.0], [0.5, -1.0]])
    student = torch.cat([z[:, :3], 0.5 * z[:, 3:5] - 1.0, z[:, 5:]], dim=1)
    for layers, logits in (("per_task", student), ("single_last", z)):
        method = BiC({"distill": False, "bias_layers": layers})
        ce = method.loss(state, b, tiny.task(3, 2, 2))["ce"].value
        assert ce.item() == pytest.approx(F.cross_entropy(logits, b.y).item(), rel=1e-6)


def test_without_distillation_stage_2_stays() -> None:
    off = tiny.run("bic", {"distill": False})
    assert [{p.term for p in r.phases} for r in off.results] == [{"ce"}, *[{"ce", "bias_ce", "beta_l2"}] * 2]
    assert off.results[0].network == tiny.run("bic").results[0].network
    assert off.results[1].network != tiny.run("bic").results[1].network

"""The continual hyperparameter framework: what it chooses and reads, and that an attempt is a plain task."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_core.errors import BadRequest, NonFiniteLoss
from cl_core.hparams import from_dict
from cl_core.method import METHODS, Method
from cl_core.recipe import Recipe
from cl_core.task import Task, no_rows
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.checks import check
from cl_core.training.chf import choose, strongest, weaker
from cl_core.training.chf_options import CHF
from cl_core.training.configuration import Configuration
from cl_core.training.result import Learnt, Trained
from cl_core.training.trainer import Training
from tests import tiny

LAX = {"lrs": "1", "drop": 1.0, "attempts": 3}  # the first attempt is accepted
TASK = Task(1, (3, 2), no_rows(), Recipe(lr=0.1))


class Simulated:
    """Accuracies by learning rate (fine-tuning) and by stability; None diverges. Notes what was learnt."""

    def __init__(self, by_rate: dict[float, float | None], by_strength: Any = lambda values: 1.0) -> None:
        self.by_rate, self.by_strength = by_rate, by_strength
        self.learnt: list[tuple[str, float, Any]] = []

    def learn(self, method: Method, task: Task) -> Trained:
        self.learnt.append((method.name, task.recipe.lr, method.values().get("kd_weight")))
        if self.accuracy(method, task) is None:
            raise NonFiniteLoss("diverged")
        return Trained((), 100, 1.0)

    def accuracy(self, method: Method, task: Task) -> Any:
        if method.name == "finetune":
            return self.by_rate[round(task.recipe.lr / TASK.recipe.lr, 6)]
        return self.by_strength(method.values())

    def run(self, method: Method, options: CHF | None = None) -> Learnt:
        return choose(options or CHF(), method, TASK, self.learn, self.accuracy)


# What is chosen


def test_the_rate_is_the_best_of_fine_tuning_and_stability_falls_until_the_task_is_learnt() -> None:
    # A* is 0.9 at a third and the whole of the rate, of which the higher is taken whatever the grid's order;
    # 0.8 x 0.9 = 0.72 is reached at a weight of 2.
    simulated = Simulated(
        {0.1: 0.5, 1.0: 0.9, 0.3: 0.9, 3.0: None}, lambda values: 0.71 if values["kd_weight"] > 2 else 0.72
    )
    learnt = simulated.run(METHODS["lwf"]({"temperature": 3.0}), from_dict(CHF, {"lrs": [0.1, 1, 0.3, 3]}))
    assert [name for name, _, _ in simulated.learnt] == ["finetune"] * 4 + ["lwf"] * 3
    assert [weight for name, _, weight in simulated.learnt if name == "lwf"] == [8.0, 4.0, 2.0]
    assert {round(rate, 9) for name, rate, _ in simulated.learnt if name == "lwf"} == {0.1}
    assert learnt.task.recipe == TASK.recipe
    assert learnt.method.values() == {**METHODS["lwf"]({"temperature": 3.0}).values(), "kd_weight": 2.0}
    assert learnt.trained.images == 3 * 100 + 3 * 100  # the rate that diverged counts none
    assert learnt.trained.seconds == pytest.approx(6.0, abs=0.1)
    assert learnt.note == "chf: lr 0.1 (x1), A* 0.9000, 0.7200 in attempt 3 of 6"


def test_the_last_attempt_is_kept_though_it_is_below() -> None:
    simulated = Simulated({1.0: 1.0}, lambda values: 0.1)
    learnt = simulated.run(METHODS["lwf"](), CHF(lrs="1", attempts=2))
    assert [weight for _, _, weight in simulated.learnt] == [None, 8.0, 4.0]
    assert learnt.note == "chf: lr 0.1 (x1), A* 1.0000, 0.1000 in attempt 2 of 2, below 0.8000"


def test_no_attempt_repeats_another_at_the_lower_end() -> None:
    simulated = Simulated({1.0: 1.0}, lambda values: 0.0)
    simulated.run(METHODS["lwf"](), CHF(lrs="1", decay=0.01, attempts=9))
    assert [weight for _, _, weight in simulated.learnt] == [None, 8.0, 0.08, 0.02]


def test_a_method_without_stability_takes_the_rate_alone() -> None:
    for method in (METHODS["replay"](), METHODS["lwf"]({"distill": False}), METHODS["bic"]()):
        simulated = Simulated({0.1: 0.1, 1.0: 0.8}, lambda values: 0.0)
        learnt = simulated.run(method, CHF(lrs="0.1,1"))
        assert [name for name, _, _ in simulated.learnt] == ["finetune", "finetune", method.name]
        assert learnt.method.values() == method.values()
        assert str(learnt.note).endswith("0.0000 in attempt 1 of 1, no stability hyperparameter")


def test_an_attempt_that_diverges_has_not_learnt() -> None:
    simulated = Simulated({1.0: 0.5}, lambda values: None if values["kd_weight"] > 4 else 0.5)
    learnt = simulated.run(METHODS["lwf"](), CHF(lrs="1"))
    assert learnt.method.values()["kd_weight"] == 4.0
    with pytest.raises(NonFiniteLoss, match="diverged"):
        Simulated({1.0: 0.5}, lambda values: None).run(METHODS["lwf"](), CHF(lrs="1"))
    with pytest.raises(NonFiniteLoss, match=r"none of 1,3 times 0.1 does in task 1; add lower") as caught:
        Simulated({1.0: None, 3.0: None}).run(METHODS["lwf"](), from_dict(CHF, {"lrs": [1, 3]}))
    assert "\n" not in str(caught.value)


def test_stability_is_what_acts_in_the_branch_and_falls_no_lower_than_its_domain() -> None:
    assert strongest(METHODS["pass"]()) == {"kd_weight": 100.0, "proto_weight": 50.0}
    assert strongest(METHODS["pass"]({"distill": False})) == {"proto_weight": 50.0}
    assert strongest(METHODS["icarl"]()) == {"old_weight": 10.0}
    assert strongest(METHODS["icarl"]({"loss": "ce"})) == {"kd_weight": 10.0}
    assert strongest(METHODS["bic"]({"kd_schedule": "fixed"})) == {"kd_lambda": 0.95}
    assert strongest(METHODS["replay"]({"loss": "kl"})) == {"kd_weight": 100.0}
    assert weaker(METHODS["pass"](), {"kd_weight": 0.15, "proto_weight": 50.0}, 0.5) == {
        "kd_weight": 0.1,
        "proto_weight": 25.0,
    }


@given(
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    bound=st.floats(0.02, 8),
    drop=st.floats(0, 1),
    decay=st.floats(0.05, 0.95),
    attempts=st.integers(1, 8),
)
@settings(max_examples=80)
def test_what_is_kept_is_the_first_of_the_falling_weights_that_learns_enough(
    rates: list[float], bound: float, drop: float, decay: float, attempts: int
) -> None:
    factors = [1.0 + k for k in range(len(rates))]
    options = CHF(",".join(map(repr, factors)), drop, decay, attempts)
    simulated = Simulated(dict(zip(factors, rates, strict=True)), lambda v: float(v["kd_weight"] <= bound))
    learnt = simulated.run(METHODS["lwf"](), options)
    assert (
        learnt.task.recipe.lr
        == max(f for f, a in zip(factors, rates, strict=True) if a == max(rates)) * TASK.recipe.lr
    )
    tried = [weight for name, _, weight in simulated.learnt if name == "lwf"]
    assert len(tried) <= attempts
    assert tried == sorted(set(tried), reverse=True)
    assert tried[0] == 8.0
    assert all(b == pytest.approx(max(0.02, decay * a)) for a, b in itertools.pairwise(tried))
    enough = [float(w <= bound) >= (1 - drop) * max(rates) - 1e-9 for w in tried]
    assert not any(enough[:-1])
    assert enough[-1] or len(tried) == attempts or tried[-1] == 0.02
    assert learnt.method.values()["kd_weight"] == tried[-1]
    assert learnt.trained.images == 100 * len(simulated.learnt)


# An attempt is a plain task


def _learnt(trace: dict[str, Any]) -> dict[str, Any]:
    """A task's trace without what counts all attempts."""
    return {key: value for key, value in trace.items() if key not in ("images", "note")}


@pytest.mark.parametrize(
    ("method", "hp"),
    [
        ("lwf", {}),
        ("lwm", {}),
        ("icarl", {}),
        ("eeil", {}),
        ("lucir", {}),
        ("pass", {}),
        ("il2a", {}),
        ("ss_il", {}),
        ("bic", {"kd_schedule": "fixed"}),
        ("replay", {"loss": "kl"}),
        ("replay", {}),
    ],
)
def test_a_first_attempt_that_is_accepted_is_the_plain_run_with_its_values(
    method: str, hp: dict[str, Any]
) -> None:
    top = strongest(METHODS[method](hp))
    plain = tiny.run(method, {**hp, **top})
    framed = tiny.train(tiny.configuration(method, hp, chf=LAX))
    assert [_learnt(t) for t in framed.traces] == [_learnt(t) for t in plain.traces]
    for a, b in zip(framed.states, plain.states, strict=True):
        assert a.keys() == b.keys()
    assert framed.results[0].hp == {
        **plain.results[0].hp,
        **METHODS[method](tiny.hp_of(method, **hp)).values(),
    }
    for a, b in zip(framed.results[1:], plain.results[1:], strict=True):
        assert a.hp == b.hp
        assert a.images > b.images  # fine-tuning's as well
        assert str(a.note).count("chf: ") == 1


@pytest.mark.parametrize("method", ["lwf", "icarl", "praka"])
def test_a_later_attempt_is_the_plain_task_with_its_values_and_rate(method: str) -> None:
    options = {"lrs": [3], "drop": 0.0, "attempts": 3}
    framed = tiny.train(tiny.configuration(method, chf=options, until=2))
    result = framed.results[1]
    assert "attempt 3 of 3" in str(result.note) or "attempt 2 of 3" in str(result.note)
    settings_ = tiny.configuration(method)
    base, increment = settings_.recipes(tiny.data(), METHODS[settings_.method](settings_.hp))
    assert result.recipe["lr"] == 3 * increment.lr
    assert framed.results[0].recipe["lr"] == base.lr
    known = {name: value for name, value in result.hp.items() if name not in tiny.BUDGET}
    recipe = {"increment": {"lr": result.recipe["lr"]}}
    plain = tiny.train(tiny.configuration(method, known, recipe=recipe, until=2))
    assert [_learnt(t) for t in framed.traces] == [_learnt(t) for t in plain.traces]


def test_a_method_that_restarts_is_left_alone() -> None:
    assert tiny.train(tiny.configuration("joint", chf={})).traces == tiny.run("joint").traces


# Past data alone


@pytest.mark.parametrize("method", ["lwf", "icarl", "il2a"])
def test_classes_to_come_and_old_validation_images_do_not_matter(method: str) -> None:
    options = {"lrs": "0.3,1", "attempts": 2}
    expected = tiny.train(tiny.configuration(method, chf=options))
    source = tiny.copied(tiny.data())
    training = Training(tiny.configuration(method, chf=options), source)
    noise, clean = np.random.default_rng(0), source.train.x.copy()
    for t, result in enumerate(expected.results):
        seen, old = sum(tiny.SIZES[: t + 1]), sum(tiny.SIZES[:t])
        source.train.x[:] = clean
        later = [*training.view.rows(range(seen, 7)), *training.view.rows(range(seen, 7), "val")]
        rows = [int(row) for row in (*later, *training.view.rows(range(old), "val"))]
        source.train.x[rows] = noise.integers(0, 256, clean[rows].shape, dtype=np.uint8)
        again = training.next_task()
        assert (again.network, again.phases, again.hp, again.recipe) == (
            result.network,
            result.phases,
            result.hp,
            result.recipe,
        )
        assert again.note == result.note


# Resuming, keys, options


@pytest.mark.parametrize("method", METHODS.names())
def test_a_run_resumed_after_every_task_equals_the_straight_one(method: str, tmp_path: Path) -> None:
    made = tiny.configuration(method, recipe={"epochs": 1}, chf={"lrs": "0.3,1", "attempts": 2})
    store = CheckpointStore(tmp_path)
    for done, expected in enumerate(tiny.train(made).traces):
        part = Training(made, tiny.data(), store, ResumeCheckpoints(store))
        assert part.done == done
        assert tiny.trace(part.next_task()) == expected
        part.keep_resume_checkpoint()


def test_a_resume_checkpoint_belongs_to_its_options_and_the_first_task_to_all() -> None:
    made = [tiny.configuration("lwf", chf=chf) for chf in (None, {}, {"drop": 0.1}, {"drop": 0.2})]
    trainings = [Training(each, tiny.data()) for each in made]
    assert len({t.base_key() for t in trainings}) == 1
    keys = [t.resume_checkpoint_key(1) for t in trainings]
    assert len(set(keys)) == 3
    assert keys[1] == keys[3]  # 0.2 is the default


def test_with_a_shared_base_the_framework_begins_from_it() -> None:
    made = tiny.configuration("pass", chf=LAX, shared_base=True, until=2)
    framed = tiny.train(made)
    top = strongest(METHODS["pass"]())
    plain = tiny.train(tiny.configuration("pass", top, shared_base=True, until=2))
    assert [_learnt(t) for t in framed.traces] == [_learnt(t) for t in plain.traces]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"dorp": 0.2}, "unknown key of chf 'dorp': did you mean 'drop'"),
        ({"drop": 1.5}, r"drop must lie in \[0, 1\], not 1.5"),
        ({"decay": 1.0}, "decay must lie in"),
        ({"attempts": 0}, "attempts must lie in"),
        ({"lrs": ""}, "lrs must be different positive numbers"),
        ({"lrs": "1,1.0"}, "lrs must be different positive numbers"),
        ({"lrs": [0.1, -1]}, "lrs must be different positive numbers"),
        ({"lrs": [1e9]}, "chf.lrs: 1e[+]09 times the learning rate 0.05 must lie in"),
        (True, "chf must be a mapping"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused_before_any_work(options: Any, rule: str) -> None:
    with pytest.raises(BadRequest, match=rule) as caught:
        Training(tiny.configuration("lwf", chf=options), tiny.data())
    assert "\n" not in str(caught.value)


def test_the_framework_needs_validation_rows() -> None:
    with pytest.raises(BadRequest, match="chf measures on validation rows, and validation is 0"):
        check(tiny.configuration("lwf", chf={}, validation=0.0), tiny.data())


def test_configurations_survive_json_and_older_ones_are_read() -> None:
    made = tiny.configuration("lwf", chf={"lrs": [0.1, 1], "drop": 0.1}, until=2, shared_base=True)
    made = dataclasses.replace(made, data=dataclasses.replace(made.data, half="tune"))
    assert Configuration.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    older = {k: v for k, v in made.to_dict().items() if k not in ("chf", "until", "shared_base")}
    read = Configuration.from_dict(older)
    assert (read.chf, read.until, read.shared_base) == (None, None, False)


def test_the_options_say_what_they_are() -> None:
    assert CHF().factors == (0.1, 0.3, 1.0, 3.0)
    assert from_dict(CHF, {"lrs": [0.5, 2]}).factors == (0.5, 2.0)
    assert all(math.isfinite(f) for f in CHF().factors)


def test_a_value_that_is_fixed_is_no_stability_to_set() -> None:
    method = METHODS["lwf"]({"kd_weight": 3.0})
    assert strongest(method) == {"kd_weight": 8.0}
    assert strongest(method, {"kd_weight"}) == {}

"""A phase that reads no image: its steps, its means, and the modules that train in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cl_core.errors import BadRequest, NonFiniteLoss
from cl_core.hparams import Float, hp
from cl_core.images.view import View
from cl_core.method import METHODS, Method, Phase, Rows
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.checks import check
from cl_core.training.events import Event
from cl_core.training.optimisation import epoch_of
from search.cost.dry_run import rehearse
from tests import tiny

STEPS = 3


class Makes(Method):
    """Fine-tuning, with a layer that is trained on noise before every later task."""

    name, title, paper, equation = "makes", "Makes", "none", "CE"
    paradigm, level, kind = "baseline", "none", "none"
    memories = ()
    batch_norm = True

    @dataclass(frozen=True)
    class HP:
        """The scale of the noise."""

        scale: float = hp(1.0, Float(0.0, 1e38), doc="of the noise")

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        if task.index:
            with torch.random.fork_rng(devices=[]):
                s.modules["layer"] = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
            params = tuple(s.modules["layer"].parameters())
            recipe = task.recipe.replace(optimizer="adam")
            yield Phase("make", (), recipe, self.made, params, train_mode=False, steps=STEPS)
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss)

    def augment(self, s: State, batch: Batch, task: Task, g: Streams) -> Batch:
        if len(batch.y):
            return batch
        return batch._replace(drawn={"noise": torch.randn(task.recipe.batch, 2, generator=g("noise"))})

    def made(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        return {"size": Term(self.hp.scale * s.modules["layer"][0](b.drawn["noise"]).square().mean())}  # type: ignore[index]

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y))}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with METHODS.temporarily():
        METHODS.register("makes")(Makes)
        yield


def test_an_epoch_without_rows_has_the_steps_of_its_phase_and_the_images_of_its_batch() -> None:
    phases = [passed for passed in tiny.phases("makes") if passed.phase.name == "make"]
    assert [passed.task.index for passed in phases] == [1, 2]
    epoch = epoch_of(phases[0].phase, Streams(0, 1), 0)
    assert [len(rows) for rows in epoch.steps] == [0] * STEPS
    assert (epoch.widths, epoch.images) == ((16,) * STEPS, 16 * STEPS)
    for passed in phases:  # neither the network nor a statistic of it moves
        assert all(torch.equal(passed.before[name], passed.after[name]) for name in passed.before)


def test_images_that_are_made_count_as_images_in_the_record_and_in_the_forecast() -> None:
    settings = tiny.configuration("makes")
    done, plain = tiny.train(settings), tiny.run("finetune")
    extra = [a.images - b.images for a, b in zip(done.results, plain.results, strict=True)]
    assert extra == [0, 2 * 16 * STEPS, 2 * 16 * STEPS]
    assert [count.images for count in rehearse(settings, tiny.data())] == [r.images for r in done.results]
    assert [r.network for r in done.results] == [r.network for r in plain.results]


def test_the_value_of_an_epoch_without_rows_is_the_mean_over_its_steps() -> None:
    seen: dict[tuple[str, int], list[float]] = {}

    class Noting(Makes):
        def made(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
            terms = super().made(s, b, task)
            seen.setdefault(("make", task.index), []).append(terms["size"].value.item())
            return terms

    METHODS.register("noting")(Noting)
    for result in tiny.train(tiny.configuration("noting")).results[1:]:
        values = [p.value for p in result.phases if p.phase == "make"]
        noted = seen["make", result.task]
        means = [sum(noted[:STEPS]) / STEPS, sum(noted[STEPS:]) / STEPS]
        assert values == pytest.approx(means, rel=1e-6)
        assert values[1] < values[0]


def test_a_module_is_in_training_mode_in_the_phases_that_train_it_and_gone_after_the_task() -> None:
    modes: list[tuple[str, bool, bool]] = []

    def watch(event: Event) -> None:
        if event.kind == "phase begins" and event.task.index:
            layer = event.state.modules["layer"]
            modes.append((event.phase.name, layer.training, event.state.net.training))

    finished = tiny.train(tiny.configuration("makes"), watch=watch)
    assert modes == [("make", True, False), ("train", False, True)] * 2
    assert not finished.training.state.modules
    assert not [name for name in finished.states[-1] if "layer" in name]


def test_a_module_that_diverges_fails_the_run_and_is_named() -> None:
    with pytest.raises(NonFiniteLoss, match="phase 'make'"):
        tiny.train(tiny.configuration("makes", {"scale": 1e38}))


def test_a_phase_with_neither_rows_nor_steps_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="phase 'make' needs rows, or a number of steps without rows"):
        epoch_of(Phase("make", (), tiny.task(3).recipe, Makes().loss), Streams(0, 1), 0)


def test_a_method_that_reads_batch_norm_refuses_a_net_without_it_before_any_work() -> None:
    settings = tiny.configuration("makes", net="tests.tiny:plain_net")
    with pytest.raises(BadRequest, match="reads the statistics of BatchNorm, and net 'tests"):
        check(settings, tiny.data())
    check(tiny.configuration("makes"), tiny.data())

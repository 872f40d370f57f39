"""Events tell of every phase and epoch, and change no number."""

from __future__ import annotations

import pytest

from cl_core.training.events import Event
from tests import tiny


def test_every_phase_begins_has_its_epochs_and_ends() -> None:
    seen: list[tuple[int, int, str, str, int, int]] = []

    def watch(event: Event) -> None:
        place = (event.task.index, event.tasks, event.phase.name)
        seen.append((*place, event.kind, event.epoch, event.epochs))

    tiny.train(tiny.configuration("eeil", until=2), watch=watch)
    expected = [(0, "train", 2), (1, "train", 2), (1, "balanced", 1)]
    assert seen == [
        (task, 2, phase, kind, epoch, epochs)
        for task, phase, epochs in expected
        for kind, epoch in [
            ("phase begins", 0),
            *(("epoch ends", e + 1) for e in range(epochs)),
            ("phase ends", epochs),
        ]
    ]


@pytest.mark.parametrize("method", ["finetune", "bic"])
def test_a_watched_run_has_the_numbers_of_an_unwatched_one(method: str) -> None:
    events: list[Event] = []
    assert tiny.train(tiny.configuration(method), watch=events.append).traces == tiny.run(method).traces
    assert events


def test_a_phase_begins_before_its_first_step_and_ends_after_its_last() -> None:
    digests: list[str] = []

    def watch(event: Event) -> None:
        if event.kind != "epoch ends":
            digests.append(str(event.state.net.head.weight.sum().item()))

    tiny.train(tiny.configuration("finetune", until=1), watch=watch)
    before, after = digests
    assert before != after

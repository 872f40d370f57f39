"""Pausing, waking and preferring cells, while a run is going and after it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from analysis.lake.run_folder import CONTROL
from cl_core.errors import BadRequest
from search.backends.local import LOOKS, run_local
from search.cells.search_queue import SearchQueue
from search.jobs import steering
from tests.search.simulation import Driver, begun

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

LWF, BIC = "lwf@B0-5tasks", "bic@B0-5tasks"


def counts(driver: Driver) -> dict[str, int]:
    return dict(Counter(job.rsplit("/", 1)[0] for job, _ in driver.order))


def test_a_cell_that_is_paused_while_a_run_is_going_starts_nothing_new(study: Any, tmp_path: Path) -> None:
    resolved = begun(study(trials=4), tmp_path)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        driver = Driver(cells, tmp_path, concurrent=2).run(2)
        under_way = {job.id for job in driver.open}
        steering.pause(tmp_path, LWF)
        driver.run()
        assert counts(driver) == {LWF: 2, BIC: 4}
        assert under_way <= {job for job, _ in driver.order}
        assert cells.finished
        assert cells.left == f"paused: {LWF}"
        assert [p.paused for p in cells.progress()] == [True, False]
    with SearchQueue(resolved, tmp_path, bases=False) as cells:  # survives a restart
        assert cells.finished
        assert cells.next() is None
        steering.resume(tmp_path, LWF)
        assert not cells.finished
        driver = Driver(cells, tmp_path).run()
        assert counts(driver) == {LWF: 2}
        assert cells.left is None


def test_a_run_that_was_begun_waits_while_its_cell_is_paused(study: Any, tmp_path: Path) -> None:
    resolved = begun(study(trials=2), tmp_path)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        first = cells.next()
        assert first is not None
    steering.pause(tmp_path, LWF)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        assert counts(Driver(cells, tmp_path).run()) == {BIC: 2}
    steering.resume(tmp_path, LWF)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        assert Driver(cells, tmp_path).run().order[0] == (first.id, first.spec.trial_digest)


def test_a_cell_of_higher_priority_is_asked_first(study: Any, tmp_path: Path) -> None:
    resolved = begun(study(trials=3), tmp_path)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        driver = Driver(cells, tmp_path).run(1)
        steering.prioritise(tmp_path, BIC, 2)
        driver.run()
    assert [job.split("@")[0] for job, _ in driver.order] == ["lwf", "bic", "bic", "bic", "lwf", "lwf"]


def test_only_a_cell_of_the_run_can_be_paused_and_a_damaged_state_is_named(
    study: Any, tmp_path: Path
) -> None:
    begun(study(), tmp_path)
    with pytest.raises(BadRequest, match="unknown cell 'lwf@B0-5task': did you mean 'lwf@B0-5tasks'"):
        steering.pause(tmp_path, "lwf@B0-5task")
    with pytest.raises(BadRequest, match="not a run folder"):
        steering.pause(tmp_path / "elsewhere", LWF)
    (tmp_path / CONTROL).write_text('{"paused": [')
    with pytest.raises(BadRequest, match=r"control.json is damaged .* remove it"):
        steering.read_steering(tmp_path)
    for plain in (
        {"paused": [1], "priority": {}},
        [],
        {"paused": []},
        {"paused": [], "priority": {"a": "x"}},
    ):
        (tmp_path / CONTROL).write_text(json.dumps(plain))
        with pytest.raises(BadRequest, match="is damaged"):
            steering.read_steering(tmp_path)
    for text in (
        '{"paused": [], "priority": {"a": Infinity}}',
        '{"paused": [], "priority": {"a": NaN}}',
        '{"paused": [], "priority": {"a": 1e999}}',
        '{"paused": [], "priority": {"a": 1.5}}',
        '{"paused": "ab", "priority": {}}',
        "[" * 100_000,
    ):
        (tmp_path / CONTROL).write_text(text)
        with pytest.raises(BadRequest, match="is damaged"):
            steering.read_steering(tmp_path)


class Looked:
    """A session whose one job can start only at the third look: its cell was paused at the others."""

    def __init__(self, looks: int) -> None:
        self.looks, self.finished = looks, False

    def next(self) -> None:
        self.looks -= 1
        self.finished = self.looks == 0


def test_a_cell_that_is_paused_between_two_looks_ends_no_command() -> None:
    session = Looked(3)
    run_local(session)  # type: ignore[arg-type]
    assert session.finished
    with pytest.raises(RuntimeError, match="nothing can start"):
        run_local(Looked(10 * LOOKS))  # type: ignore[arg-type]

"""Base checkpoints in a search: they come first, and runs that share one wait for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cl_core.images.dataset import Data
from search.cells.search_queue import SearchQueue
from search.jobs import base_jobs as module
from tests.search.simulation import TWO, Driver, ended, trials_of

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Base checkpoints that stand in the store; the key is the base's number of classes."""
    stand: set[str] = set()
    key = lambda configuration, data: f"base{configuration.scenario.base}"  # noqa: E731
    monkeypatch.setattr(module, "base_key", key)
    monkeypatch.setattr(
        module, "base_ready", lambda configuration, data, checkpoints: key(configuration, data) in stand
    )
    return stand


def test_bases_come_first_and_dependents_wait(trained: set[str], study: Any, tmp_path: Path) -> None:
    cells = SearchQueue(study(TWO, ["B0-5tasks", "B4-inc2"], trials=2), tmp_path)
    first, second = cells.next(), cells.next()
    assert first is not None
    assert second is not None
    assert [(first.kind, first.id), (second.kind, second.id)] == [
        ("base", "base/base0"),
        ("base", "base/base4"),
    ]
    assert cells.next() is None
    assert [p.started for p in cells.progress()] == [1, 1, 1, 1]  # no cell is asked ahead while it waits
    cells.done(ended(second.id, "completed"))
    started = [job.id for job in iter(cells.next, None)]
    assert started == ["lwf@B4-inc2/0", "bic@B4-inc2/0", "lwf@B4-inc2/1", "bic@B4-inc2/1"]
    cells.done(ended(first.id, "completed"))
    started = [job.id for job in iter(cells.next, None)]
    assert started == ["lwf@B0-5tasks/0", "bic@B0-5tasks/0", "lwf@B0-5tasks/1", "bic@B0-5tasks/1"]


def test_a_base_that_stands_is_not_trained_again(trained: set[str], study: Any, tmp_path: Path) -> None:
    trained.add("base0")
    cells = SearchQueue(study(trials=2), tmp_path)
    assert [job.kind for job in iter(cells.next, None)] == ["run"] * 4


def test_a_failed_base_releases_those_that_wait(trained: set[str], study: Any, tmp_path: Path) -> None:
    cells = SearchQueue(study(trials=1), tmp_path)
    base = cells.next()
    assert base is not None
    cells.done(ended(base.id, "failed", error="out of memory"))
    assert [job.kind for job in iter(cells.next, None)] == ["run"] * 2


def test_without_base_jobs_runs_start_at_once(trained: set[str], study: Any, tmp_path: Path) -> None:
    cells = SearchQueue(study(trials=2), tmp_path, bases=False)
    assert [job.kind for job in iter(cells.next, None)] == ["run"] * 4


@pytest.mark.parametrize("concurrent", [1, 2])
def test_bases_do_not_disturb_budgets_or_the_order_of_trials(
    concurrent: int, trained: set[str], study: Any, tmp_path: Path
) -> None:
    resolved = study(TWO, ["B0-5tasks", "B4-inc2"], trials=4)
    with_bases = Driver(SearchQueue(resolved, tmp_path / "a"), tmp_path / "a", concurrent).run()
    without = Driver(SearchQueue(resolved, tmp_path / "b", bases=False), tmp_path / "b", concurrent).run()
    assert Counter(trials_of(with_bases.order)) == Counter(without.order)
    assert [job for job, _ in with_bases.order if job.startswith("base/")] == ["base/base0", "base/base4"]
    if concurrent == 1:
        assert trials_of(with_bases.order) == without.order


def test_the_key_of_a_base_stage_does_not_move_with_what_acts_later(
    study: Any, data: Data, tmp_path: Path
) -> None:
    resolved = study({"lwf": None, "replay": None}, trials=3)
    cells = SearchQueue(resolved, tmp_path)
    base = cells.next()
    assert base is not None
    assert base.kind == "base"
    cells.done(ended(base.id, "completed"))
    assert {job.kind for job in iter(cells.next, None)} == {"run"}
    assert not cells.finished

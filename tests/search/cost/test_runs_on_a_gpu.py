"""`resources.together: auto`: what a study does with the number of runs that a probe finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from analysis.lake.run_folder import PACKING
from cl_core.errors import BadRequest, RunError
from cl_core.training.packing import Measure, Measured
from search.backends import allocation
from search.backends.allocation import Allocation
from search.cost import packing
from search.cost.packing import pack
from search.preparation.kept_packing import kept_packing
from search.preparation.prepared import Prepared, prepare
from spaces.study.study import ResourcesPart

RATES = {1: 100, 2: 150, 4: 210, 8: 220, 16: 300}


def study(**resources: Any) -> dict[str, Any]:
    return {
        "study": "small",
        "data": {"name": "digits", "per_class": 10},
        "scenarios": ["B0-5tasks"],
        "methods": {"lwf": {}},
        "recipe": {"net": "convnet-small", "epochs": 1},
        "search": {"trials": 1},
        "resources": resources,
    }


def simulated(prepared: Prepared) -> tuple[str, Measure]:
    """Measure runs on a GPU of known rates."""
    return "lwf", lambda runs: Measured(RATES[runs], 1.0, 0.02 * runs)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs and 16 CPUs."""
    monkeypatch.setattr(allocation, "machine_cpus", lambda: 16)
    monkeypatch.setattr(allocation, "machine_gpus", lambda: 2)


@pytest.mark.parametrize("resources", [{"together": "auto"}, {"gpu": "auto"}, {"gpu": 1, "together": "auto"}])
def test_a_probe_finds_the_runs_of_a_gpu_and_the_folder_keeps_them(
    gpus: None, tmp_path: Path, resources: dict[str, Any]
) -> None:
    def prepared() -> Prepared:
        return prepare(study(**resources), tmp_path / "run")

    before = prepared()
    assert (before.allocation.gpu, before.allocation.together) == (0.25, False)  # the default
    assert pack(before, simulated) == [
        "resources: 4 at a time on each GPU, by a probe of lwf (runs: images a second and memory in use; "
        "1: 100 and 2%, 2: 150 and 4%, 4: 210 and 8%, 8: 220 and 16%)"
    ]
    after = prepared()
    assert (after.allocation.gpu, after.allocation.together, after.allocation.concurrent) == (0.25, True, 8)

    def unasked(prepared: Prepared) -> tuple[str, Measure]:
        raise AssertionError("the folder keeps what was found")

    assert pack(after, unasked) == ["resources: 4 at a time on each GPU, as the run folder keeps it"]


def test_a_damaged_file_is_no_packing(gpus: None, tmp_path: Path) -> None:
    for text in ("", "{}", '{"runs": 0}', '{"runs": true}'):
        (tmp_path / PACKING).write_text(text)
        assert not prepare(study(together="auto"), tmp_path).allocation.together


def test_no_more_runs_are_tried_than_cpus_and_the_study_allow(gpus: None, tmp_path: Path) -> None:
    known = ("cpu", 4, 2), ("concurrent", 2, 1), ("concurrent", 3, 2), ("concurrent", 99, 4)
    for key, value, runs in known:
        resources = {key: value}
        tried = prepare(study(together="auto", **resources), tmp_path / str(resources))
        assert f"resources: {runs} at a time" in pack(tried, simulated)[0]
        again = prepare(study(together="auto", **resources), tmp_path / str(resources)).allocation
        assert again.gpu == 1 / runs
        assert again.concurrent == min(2 * runs, resources.get("concurrent", 99))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunError("loss is NaN"), "loss is NaN"),
        (torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemoryError: CUDA out of memory"),
        (KeyError("own"), "KeyError: 'own'"),
    ],
)
def test_a_probe_that_fails_leaves_the_default(
    gpus: None, tmp_path: Path, error: Exception, said: str
) -> None:
    def failing(prepared: Prepared) -> tuple[str, Measure]:
        raise error

    tried = prepare(study(together="auto"), tmp_path / "run")
    assert pack(tried, failing) == [f"resources: the probe of a GPU failed ({said}), so the default stands"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_the_memory_of_a_probe_is_free_before_the_study_runs(
    gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    done = list[str]()

    def measured(runs: int) -> Measured:
        done.append("measured")
        if fails:
            raise RunError("loss is NaN")
        return Measured(100, 1.0, 0.02)

    monkeypatch.setattr(packing, "free_memory", lambda: done.append("freed"))
    pack(prepare(study(together="auto"), tmp_path / "run"), lambda prepared: ("lwf", measured))
    assert done == ["measured", *([] if fails else ["measured"]), "freed"]


def test_the_probe_trains_runs_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Runs on the CPU, as if it were a GPU.
    monkeypatch.setattr(packing, "SECONDS", 0.1)
    own = {**study(together="auto"), "methods": {"lwf": {}, "pass": {}}}
    tried = replace(prepare(own, tmp_path), allocation=Allocation(1.0, 0.5, 2, 2, 1))
    line = pack(tried)[0]
    found = json.loads((tmp_path / PACKING).read_text())
    assert found["runs"] in (1, 2)
    assert found["label"] in own["methods"]
    assert set(found["tried"]) == {"1", "2"}
    assert f"{found['runs']} at a time on each GPU, by a probe of {found['label']}" in line
    assert kept_packing(tmp_path) == found["runs"]


@pytest.mark.parametrize("resources", [{"together": "auto"}, {"gpu": "auto"}, {"gpu": 0, "together": "auto"}])
def test_without_a_gpu_nothing_is_probed(tmp_path: Path, resources: dict[str, Any]) -> None:
    tried = prepare(study(**resources), tmp_path / "run")
    assert (tried.allocation.gpu, tried.allocation.together) == (0, False)
    assert pack(tried, simulated) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"together": "yes"}, "resources.together must be true or false or auto, not 'yes'"),
        ({"gpu": "all"}, "resources.gpu must be a number or auto, not 'all'"),
    ],
)
def test_another_word_than_auto_is_refused(tmp_path: Path, resources: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        prepare(study(**resources), tmp_path / "run")
    assert str(refused.value) == says


def test_a_part_of_a_gpu_is_not_left_to_a_probe() -> None:
    with pytest.raises(ValidationError, match=r"must not give 0.5: leave it out, or set together to true"):
        ResourcesPart(gpu=0.5, together="auto")

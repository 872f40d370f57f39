"""Runs in TensorBoard, MLflow and Weights & Biases, by the real libraries where they are installed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from analysis.lake.results import Results
from analysis.tracking.track import track
from analysis.tracking.tracked_run import tracked_runs
from cl_core.errors import BadRequest
from tests.analysis.hand_counts import Hand, lake

# After the second task, 6 of 10 rows of the old class and 9 of 10 of the new one are right.
COUNTS = ([[10]], [[6, 4], [1, 9]])
RUNS = (
    Hand("lwf", COUNTS, hp={"kd_weight": 0.5}, seconds=(2.0, 3.0)),
    Hand("icarl", ([[10]],), status="failed", error="out of memory"),
)
LWF = "lwf@B0-2tasks/0/search/natural/s0"
WANTED = {"step_accuracy": [1.0, 0.75], "old_to_new": [0.4], "new_to_old": [0.1], "seconds": [2.0, 3.0]}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return lake(tmp_path / "run", RUNS)


def rerun(folder: Path) -> None:
    """Write the lake again; the run that failed has completed."""
    lake(folder, (RUNS[0], Hand("icarl", COUNTS)))


def events(folder: Path) -> dict[str, list[float]]:
    """The scalars of a folder of event files, in order: length, checksum, event and checksum of each."""
    found: dict[str, list[float]] = {}
    for path in folder.glob("events.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            for value in Event.FromString(data[at + 12 : at + 12 + length]).summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append(value.simple_value)
                else:
                    found.setdefault(value.metadata.plugin_data.plugin_name, [])
            at += length + 16
    return found


def test_a_run_has_its_values_its_numbers_after_each_task_and_those_of_the_whole(results: Results) -> None:
    lwf = next(run for run in tracked_runs(results) if run.name == LWF)
    assert lwf.values["hp.kd_weight"] == 0.5
    assert lwf.values["class_order"] == "natural"
    for name, values in WANTED.items():
        assert [task[name] for task in lwf.tasks if name in task] == pytest.approx(values)
    assert lwf.metrics["last_accuracy"] == 0.75
    assert lwf.metrics["forgetting"] == pytest.approx(0.4)


def test_tensorboard_has_one_folder_a_run_and_nothing_doubles(results: Results, tmp_path: Path) -> None:
    place = tmp_path / "board"
    first, again = (track(results.folder, "tensorboard", str(place)) for _ in range(2))
    assert [(one.written, one.known) for one in (first, again)] == [(2, 0), (0, 2)]
    assert len([path for path in place.iterdir() if path.is_dir()]) == 2
    found = events(place / LWF.replace("/", "--"))
    for name, values in WANTED.items():
        assert found[f"task/{name}"] == pytest.approx(values)
    assert found["run/last_accuracy"] == [0.75]
    assert {"hparams", "text"} <= set(found)
    rerun(results.folder)
    assert track(results.folder, "tensorboard", str(place)).written == 1
    (icarl,) = place.glob("icarl*")
    assert events(icarl)["task/step_accuracy"] == [1.0, 0.75]


def test_a_folder_of_another_lake_is_not_written_over(results: Results, tmp_path: Path) -> None:
    track(results.folder, "tensorboard", str(tmp_path / "board"))
    other = lake(tmp_path / "other", RUNS)
    with pytest.raises(BadRequest, match="is not of this run folder: name another --into"):
        track(other.folder, "tensorboard", str(tmp_path / "board"))
    with pytest.raises(BadRequest, match="unknown tool 'tensorbord': did you mean 'tensorboard'"):
        track(results.folder, "tensorbord")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_one_run_each_and_nothing_doubles(results: Results, tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow", reason="MLflow is not installed")
    pytest.importorskip("sqlalchemy", reason="MLflow without its database is installed")
    place = tmp_path / "flow"
    first, again = (track(results.folder, "mlflow", str(place)) for _ in range(2))
    assert [(one.written, one.known) for one in (first, again)] == [(2, 0), (0, 2)]
    client = mlflow.MlflowClient(first.place)
    experiment = client.get_experiment_by_name("hand").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert {run.info.status for run in runs.values()} == {"FINISHED", "FAILED"}
    assert runs[LWF].data.params["hp.kd_weight"] == "0.5"
    for name, values in WANTED.items():
        history = client.get_metric_history(runs[LWF].info.run_id, f"task/{name}")
        assert [point.value for point in history] == pytest.approx(values)
    client.delete_tag(
        runs[LWF].info.run_id, "cl_search.digest"
    )  # as one that was killed while it was written
    rerun(results.folder)
    assert track(results.folder, "mlflow", str(place)).written == 2
    again_found = client.search_runs([experiment])
    assert [run.info.status for run in again_found] == ["FINISHED"] * 2


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_has_one_offline_run_each_and_nothing_doubles(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the library of Weights & Biases is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    place = tmp_path / "biases"
    first, again = (track(results.folder, "wandb", str(place)) for _ in range(2))
    assert [(one.written, one.known) for one in (first, again)] == [(2, 0), (0, 2)]
    assert len(list((place / "wandb").glob("offline-run-*"))) == 2
    rerun(results.folder)
    assert track(results.folder, "wandb", str(place)).written == 1
    assert len(list((place / "wandb").glob("offline-run-*"))) == 2

"""A run's choice, taken away: a study file that trains it again exactly, and a model of all training rows."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from analysis import open_results
from analysis.selection.selection import cells
from cl_core import load, load_model
from cl_core.errors import BadRequest, RunError
from cl_core.hparams import hparams
from cl_core.images.data_spec import DataSpec
from cl_core.method import METHODS
from cl_core.model.model import read_card
from cl_core.training.trainer import Training
from search.commands.export import export, run_to_export
from search.commands.run import run_study
from search.preparation.recorded_run import recorded_spec
from tests.search.terminal import call, refused

STUDY: dict[str, Any] = {
    "study": "small",
    "data": {"name": "digits", "per_class": 30},
    "scenarios": ["B4-inc3", {"base": 5, "tasks": 1, "class_order": "seed:3"}],
    "methods": {"mine": {"method": "icarl", "loss": "ce"}, "bic": {"exemplars_per_class": 4}},
    "recipe": {"net": "convnet-small", "epochs": 2, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
    "search": {"trials": 2},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    run_study(STUDY, folder, local=True)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    assert len(export(run, out=out)) == 4
    return out


def test_a_best_file_trains_the_choice_again_exactly(run: Path, exported: Path, tmp_path: Path) -> None:
    before = open_results(run)
    for cell in cells(before):
        again = tmp_path / cell.name
        run_study(exported / cell.name / "best.yaml", again, local=True)
        after = open_results(again)
        (chosen,) = cell.selected["run"]
        (trial,) = after.runs["run"]
        for a, b in zip(before.confusions(chosen, "val"), after.confusions(trial, "val"), strict=True):
            assert (a == b).all()
        old, new = before.row(chosen), after.row(trial)
        fixed = [name for name in old if name.startswith(("recipe.", "hp."))]
        assert [old[name] for name in fixed if name in new and old[name] == old[name]] == [
            new[name] for name in fixed if name in new and old[name] == old[name]
        ]
        assert (old["class_order"], old["net"], old["seed"]) == (new["class_order"], new["net"], new["seed"])


@pytest.mark.parametrize(
    ("protocol", "classes", "trained"),
    [
        ({"select_on": "first-k", "first": 2}, 10, "train + validation"),
        ({"select_on": "gtep"}, 5, "train + validation"),
        ({"select_on": "chf", "chf": {"lrs": "0.3,1", "attempts": 2}}, 10, "train"),
        ({"select_on": "oracle-test"}, 10, "train + validation"),
    ],
    ids=lambda value: value["select_on"] if isinstance(value, dict) else "",
)
def test_what_is_exported_follows_the_protocol(
    protocol: dict[str, Any], classes: int, trained: str, tmp_path: Path
) -> None:
    study = {
        **STUDY,
        "scenarios": ["B0-5tasks"],
        "methods": {"lwf": {"temperature": 3.0}},
        "search": {"trials": 1},
        "protocol": protocol,
    }
    run_study(study, tmp_path / "run", local=True)
    (done,) = export(tmp_path / "run")
    assert done.model is not None
    card = read_card(done.model)
    halves = protocol["select_on"] == "gtep"
    judged = load(DataSpec("digits", per_class=30, half="evaluate" if halves else None))
    assert tuple(card.class_names) == judged.class_names
    assert len(card.class_names) == classes  # of all tasks, also where the search has trained the first ones
    assert card.origin["trained on"] == trained
    assert ("label" in card.origin) == (protocol["select_on"] == "oracle-test")
    assert ("selected on the test split" in done.study.read_text()) == (
        protocol["select_on"] == "oracle-test"
    )
    run_study(done.study, tmp_path / "again", local=True)
    before, after = open_results(tmp_path / "run"), open_results(tmp_path / "again")
    checkpoints = [r.read("tasks")[["hp.kd_weight", "hp.temperature", "checkpoint"]] for r in (before, after)]
    assert checkpoints[0].equals(checkpoints[1])


def test_a_best_file_leaves_nothing_to_a_default(exported: Path) -> None:
    plain = yaml.safe_load((exported / "mine@B4-inc3" / "best.yaml").read_text())
    known = hparams(METHODS["icarl"].HP)
    entry = plain["methods"]["mine"]
    values = {name: p.default for name, p in known.items()} | entry
    acting = {name for name, p in known.items() if p.active({**values, "loss": "ce"})}
    assert set(entry) == {"method"} | acting
    assert entry["exemplars_per_class"] == 20
    assert isinstance(entry["exemplars_per_class"], int)
    assert set(plain["recipe"]) == {"net", "base", "increment"}
    assert plain["scenarios"][0]["class_order"] == "natural"
    assert plain["search"]["trials"] == 1


@pytest.mark.parametrize("cell", ["mine@B4-inc3", "bic@B4-inc3"])
def test_a_model_is_what_a_training_on_all_rows_comes_to(cell: str, run: Path, exported: Path) -> None:
    data = load(DataSpec("digits", per_class=30))
    model = load_model(exported / cell / "model.safetensors")
    (chosen,) = (c for c in cells(open_results(run)) if c.name == cell)
    assert model.card.origin["trial"] == chosen.selected_trial
    assert model.card.origin["identity"] == open_results(run).study.resolved.identity
    row = open_results(run).row(chosen.selected["run"].iloc[0])
    configuration = recorded_spec(run, run_to_export(chosen)).configuration
    assert row["trial"] == chosen.selected_trial
    everything = dataclasses.replace(configuration, validation=0.0)
    training = Training(everything, data, measure=False)
    while not training.finished:
        assert training.next_task().images > 0
    rows = sum(len(training.view.rows([c])) for c in range(10))
    assert rows == 300
    tensors = training.state.tensors()
    saved = load_file(exported / cell / "model.safetensors")
    assert all(torch.equal(saved[name], tensors[name]) for name in saved)


def test_class_names_stand_in_the_order_of_arrival(exported: Path) -> None:
    data = load(DataSpec("digits", per_class=30))
    natural = load_model(exported / "bic@B4-inc3" / "model.safetensors")
    other = load_model(exported / "bic@B5-1tasks-seed3" / "model.safetensors")
    assert natural.class_names == data.class_names
    assert other.class_names != data.class_names
    assert sorted(other.class_names) == sorted(data.class_names)


def test_predict_answers_for_images_and_folders(exported: Path, tmp_path: Path) -> None:
    data = load(DataSpec("digits", per_class=30))
    (tmp_path / "in" / "inner").mkdir(parents=True)
    Image.fromarray(data.test.x[0, ..., 0]).save(tmp_path / "in" / "inner" / "b.png")
    Image.fromarray(data.test.x[1, ..., 0]).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "readme.txt").write_text("no image")
    path = exported / "bic@B4-inc3" / "model.safetensors"
    model = load_model(path)
    result = call("predict", path, tmp_path / "in", tmp_path / "in" / "a.png", "--json")
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)
    assert [Path(a["image"]).name for a in answers] == ["a.png", "b.png", "a.png"]
    expected = model.answers(data.test.x[[1, 0, 1]])
    assert [a["classes"] for a in answers] == [list(a.classes) for a in expected]
    assert [a["scores"] for a in answers] == [pytest.approx(list(a.scores)) for a in expected]
    assert {a["score"] for a in answers} == {"probability"}
    assert result.stderr == (
        f"note: passed over in {tmp_path / 'in'}: 1 .txt, such as 'readme.txt'. "
        "Convert what is an image to PNG or JPEG to use it.\n"
    )
    plain = call("predict", path, tmp_path / "in" / "a.png")
    one = f"{answers[0]['classes'][0]} {answers[0]['scores'][0]:.4f}"
    assert plain.stdout == f"{tmp_path / 'in' / 'a.png'}: {one} (probability)\n"
    three = json.loads(call("predict", path, tmp_path / "in" / "a.png", "--top", 3, "--json").stdout)[0]
    assert len(three["classes"]) == 3
    assert three["scores"] == sorted(three["scores"], reverse=True)
    every = json.loads(call("predict", path, tmp_path / "in" / "a.png", "--top", 99, "--json").stdout)[0]
    assert sorted(every["classes"]) == sorted(model.class_names)
    assert sum(every["scores"]) == pytest.approx(1, abs=1e-5)


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_answered(
    exported: Path, tmp_path: Path
) -> None:
    data = load(DataSpec("digits", per_class=30))
    path = exported / "bic@B4-inc3" / "model.safetensors"
    good = Image.fromarray(data.test.x[0, ..., 0])
    good.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])  # cut short
    good.convert("RGB").resize((40, 24)).save(tmp_path / "c.jpg")  # of another size
    result = call("predict", path, tmp_path)
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "c.jpg"),
    ]
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: cannot read the image {tmp_path / 'b.png'} (")
    # A list of images; of the second, a thousand bytes end within a character.
    for name, content in (("list.txt", "a.png\nc.jpg\n"), ("my list.txt", "a" + "ü" * 1000)):
        (tmp_path / name).write_text(content, encoding="utf-8")
        told = call("predict", path, tmp_path / name)
        assert (told.exit_code, told.stdout) == (1, "")
        assert told.stderr == (
            f"error: cannot read the image {tmp_path / name} (unknown format): repair it, or name another; "
            f"images that a text file lists: xargs cl-search predict MODEL < "
            f"{shlex.quote(str(tmp_path / name))}\n"
        )


def test_a_link_that_leads_nowhere_is_told_and_the_other_images_are_answered(
    exported: Path, tmp_path: Path
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "moved.png")
    result = call("predict", exported / "bic@B4-inc3" / "model.safetensors", tmp_path)
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 1)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: cannot read the image {tmp_path / 'b.png'} ([Errno 2] ")


def test_predict_refuses_in_one_line(exported: Path, tmp_path: Path) -> None:
    path = exported / "bic@B4-inc3" / "model.safetensors"
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    assert "there is no image or folder" in refused("predict", path, tmp_path / "none.png")
    assert "holds no images" in refused("predict", path, tmp_path / "empty")
    assert "there is no model" in refused("predict", tmp_path / "none", tmp_path / "text.png")
    assert "is no model" in refused("predict", tmp_path / "text.png", tmp_path / "text.png")


def test_an_interrupted_export_goes_on_and_comes_to_the_same(
    run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, trained = Training.next_task, []

    def next_task(self: Training) -> Any:
        if len(trained) == 2:
            raise RunError("the power failed")
        trained.append(self.done)
        return real(self)

    monkeypatch.setattr(Training, "next_task", next_task)
    with pytest.raises(RunError, match="the power failed"):
        export(run, ["bic@B4-inc3"], tmp_path)
    monkeypatch.setattr(Training, "next_task", real)
    said: list[str] = []
    export(run, ["bic@B4-inc3"], tmp_path, say=said.append)
    assert said[0] == "bic@B4-inc3: continues after task 2 of 3"
    name = Path("bic@B4-inc3", "model.safetensors")
    assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "bic@B4-inc3").iterdir()) == ["best.yaml", "model.safetensors"]
    again: list[str] = []
    export(run, ["bic@B4-inc3"], tmp_path, say=again.append)
    assert again == []  # the same choice is not trained twice


def test_without_a_model_no_data_is_needed(run: Path, tmp_path: Path) -> None:
    (done, *_) = export(run, out=tmp_path, model=False)
    assert done.model is None
    assert done.study.exists()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_export_that_cannot_be_is_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "did you mean 'bic@B4-inc3'?" in refused("export", run, "--cell", "bic@B4-inc2", "--out", out)
    assert "no folder" in refused("export", tmp_path / "none", "--out", out)
    assert "not a run's folder" in refused("export", tmp_path, "--out", out)
    assert "must be writable" in refused("export", run, "--out", "/proc/none")
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(run / "study.yaml", empty)
    assert "no run in" in refused("export", empty, "--out", out)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    text = (other / "study.yaml").read_text()
    (other / "study.yaml").write_text(text.replace("fingerprint: ", "fingerprint: 0"))
    assert "the images are not those of" in refused("export", other, "--out", out)
    assert not out.exists()


def test_export_at_writes_the_best_trial_under_a_condition(run: Path, tmp_path: Path) -> None:
    frame = open_results(run).runs
    mine = frame[frame["cell"] == "bic@B4-inc3"].sort_values("last_accuracy")
    limit = f"last_accuracy<={mine['last_accuracy'].iloc[0]}"  # the worse of its two trials alone
    out = tmp_path / "out"
    result = call("export", run, "--cell", "bic@B4-inc3", "--at", limit, "--no-model", "--out", out)
    assert result.exit_code == 0, result.output
    number = mine["trial"].iloc[0]
    assert result.stdout.startswith(f"bic@B4-inc3: trial {number} (last_accuracy <= ")
    text = (out / "bic@B4-inc3" / "best.yaml").read_text()
    assert text.startswith("# The best trial of bic@B4-inc3 with last_accuracy <= ")
    lr = yaml.safe_load(text)["recipe"]["increment"]["lr"]
    assert lr == pytest.approx(mine["recipe.increment.lr"].iloc[0])


def test_export_at_leaves_out_cells_without_a_trial_and_refuses_where_all_lack_one(
    run: Path, tmp_path: Path
) -> None:
    # BiC keeps 4 exemplars of 64 bytes a class and its pair: 2,576 bytes; iCaRL 20 and class means: 14,080.
    out = tmp_path / "out"
    result = call("export", run, "--at", "kept_bytes<=3kB", "--no-model", "--out", out)
    assert result.exit_code == 0, result.output
    assert {path.parent.name for path in out.glob("*/best.yaml")} == {"bic@B4-inc3", "bic@B5-1tasks-seed3"}
    assert result.stdout.startswith(
        "left out: no trial of mine@B4-inc3 has kept_bytes <= 3 kB: the nearest, trial 0, has kept_bytes 14."
    )
    none = tmp_path / "none"
    said = refused("export", run, "--at", "kept_bytes<=2kB", "--no-model", "--out", none)
    assert "the nearest, trial 0, has kept_bytes 2.576 kB; loosen --at" in said
    said = refused("export", run, "--cell", "mine@B4-inc3", "--at", "kept_bytes<=3kB", "--out", none)
    assert "no trial of mine@B4-inc3 has kept_bytes <= 3 kB" in said
    assert not none.exists()


@pytest.mark.parametrize("cell", ["../../escape", "bic@../x", "/etc/bic@a", "bic@B4-inc3/..", ".@.", ""])
def test_a_cell_s_name_from_a_file_never_becomes_a_path_outside(cell: str, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "a" / "b" / "run"
    shutil.copytree(run, other)
    for path in (other / "tables" / "runs").glob("bic*B4-inc3*.parquet"):
        table = pq.read_table(path)
        names = pa.array([cell] * len(table))
        pq.write_table(table.set_column(table.column_names.index("cell"), "cell", names), path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadRequest, match="is no cell's name"):
        export(other, out=tmp_path / "a" / "b" / "out", model=False)
    assert sorted(tmp_path.rglob("*")) == before

"""A model's file: it answers as the training did, and whatever is wrong with it is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import cl_core
from cl_core.errors import BadRequest
from cl_core.method import METHODS
from cl_core.model.model import KEY, load_model, read_card, save_model
from cl_core.task import Task, no_rows
from cl_core.training.checkpoints import network_digest
from cl_core.training.trainer import Training
from tests import tiny


def own_scores(run: tiny.Run, rows: torch.Tensor, task: Task) -> np.ndarray:
    """The primary classifier's scores of test rows as the training computes them."""
    training = run.training
    view, method = training.view, training.method
    training.state.net.eval()
    with torch.no_grad():
        found = method.scores(training.state, view.images(rows, "test"), task)
    return found[method.primary()].float().numpy()


@pytest.mark.parametrize(("method", "hp"), tiny.variants())
def test_a_loaded_model_gives_the_training_s_own_scores_bit_for_bit(
    method: str, hp: str, tmp_path: Path
) -> None:
    run = tiny.run(method, json.loads(hp))
    save_model(tmp_path / "m.safetensors", run.training, {})
    model = load_model(tmp_path / "m.safetensors")
    view, data = run.training.view, tiny.data()
    task = Task(len(tiny.SIZES) - 1, tiny.SIZES, no_rows(), run.training.increment_recipe)
    rows = view.rows(range(task.seen), "test")
    images = data.test.x[rows.numpy()]
    scores = model.scores(images)
    assert scores.tobytes() == own_scores(run, rows, task).tobytes()
    assert model.class_names == view.class_names
    # And the counts that the run recorded are those of the model's answers.
    primary = next(e for e in run.results[-1].evaluations if e.primary and e.split == "test")
    true = view.labels(rows, "test").numpy()
    counts = np.zeros_like(primary.confusion)
    np.add.at(counts, (true, scores.argmax(axis=1)), 1)
    assert (counts == primary.confusion).all()


@pytest.mark.parametrize("method", ["lucir", "dytox"])
def test_a_model_that_began_from_the_shared_network_keeps_its_last_relu(method: str, tmp_path: Path) -> None:
    run = tiny.train(tiny.configuration(method, shared_base=True))
    save_model(tmp_path / "m.safetensors", run.training, {})
    rows = run.training.view.rows(range(7), "test")
    scores = load_model(tmp_path / "m.safetensors").scores(tiny.data().test.x[rows.numpy()])
    assert scores.tobytes() == own_scores(run, rows, run.training.task(2)).tobytes()


@pytest.mark.parametrize("method", METHODS.names())
def test_no_training_image_s_number_is_in_a_model(method: str, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", tiny.run(method).training, {})
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if name.startswith("memory.")]  # noqa: SIM118
        assert not [name for name in file.keys() if "prototypes" in name]  # noqa: SIM118


@pytest.mark.parametrize("method", METHODS.names())
def test_a_training_that_measures_nothing_comes_to_the_same_network(method: str) -> None:
    measured = tiny.run(method)
    training = Training(tiny.configuration(method), tiny.data(), measure=False)
    results = []
    while not training.finished:
        results.append(training.next_task())
    assert [r.network for r in results] == [r.network for r in measured.results]
    assert not any(r.evaluations for r in results)


def test_all_rows_are_trained_on_where_nothing_is_measured() -> None:
    settings = tiny.configuration("finetune", validation=0.0, unsealed=False)
    with pytest.raises(BadRequest, match="leaves nothing to measure"):
        Training(settings, tiny.data())
    training = Training(settings, tiny.data(), measure=False)
    result = training.next_task()
    assert result.images == 2 * 3 * (tiny.TRAIN + tiny.VAL)  # epochs x classes x rows
    assert result.evaluations == ()
    assert result.teacher_agreement is None


def test_a_model_after_some_tasks_knows_their_classes(tmp_path: Path) -> None:
    training = Training(tiny.configuration("bic"), tiny.data())
    training.next_task()
    save_model(tmp_path / "m.safetensors", training, {"why": "one task"})
    model = load_model(tmp_path / "m.safetensors")
    assert model.class_names == training.view.class_names[:3]
    assert model.scores(tiny.data().test.x[:2]).shape == (2, 3)
    assert read_card(tmp_path / "m.safetensors").origin == {"why": "one task"}


# Images


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "icarl.safetensors"
    save_model(path, tiny.run("icarl").training, {"study": "tiny"})
    return path


def test_arrays_pictures_and_files_get_the_same_answers(saved: Path, tmp_path: Path) -> None:
    model = cl_core.load_model(saved)
    x = tiny.data().test.x[:5]
    pictures = [Image.fromarray(image) for image in x]
    for k, picture in enumerate(pictures):
        picture.save(tmp_path / f"{k}.png")
    files = [tmp_path / f"{k}.png" for k in range(5)]
    scores = model.scores(x)
    assert scores.dtype == np.float32
    assert scores.shape == (5, 7)
    for images in (list(x), pictures, files, [str(f) for f in files], [x[0], pictures[1], *files[2:]]):
        assert model.scores(images).tobytes() == scores.tobytes()
    assert model.predict(x) == [model.class_names[c] for c in scores.argmax(axis=1)]
    assert model.scores([]).shape == (0, 7)
    large = [picture.resize((40, 24)) for picture in pictures]
    assert model.scores(large).tobytes() == model.scores(np.stack([np.asarray(p) for p in large])).tobytes()


READINGS = [
    ("lwf", {}, "probability", lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)),
    ("bic", {}, "probability", lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)),
    ("lucir", {}, "probability", lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)),
    ("lucir", {"classifier": "nearest-mean"}, "distance", lambda z: -z),
    ("icarl", {}, "distance", lambda z: -z),
    ("icarl", {"classifier": "head"}, "sigmoid", lambda z: 1 / (1 + np.exp(-z))),
    (
        "icarl",
        {"classifier": "head", "loss": "ce"},
        "probability",
        lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True),
    ),
    # PASS trains the softmax of z / 0.1.
    ("pass", {}, "probability", lambda z: np.exp(z / 0.1) / np.exp(z / 0.1).sum(1, keepdims=True)),
]


@pytest.mark.parametrize(("method", "hp", "name", "rule"), READINGS)
def test_answers_have_scores_that_a_reader_can_take_for_what_they_are_called(
    method: str, hp: dict[str, Any], name: str, rule: Callable[[Any], Any], tmp_path: Path
) -> None:
    save_model(tmp_path / "m.safetensors", tiny.run(method, hp).training, {})
    model = load_model(tmp_path / "m.safetensors")
    assert model.card.score == name
    x = tiny.data().test.x[:6]
    scores = model.scores(x).astype(np.float64)
    expected = rule(scores)
    for row, values, answer in zip(scores, expected, model.answers(x, top=99), strict=True):
        order = np.argsort(-row, kind="stable")
        assert answer.classes == tuple(model.class_names[c] for c in order)
        assert np.allclose(answer.scores, values[order], atol=1e-5)
        if name == "probability":
            assert sum(answer.scores) == pytest.approx(1, abs=1e-5)
        assert list(answer.scores) == sorted(answer.scores, reverse=name != "distance")
    first = [answer.classes[0] for answer in model.answers(x)]
    assert first == model.predict(x)
    assert [len(a.classes) for a in model.answers(x, top=3)] == [3] * 6
    assert model.answers([]) == []
    with pytest.raises(BadRequest, match="top must be at least 1, not 0"):
        model.answers(x, top=0)


def test_grey_images_go_into_a_grey_model_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    data = cl_core.Data.from_arrays(x, np.arange(40) % 4, net="convnet-small", recipe={"epochs": 1})
    training = Training(tiny.configuration("finetune", scenario="B0-2tasks", unsealed=False), data)
    while not training.finished:
        training.next_task()
    save_model(tmp_path / "m.safetensors", training, {})
    model = load_model(tmp_path / "m.safetensors")
    Image.fromarray(x[0]).save(tmp_path / "a.png")
    assert model.scores([tmp_path / "a.png"]).tobytes() == model.scores(x[:1]).tobytes()
    assert model.scores(x[:1, ..., None]).tobytes() == model.scores(x[:1]).tobytes()


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ("a.png", "give a list of images"),
        (np.zeros((1, 8, 8, 3)), "must be uint8"),
        (np.zeros((8, 8), np.uint8), "must be uint8"),
        ([np.zeros((8, 8, 2), np.uint8)], "1, 3 or 4 channels"),
        ([np.zeros((8, 8, 3))], "must be uint8"),
        ([np.zeros((0, 8), np.uint8)], "1, 3 or 4 channels"),
        (["none.png"], "cannot read the image none.png"),
        ([__file__], "cannot read the image"),
        ([None], "cannot read the image NoneType"),
    ],
    ids=str,
)
def test_what_is_no_image_is_refused_in_one_line(saved: Path, images: Any, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as caught:
        load_model(saved).scores(images)
    assert "\n" not in str(caught.value)


# Damage


def rewritten(
    saved: Path, to: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]
) -> Path:
    """The model with its card and tensors changed, as somebody would who knows the format."""
    with safe_open(saved, framework="pt") as file:
        card = json.loads(file.metadata()[KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(card, tensors)
    card["digest"] = network_digest(tensors)
    save_file(tensors, to, metadata={KEY: json.dumps(card)})
    return to


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, torch.Tensor]], Any], str]] = {
    "class_names": (lambda c, t: c.update(class_names="abcdefg"), "class_names"),
    "a name that is none": (lambda c, t: c["class_names"].__setitem__(0, 3), "class_names"),
    "one name twice": (lambda c, t: c.update(class_names=["a"] * 7), "class_names"),
    "sizes": (lambda c, t: c.update(sizes=[3, 2]), "sizes"),
    "negative sizes": (lambda c, t: c.update(sizes=[9, -2]), "sizes"),
    "shape": (lambda c, t: c.update(shape=[3, 8]), "shape"),
    "a huge shape": (lambda c, t: c.update(shape=[3, 10**9, 8]), "shape"),
    "true in shape": (lambda c, t: c.update(shape=[True, 8, 8]), "shape"),
    "std": (lambda c, t: c.update(std=[0.0, 1.0, 1.0]), "std"),
    "mean": (lambda c, t: c.update(mean=[float("nan")] * 3), "mean"),
    "width": (lambda c, t: c.update(width=10**6), "7 rows for 1000000"),
    "net": (lambda c, t: c.update(net=["convnet"]), "net"),
    "another net": (lambda c, t: c.update(net="resnet32"), "no model of cl-search"),
    "an unknown net": (lambda c, t: c.update(net="resnet33"), "did you mean 'resnet3"),
    "own code": (lambda c, t: c.update(net="os:system"), "net 'os:system' is code that a file names"),
    "method": (lambda c, t: c.update(method="lwf", hp={}), "base family"),
    "hp": (lambda c, t: c.update(hp={"lambda": 1}), "unknown hyperparameter"),
    "classifier": (lambda c, t: c.update(classifier="head"), "classifier"),
    "score": (lambda c, t: c.update(score=1), "score"),
    "another score": (lambda c, t: c.update(score="probability"), "gives a distance in this version"),
    "another key": (lambda c, t: c.update(more=1), "not of format 2"),
    "format": (lambda c, t: c.update(format=1), "not of format 2"),
    "no head": (lambda c, t: t.pop("net.head.weight"), "no model of cl-search"),
    "no class means": (lambda c, t: t.pop("kept.class_means"), "no model of cl-search"),
    "wrong class means": (lambda c, t: t.update({"kept.class_means": torch.ones(3, 64)}), "no model"),
    "another tensor": (lambda c, t: t.update({"net.more": torch.ones(3)}), "no model of cl-search"),
    "not finite": (lambda c, t: t["net.head.weight"].fill_(torch.nan), "not every number in it is finite"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_was_tampered_with_is_refused_in_one_line(
    name: str, saved: Path, tmp_path: Path
) -> None:
    change, says = CHANGES[name]
    path = rewritten(saved, tmp_path / "m.safetensors", change)
    with pytest.raises(BadRequest, match=says) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_no_model_is_refused_in_one_line(saved: Path, tmp_path: Path) -> None:
    text, other, cut, flipped = (tmp_path / name for name in ("text", "other", "cut", "flipped"))
    text.write_text("not tensors")
    save_file({"a": torch.zeros(2)}, other)
    raw = saved.read_bytes()
    cut.write_bytes(raw[: len(raw) // 2])
    flipped.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    cases = {
        tmp_path / "none": "there is no model",
        tmp_path: "is no model",
        text: "is no model",
        other: "no cl_search in its metadata",
        cut: "is no model",
        flipped: "not those that were saved",
    }
    for path, says in cases.items():
        with pytest.raises(BadRequest, match=says) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


def test_code_of_one_s_own_is_imported_only_when_asked(saved: Path, tmp_path: Path) -> None:
    def change(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        card["net"] = "cl_core.nets.convnet:convnet_small"

    path = rewritten(saved, tmp_path / "m.safetensors", change)
    x = tiny.data().test.x[:3]
    assert load_model(path, own_code=True).predict(x) == load_model(saved).predict(x)


def test_a_run_starts_from_a_saved_model_s_backbone(saved: Path) -> None:
    donor = tiny.run("icarl").training.state.net.backbone.state_dict()
    training = Training(tiny.configuration("icarl", init=str(saved)), tiny.data())
    mine = training.state.net.backbone.state_dict()
    assert all(torch.equal(mine[name], donor[name]) for name in donor)

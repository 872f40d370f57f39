"""Contact sheets: the images of a method, in a grid by class, beside the tables and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from analysis.lake.run_folder import PICTURES, SHEETS
from cl_core.images.contact_sheet import GAP, ROOM, write_contact_sheet
from cl_core.images.view import View
from search.commands.pictures import by_class, pictures
from tests import tiny
from tests.search.terminal import call, refused, write


def test_a_sheet_has_a_row_a_class_and_every_image_enlarged(tmp_path: Path) -> None:
    red, blue = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    write_contact_sheet(tmp_path / "new" / "a.png", {"cat": red, "dog": blue})
    sheet = np.asarray(Image.open(tmp_path / "new" / "a.png"))
    assert sheet.shape == (2 * (48 + GAP), ROOM + 2 * (48 + GAP), 3)
    assert (sheet[:48, ROOM : ROOM + 48] == (255, 0, 0)).all()
    assert (sheet[50:98, ROOM : ROOM + 48] == (0, 0, 255)).all()
    assert (sheet[50:98, ROOM + 50 :] == 255).all()  # the dog has one image


def test_pixels_are_those_before_the_normalisation_and_of_their_class() -> None:
    view = View(tiny.data(), list(range(tiny.data().num_classes)), 0.1, torch.device("cpu"))
    rows = view.rows([0, 2])
    shown = by_class(view.images(rows), view.labels(rows), view)
    assert list(shown) == [view.class_names[0], view.class_names[2]]
    first = tiny.data().train.x[view.rows([2])[:1].numpy()]
    assert np.array_equal(shown[view.class_names[2]][:1], first)


def test_a_run_is_drawn_from_its_own_networks_and_stands_in_the_report(tmp_path: Path) -> None:
    small = {"method": "abd", "generator_width": 8}
    methods = {"dreams": small, "plain": {"method": "lwf"}, "looking_back": None, "mnemonics": None}
    methods["mergan"] = {"gan_epochs": 0.1, "gan_width": 8}
    methods["ocfma"] = {"wae_epochs": 0.1, "wae_width": 8}
    study = write(tmp_path, scenarios=["B0-inc5"], methods=methods, recipe={"epochs": 1})
    call("run", study, "--local", "--set", "search.trials=1", "--out", tmp_path / "run", code=0)
    said: list[str] = []
    sheets = pictures(tmp_path / "run", "dreams@B0-inc5/0", say=said.append)
    assert said == []  # the networks are the recorded ones
    assert [path.name for path in sheets] == ["dreams@B0-inc5--0-task1.png"]
    known = json.loads((tmp_path / "run" / SHEETS).read_text())
    assert [sheet["task"] for sheet in known] == [1]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Which images do methods make of old classes?" in page
    assert f"{PICTURES}/{sheets[-1].name}" in page
    for label in ("looking_back", "mnemonics", "mergan", "ocfma"):
        pictures(tmp_path / "run", f"{label}@B0-inc5/0", say=said.append)
    assert said == []
    last = {sheet["label"]: sheet["shown"] for sheet in json.loads((tmp_path / "run" / SHEETS).read_text())}
    assert set(last) == {"dreams", "looking_back", "mnemonics", "mergan", "ocfma"}
    assert last["mnemonics"] == last["mergan"] == {str(c): 8 for c in range(5)}
    (tmp_path / "run" / SHEETS).write_text("[{")
    pictures(tmp_path / "run", "mergan@B0-inc5/0")
    assert [one["label"] for one in json.loads((tmp_path / "run" / SHEETS).read_text())] == ["mergan"]
    assert "lwf makes none: try abd" in refused("pictures", tmp_path / "run", "plain@B0-inc5/0")

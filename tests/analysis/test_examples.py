"""The scripts of analysis/examples and their notebook, on runs that are written down."""

from __future__ import annotations

import json
import math
import runpy

import pytest

from analysis.examples.bias_before_and_after_correction import bias_before_and_after_correction
from analysis.examples.buffer_size_or_distillation_weight import buffer_size_or_distillation_weight
from analysis.examples.forgetting_by_class_age import forgetting_by_class_age
from analysis.lake.open import open_results
from tests.analysis.hand_counts import Hand, lake
from tests.analysis.notebook import NOTEBOOK, made, scripts

FIRST, SECOND = [[10]], [[8, 2], [1, 9]]
THIRD = [[5, 0, 5], [0, 6, 4], [0, 0, 10]]


def test_a_loss_is_counted_by_the_tasks_since_it_was_learnt(tmp_path):
    results = lake(tmp_path / "run", [Hand("lwf", [FIRST, SECOND, THIRD], (1, 1, 1), scenario="B0-3tasks")])
    found = forgetting_by_class_age(results).loc[("B0-3tasks", "lwf")]
    assert found.tolist() == pytest.approx([0.0, 0.3, 0.5])


def test_the_hyperparameter_that_decides_has_the_effect(tmp_path):
    runs = [
        Hand(
            "icarl",
            [FIRST, [[8 if buffer > 9 else 2, 2 if buffer > 9 else 8], [0, 10]]],
            trial=3 * index + place,
            hp={"exemplars_per_class": buffer, "kd_weight": weight},
        )
        for index, buffer in enumerate((5, 10, 20))
        for place, weight in enumerate((0.1, 1.0, 10.0))
    ]
    found = buffer_size_or_distillation_weight(lake(tmp_path / "run", runs)).iloc[0]
    # Accuracies .6, .9, .9 of log buffers at -1.2247, 0, 1.2247: a slope of 0.3 · 1.2247 / 3.
    assert found["effect of buffer"] == pytest.approx(0.3 / math.sqrt(6))
    assert found["effect of weight"] == pytest.approx(0.0, abs=1e-12)
    assert found["share: buffer larger"] > 0.9


def test_a_correction_is_compared_with_the_head_of_the_same_runs(kept_lake):
    results = open_results(kept_lake)
    found = bias_before_and_after_correction(results)
    assert [rule for *_, rule in found.index] == ["nearest-mean"]
    runs = results.runs[results.runs["label"] == "icarl"]
    assert found["last_accuracy after"].iloc[0] == pytest.approx(runs["last_accuracy"].mean())


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.stem)
def test_a_script_prints_its_table(script, kept_lake, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [script.name, str(kept_lake)])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.stem)
def test_a_script_without_a_folder_says_in_one_line_what_it_needs(script, monkeypatch):
    monkeypatch.setattr("sys.argv", [script.name])
    with pytest.raises(
        SystemExit, match=f"^name a run folder: python -m analysis.examples.{script.stem} runs/"
    ):
        runpy.run_path(str(script), run_name="__main__")


def test_the_notebook_is_made_of_the_scripts_and_runs(kept_lake):
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text == made(), "renew it: python -m tests.analysis.notebook --write"
    names = {"FOLDER": str(kept_lake)}
    for cell in json.loads(text)["cells"][2:]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)

"""Protocols side by side, over planted lakes."""

from __future__ import annotations

from pathlib import Path

from analysis.lake.open import open_results
from analysis.lake.run_folder import STUDY
from analysis.report.section import VIEWS
from tests.analysis.hand_counts import Hand, lake
from tests.analysis.planted import Plan, write


def test_a_search_costs_its_confirmation_and_every_base_task_that_was_not_shared(tmp_path: Path) -> None:
    """Tasks of 1000 image-steps, three a run, and no checkpoint of any: nothing is counted twice."""
    plan = {"labels": ("lwf",), "scenarios": (("B0-3tasks", (2, 2, 2)),), "evaluated": True}
    fixed = write(tmp_path / "fixed", Plan(**plan, trials=4, confirmed=(0, 1, 3)))
    inside = write(tmp_path / "chf", Plan(**plan, trials=1))
    study = inside / STUDY
    study.write_text(study.read_text().replace("select_on: validation", "select_on: chf"))
    (table,) = VIEWS["task_values"](open_results([fixed, inside])).tables
    found = dict(zip(table.frame["protocol"], table.frame["image-steps"], strict=True))
    assert found == {"validation": (4 + 6) * 3000, "chf": 3000}


def test_values_that_another_label_lacks_are_drawn_as_what_they_are(tmp_path: Path) -> None:
    counts = [[[9]], [[6, 4], [1, 9]]]
    runs = [
        Hand("lwf", counts, order=order, hp={"exemplars_total": total, "flip": total > 9})
        for order, total in (("natural", 2), ("seed:1", 200))
    ]
    folder = lake(tmp_path / "run", [*runs, Hand("bic", counts)]).folder
    text = (folder / STUDY).read_text()
    (folder / STUDY).write_text(f"{text}protocol: {{select_on: chf}}\n")
    figure = VIEWS["task_values"](open_results(folder)).figure
    assert [line.y for line in figure.data] == [(2,), ("False",), (200,), ("True",)]
    assert figure.layout.yaxis.type == "log"

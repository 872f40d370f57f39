"""A published setting from the command to the table of figures at its end and in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import open_results
from analysis.comparison.published import compare_published
from analysis.lake.ledger import openings
from analysis.lake.run_rows import run_rows
from search.commands.rerun import rerun
from tests.search.terminal import call, refused, write

FIGURES = [
    {"metric": "last_accuracy", "value": 0.5, "spread": 0.5, "source": "within any distance"},
    {"metric": "last_accuracy", "value": 1.0, "spread": 0.0, "source": "out of reach"},
    {"metric": "forgetting", "value": 0.0, "source": "without a spread"},
    {"metric": "last_accuracy", "value": 0.2, "scenario": "B5-5tasks", "source": "of another scenario"},
    {"metric": "last_accuracy", "value": 0.2, "classifier": "corrected", "source": "of no rule here"},
]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fixed study whose data are those of its figures."""
    place = tmp_path_factory.mktemp("published")
    fixed = {"recipe": {"epochs": 1}, "protocol": {"select_on": "fixed"}}
    study = write(place, **fixed, published={"data": "digits", "figures": FIGURES})
    result = call("run", study, "--local", "--out", place / "run", code=0)
    (place / "said").write_text(result.stdout)
    return place / "run"


def test_a_run_is_measured_on_test_rows_and_the_opening_is_noted(ended: Path) -> None:
    (row,) = run_rows(ended).values()
    assert (row["split"], row["status"], row["trial"]) == ("test", "completed", 0)
    assert [opening["what"] for opening in openings(ended)] == ["fixed"]
    assert set(open_results(ended).classes["split"]) == {"test"}
    assert rerun(ended, "finetune@B0-5tasks/0")


def test_figures_are_judged_by_their_spread(ended: Path) -> None:
    (row,) = run_rows(ended).values()
    found = compare_published(open_results(ended))
    assert [one.verdict for one in found] == [
        "in the range",
        "outside",
        "no range published",
        "not measured",
        "not measured",
    ]
    assert found[0].measured.value == pytest.approx(row["last_accuracy"])
    assert found[1].difference == pytest.approx(row["last_accuracy"] - 1.0)
    assert found[2].difference == pytest.approx(row["forgetting"])


def test_the_command_ends_with_the_table_and_the_report_begins_with_it(ended: Path) -> None:
    said = (ended.parent / "said").read_text()
    assert "published figures and those of this study, on test rows:" in said
    assert "0.500 ± 0.500" in said
    assert f"next: cl-search export {ended}" in said
    page = (ended / "report.html").read_text()
    assert "How far are the figures from the published ones?" in page
    assert "Of 5 figures, 1 in the range, 1 outside, 1 no range published, 2 not measured." in page


def test_a_fixed_study_is_said_to_be_measured_on_test_rows_everywhere(ended: Path) -> None:
    assert "average incremental accuracy, test rows" in call("status", ended, code=0).stdout
    assert "Trial 0 has every value fixed" in (ended / "report.html").read_text()
    call("export", ended, "--out", ended.parent / "models", code=0)
    (model,) = (ended.parent / "models").rglob("model.safetensors")
    assert b"test objective" in model.read_bytes()


def test_a_fixed_study_is_not_evaluated_again(ended: Path) -> None:
    assert "nothing is selected and test rows are measured already" in refused("evaluate", ended)


def test_other_images_are_said_to_be_others(tmp_path: Path) -> None:
    fixed = {"recipe": {"epochs": 1}, "protocol": {"select_on": "fixed"}}
    published = {"data": "cifar100", "figures": FIGURES[:1]}
    study = write(tmp_path, **fixed, published=published)
    said = call("run", study, "--local", "--out", tmp_path / "run", code=0).stdout
    assert "other setting" in said
    assert "Not the published setting, so no figure can be judged: data.name digits (published:" in said
    assert "Warning: Not the published setting" in (tmp_path / "run" / "report.html").read_text()

"""Reports and claims over several run folders."""

from __future__ import annotations

import pytest
import yaml

from analysis import open_results, write_report
from analysis.report.section import VIEWS
from analysis.selection.selection import cells
from analysis.survey.roles import Roles
from analysis.survey.verdict import everywhere, judge
from cl_core.errors import BadRequest
from tests.analysis.planted_effects import Planted, plant
from tests.analysis.survey_lakes import BASE, BOUNDS, LWF, NONE, losses, ten, verdict


def test_two_runs_of_one_study_fill_one_column_and_what_was_run_twice_counts_once(tmp_path):
    a = plant(tmp_path / "a", [*BOUNDS, *ten(bic=0.55)])
    b = plant(tmp_path / "b", [*BOUNDS, *losses(none=0.3)])
    results = open_results([a, b, a])
    assert len(results.parts) == 2
    alone = open_results(a)
    assert len(results.runs) == len(alone.runs) + len(losses()) * 10
    assert {str(s) for s in results.runs["scenario"]} == {NONE, BASE}
    joint = results.runs[results.runs["label"] == "joint"]
    assert len(joint) == 10
    assert all(run.startswith("a/") for run in joint["run"])
    found = {j.claim.id: j for j in judge(Roles(results))}
    assert (verdict(found, "A1"), verdict(found, "C1")) == ("holds", "holds")
    titles = [t.title for t in VIEWS["survey"](results).tables]
    assert [title[:7] for title in titles[:3]] == ["Table 1", "Table 2", "Table 4"]


def test_names_of_runs_change_only_where_they_clash(tmp_path):
    a = plant(tmp_path / "a", ten(), orders=2)
    b = plant(tmp_path / "b", losses(), orders=2)
    assert set(open_results([a, b]).runs["run"]) == set(open_results(a).runs["run"]) | set(
        open_results(b).runs["run"]
    )


def test_a_label_with_another_configuration_keeps_its_runs_name(tmp_path):
    a = plant(tmp_path / "a", [*BOUNDS, *ten()], orders=2)
    other = Planted("bic", "bic", 0.7, hp={"kd_weight": 3.0})
    b = plant(tmp_path / "b", [*BOUNDS, other], orders=2)
    results = open_results([a, b])
    assert {"bic", "bic (b)"} <= {cell.label for cell in cells(results)}
    assert len({cell.name for cell in cells(results)}) == len(cells(results))
    for run in results.runs["run"]:
        assert results.confusions(run, "val")


def test_data_sets_make_columns_of_their_own_and_one_counter_example_contradicts(tmp_path):
    a = plant(tmp_path / "a", [*BOUNDS, *ten(bic=0.55)], identity="1")
    b = plant(tmp_path / "b", [*BOUNDS, *ten(bic=0.45)], identity="2", dataset="cifar10")
    results = open_results([a, b])
    assert results.places[f"cifar10 · {BASE}"] == ("cifar10", BASE)
    found = judge(Roles(results))
    assert {j.data: j.verdict.name for j in found if j.claim.id == "A1"} == {
        "digits": "holds",
        "cifar10": "contradicted",
    }
    assert everywhere(found)["A1", ""] == "contradicted"
    (claims,) = (t.frame for t in VIEWS["survey"](results).tables if t.title == "Claims")
    rows = claims[claims["claim"] == "A1"]
    assert list(rows["data set"]) == ["digits", "cifar10", "all"]
    assert list(rows["verdict"]) == ["holds", "contradicted", "contradicted"]
    (_, methods, *_) = VIEWS["survey"](results).tables
    assert f"cifar10 · {NONE}" in methods.frame.columns.get_level_values(0)


def test_one_data_set_under_two_protocols_is_two_columns(tmp_path):
    for name, identity in (("a", "1"), ("b", "2")):
        plant(tmp_path / name, [*BOUNDS, *ten()], identity=identity, orders=2)
    results = open_results([tmp_path / "a", tmp_path / "b"])
    assert {data for data, _ in results.places.values()} == {"digits (a)", "digits (b)"}


def test_one_page_of_several_runs_is_written_where_it_is_named(tmp_path):
    a = plant(tmp_path / "a", [*BOUNDS, LWF], orders=2, identity="1")
    b = plant(tmp_path / "x" / "a", [*BOUNDS, LWF], orders=2, identity="2", dataset="cifar10")
    page = tmp_path / "page.html"
    assert write_report([a, b], page) == page
    text = page.read_text(encoding="utf-8")
    assert f"cifar10 · {NONE}" in text
    assert "This view failed" not in text
    assert "<title>" in text
    assert f"tables/</code> of {a}, {b}." in text
    assert not (a / "report.html").exists()
    assert write_report([a]) == a / "report.html"
    with pytest.raises(BadRequest, match="a report of 2 runs belongs to no folder: name its page with --out"):
        write_report([a, b])
    with pytest.raises(BadRequest, match="is a folder; name a page"):
        write_report([a, b], tmp_path)
    with pytest.raises(BadRequest, match="no run's folder is named"):
        write_report([])


def test_runs_with_different_objectives_are_not_put_together(tmp_path):
    a, b = (plant(tmp_path / name, ten(), orders=1) for name in ("a", "b"))
    study = yaml.safe_load((b / "study.yaml").read_text(encoding="utf-8"))
    study["search"]["objective"] = {"last_accuracy": "max"}
    (b / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(
        BadRequest, match=r"one objective: .* has average_incremental_accuracy max, .* report them apart"
    ):
        open_results([a, b])

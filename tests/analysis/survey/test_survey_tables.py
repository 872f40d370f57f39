"""The survey's tables in the report: what they show, and how wide ones scroll."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from analysis import open_results
from analysis.report.html_table import MISSING, grid
from analysis.report.page import render
from analysis.report.section import VIEWS
from analysis.survey.roles import LEVELS, PARADIGMS, TEN
from analysis.survey.verdict import CLAIMS
from tests.analysis.planted import Plan, write
from tests.analysis.planted_effects import Planted, plant
from tests.analysis.survey_lakes import BASE, BOUNDS, LWF, NONE, losses, replayed, survey, ten


def test_missing_and_failing_references_are_said_above_the_tables(tmp_path):
    lines = survey(tmp_path / "none", ten()).text.split("\n\n")[2:]
    assert (
        lines[0]
        == f"Warning: digits · {NONE} does not count as run: no completed finetune, no completed joint."
    )
    assert len(lines) == 3
    idle = [Planted("finetune", "finetune", 0.84), Planted("joint", "joint", 0.85)]
    (line, *_) = survey(tmp_path / "idle", [*idle, *ten()]).text.split("\n\n")[2:]
    assert "fine-tuning does not forget (last accuracy of joint training − its own: 0.01" in line
    blind = [Planted("finetune", "finetune", 0.02), Planted("joint", "joint", 0.1)]
    (line, *_) = survey(tmp_path / "blind", [*blind, *ten()]).text.split("\n\n")[2:]
    assert "joint training does not learn" in line
    good = survey(tmp_path / "good", [*BOUNDS, *ten()]).text
    assert "Warning" not in good
    assert "provisional" not in good


def test_methods_that_failed_in_every_run_are_named_below_the_table_of_methods(tmp_path):
    folder = plant(tmp_path / "run", [*BOUNDS, *ten()], orders=1)
    results = open_results(folder)
    bic = results.runs["label"] == "bic"
    results.__dict__["runs"] = results.runs.assign(status=results.runs["status"].mask(bic, "failed"))
    (table,) = [one for one in VIEWS["survey"](results).tables if one.title.startswith("Table 2")]
    assert table.text == "Without a completed run, see Failures: bic."
    completed = results.runs["status"].mask(results.runs["scenario"] == "B6-inc1", "completed")
    again = open_results(folder)
    again.__dict__["runs"] = results.runs.assign(status=completed)
    (table,) = [one for one in VIEWS["survey"](again).tables if one.title.startswith("Table 2")]
    assert table.text == "Without a completed run, see Failures: bic (B0-5tasks)."


def test_a_reference_of_another_recipe_has_completed_all_the_same(tmp_path):
    forgets = Planted("finetune", "finetune", 0.05, newest=0.9, recipe={"increment.lr": 0.2})
    others = [replace(one, recipe={"increment.lr": 0.1}) for one in (BOUNDS[1], *ten())]
    text = survey(tmp_path / "run", [forgets, *others]).text
    assert "does not count as run: finetune has another recipe than every method." in text


def test_the_five_tables_show_what_a_run_has_and_name_the_study_that_fills_the_others(tmp_path):
    def titles(name, planted):
        found = survey(tmp_path / name, [*BOUNDS, *planted], orders=1)
        numbers = [t.title[:7] for t in found.tables if t.title.startswith("Table")]
        return numbers, re.findall(r"run (survey-[a-z-]+)", found.text)

    without = [Planted("lwf-x", "lwf", 0.4, hp={"distill": False}), LWF]
    presets = {2: "survey-methods", 3: "survey-without-distillation", 4: "survey-losses"}
    presets[5] = "survey-replay-losses"
    for number, planted in ((2, ten()), (3, without), (4, losses()), (5, replayed({}, {}))):
        left = [preset for other, preset in presets.items() if other != number]
        assert titles(str(number), planted) == (["Table 1", f"Table {number}"], left)
    assert titles("none", [LWF, Planted("replay", "replay", 0.5)]) == ([], [])


def test_a_run_like_the_quickstart_has_no_survey_in_its_report(tmp_path):
    plan = Plan(labels=("finetune", "lwf", "icarl", "bic", "joint"), trials=2, rows=6)
    results = open_results(write(tmp_path / "run", plan))
    found = VIEWS["survey"](results)
    assert found.optional
    assert found.bare
    assert 'id="survey"' not in render(results)


def test_the_taxonomy_has_every_system_with_its_completed_runs(tmp_path):
    (systems, *_) = survey(tmp_path / "run", [*BOUNDS, *ten()], orders=2).tables
    frame = systems.frame.set_index("method")
    assert list(frame.index[:2]) == ["lwf", "lwm"]
    assert set(TEN) < set(frame.index)
    assert frame.loc["bic", "runs here"] == 4
    assert grid(systems.frame).rows[-1].cells[-1].text == MISSING
    assert frame.loc["lwm", "what is distilled"] == "logits, features"


def test_methods_stand_by_paradigm_beside_their_references_and_gaps_are_dashes(tmp_path):
    planted = [*BOUNDS, Planted("replay", "replay", 0.4), *ten(bic=0.55)]
    planted = [one for one in planted if one.label != "pass"]
    results = open_results(plant(tmp_path / "run", planted))
    (_, methods, *_) = VIEWS["survey"](results).tables
    frame = methods.frame
    assert list(frame["", "label"]) == [
        *(m for m in TEN if m != "pass"),
        "pass",
        "finetune",
        "replay",
        "joint",
    ]
    assert list(dict.fromkeys(frame["", "paradigm"])) == [*PARADIGMS, "reference"]
    assert list(dict.fromkeys(frame.columns.get_level_values(0))) == ["", NONE, BASE]
    columns = [name for upper, name in frame.columns if upper == NONE]
    assert columns == ["average incremental", "average incremental ±", "last", "last ±"]
    bic = frame[frame["", "label"] == "bic"].iloc[0]
    trials = results.runs[results.runs["cell"] == f"bic@{BASE}"]
    assert bic[BASE, "last"] == pytest.approx(trials["last_accuracy"].mean())
    # sd of five orders, t(0.975, 4) = 2.776445
    assert bic[BASE, "last ±"] == pytest.approx(2.776445 * trials["last_accuracy"].std() / 5**0.5)
    shown = [[cell.text for cell in row.cells] for row in grid(frame).rows]
    assert ["pass", "feature replay", *[MISSING] * 4] in shown


def test_a_method_stands_beside_itself_without_distillation(tmp_path):
    planted = [LWF, Planted("lwf-x", "lwf", {NONE: 0.3, BASE: 0.4}, hp={"distill": False})]
    (_, removed, *_) = survey(tmp_path / "run", [*BOUNDS, *planted], orders=3, noise=0.0).tables
    (row,) = removed.frame.to_dict("records")
    assert (row["", "method"], row["", "without"]) == ("lwf", "lwf-x")
    assert row[NONE, "difference"] == pytest.approx(0.2, abs=2e-3)
    assert row[BASE, "difference"] == pytest.approx(0.1, abs=2e-3)


def test_losses_stand_by_level_across_softmaxes(tmp_path):
    planted = replayed({"kl": 0.3}, {"kl": 0.6, "accuracy": 0.55})
    (_, replay, *_) = survey(tmp_path / "run", [*BOUNDS, *planted], orders=3, noise=0.0).tables
    frame = replay.frame
    assert list(dict.fromkeys(frame["", "level"])) == list(LEVELS)
    gains = dict(zip(frame["", "loss"], frame[NONE, "difference"], strict=True))
    assert gains["kl"] == pytest.approx(0.3, abs=2e-3)
    assert gains["none"] == pytest.approx(0.05, abs=2e-3)
    assert f"{NONE}: finetune 0." in replay.text
    assert f"Mean gain of the separated softmax over the global one: {NONE} +0.08" in replay.text
    assert "(7 losses)" in replay.text


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A run of methods with and without distillation under two recipes, in one page."""
    planted = [*BOUNDS]
    for recipe in ("common", "paper"):
        for m in TEN[:5]:
            planted += [Planted(f"{m}-{recipe}", m, 0.5)]
            planted += [Planted(f"{m}-x-{recipe}", m, 0.4, hp={"distill": False})]
    return open_results(plant(tmp_path_factory.mktemp("wide") / "run", planted, orders=2))


def test_a_wide_table_scrolls_in_itself_with_its_first_column_in_sight(wide):
    page = render(wide)
    part = page[page.index('<section id="survey">') :]
    part = part[: part.index("</section>")]
    assert len(re.findall('class="table[a-z ]* spread"', part)) == 2
    assert f'<th scope="colgroup" colspan="2" class="over">{NONE} · common</th>' in part
    assert '<th scope="col" rowspan="2" class="text" data-place="0">label</th>' in part
    style = page[page.index("<style>") : page.index("</style>")]
    assert re.search(r"\.table \{ overflow-x: auto", style)
    assert re.search(r"\.table\.spread th:first-child[^}]*position: sticky; left: 0", style)
    assert "This view failed" not in page
    for claim in CLAIMS:
        assert f"<span>{claim.id}</span> <span>{claim.english}</span> <span>{claim.sentence}</span>" in part
    assert part.count("<details>") == 3
    assert "holds if the interval lies above +0.005" in part
    assert "above +0.02 where a claim says clearly or markedly" in part
    assert 'class="figure"' in part
    assert '<span class="n">n = 2 class orders' in part


def test_every_verdict_names_its_data_set_recipe_and_n(wide):
    (claims,) = (t.frame for t in VIEWS["survey"](wide).tables if t.title == "Claims")
    assert set(claims["data set"]) == {"digits"}
    assert set(claims["recipe"]) == {"common", "paper"}
    assert set(claims["n"]) == {"2"}
    assert "fewer than 5 class orders" in VIEWS["survey"](wide).text
    assert "BiC方法在所有数据集上表现最佳" in claims[claims["claim"] == "A1"]["the survey's words"].iloc[0]


def test_long_texts_are_broken_and_numbers_keep_their_interval_in_two_levels():
    import pandas as pd

    columns = pd.MultiIndex.from_tuples([("", "label"), ("s", "x"), ("s", "x ±")])
    found = grid(pd.DataFrame([["<a>" + "b" * 50, 0.5, 0.01]], columns=columns))
    (row,) = found.rows
    assert [(one.kind, one.half) for one in row.cells] == [("text long", ""), ("num", "0.010")]
    assert row.cells[1].text == "0.500"
    assert [one.text for one in found.head[1]] == ["x"]
    assert found.spread

"""The survey's claims and roles: their words, and what leaves a claim open."""

from __future__ import annotations

import re
from itertools import chain

from analysis import open_results
from analysis.report.section import VIEWS
from analysis.survey.references import reference_warnings
from analysis.survey.roles import FURTHER, LEVELS, PARADIGMS, TEN, Roles
from analysis.survey.verdict import CLAIMS, judge
from tests.analysis.planted_effects import SURVEY_SCENARIOS, Planted, plant
from tests.analysis.survey_lakes import BOUNDS, NONE, judged, losses, ten, verdict


def test_every_claim_stands_once_with_its_words():
    names = [claim.id for claim in CLAIMS]
    expected = {
        f"{letter}{n}"
        for letter, most in zip("ABCDE", (6, 3, 5, 7, 3), strict=True)
        for n in range(1, most + 1)
    }
    assert set(names) == expected
    assert len(names) == len(expected)
    for claim in CLAIMS:
        assert re.search("[\u4e00-\u9fff]", claim.sentence)
        assert claim.english.endswith(".")
        assert claim.contrast


def test_the_taxonomy_is_that_of_the_methods():
    from cl_core.method import METHODS

    for paradigm, names in (*PARADIGMS.items(), *FURTHER.items()):
        for name in names:
            assert METHODS[name].paradigm == paradigm, name
    alone = {"finetune", "joint", "replay", "distill"}
    assert {*alone, *TEN, *chain(*FURTHER.values())} == set(METHODS.names())


def test_the_levels_are_those_of_the_losses():
    from cl_core.blocks.distillation import DISTILLATIONS

    known = {loss: level for level, losses in LEVELS.items() for loss in losses if level != "none"}
    assert known == {name: one.level for name, one in DISTILLATIONS.items()}


def test_one_class_order_has_no_interval_and_decides_nothing(tmp_path):
    found = judged(tmp_path / "run", [*ten(bic=0.9), *losses(none=0.1)], orders=1)
    known = [j for j in found.values() if j.data]
    assert len(known) > 8
    assert {j.verdict.name for j in known} <= {"too few class orders (n = 1)", "not measured"}
    assert found["A1"].n == [1]
    two = judged(tmp_path / "two", ten(bic=0.9), orders=2)
    assert verdict(two, "A1") == "too few class orders (n = 2)"
    assert two["A1"].remark == "9 contrasts, by plain intervals: 9 too few class orders (n = 2)"


def test_missing_methods_leave_a_claim_open_but_not_a_counter_example(tmp_path):
    some = [one for one in ten(bic=0.55) if one.method not in ("pass", "lwm")]
    found = judged(tmp_path / "open", some)["A1"]
    assert found.verdict.name == "not measured"
    assert found.missing == [f"lwm in {NONE}", f"pass in {NONE}"]
    assert found.remark == "7 contrasts, by plain intervals: 7 holds"
    some = [one for one in ten(bic=0.45) if one.method not in ("pass", "lwm")]
    assert verdict(judged(tmp_path / "lost", some), "A1") == "contradicted"


def test_a_scenario_that_is_not_there_is_named(tmp_path):
    found = judged(tmp_path / "run", ten(), scenarios={NONE: SURVEY_SCENARIOS[NONE]})
    assert found["A2"].missing == ["a scenario with a base task"]
    assert found["A2"].data == ""
    assert verdict(found, "A1") == "equivalent"


def test_recipe_columns_are_judged_apart_and_references_without_one_serve_both(tmp_path):
    planted = [Planted(f"{m}-common", m, 0.55 if m == "bic" else 0.5) for m in TEN]
    planted += [Planted(f"{m}-paper", m, 0.45 if m == "bic" else 0.5) for m in TEN]
    roles = Roles(open_results(plant(tmp_path / "run", [*BOUNDS, *planted])))
    found = {(j.claim.id, j.recipe): j.verdict.name for j in judge(roles)}
    assert found["A1", "common"] == "holds"
    assert found["A1", "paper"] == "contradicted"
    assert ("A1", "") not in found
    assert reference_warnings(roles) == []


def test_the_variant_of_a_loss_is_not_meant(tmp_path):
    folder = tmp_path / "run"
    strong = Planted("kl-strong", "distill", 0.9, hp={"loss": "kl", "kd_weight": 4.0})
    heads = Planted("kl-heads", "distill", 0.8, hp={"loss": "kl", "train_old_head": True})
    results = open_results(plant(folder, [*BOUNDS, strong, heads, *losses()]))
    roles = Roles(results)
    for place in roles.places:
        assert roles.find(place, ("loss", "kl", "new_only")).cell.label == "kl"
    (shown,) = (t for t in VIEWS["survey"](results).tables if t.title.endswith("Distillation losses alone"))
    assert list(shown.frame["", "loss"]).count("kl") == 1

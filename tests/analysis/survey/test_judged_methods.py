"""The survey's claims on methods, on lakes with planted effects."""

from __future__ import annotations

import pytest

from analysis.survey.roles import TEN
from tests.analysis.planted_effects import Planted
from tests.analysis.survey_lakes import BASE, NONE, judged, paradigm_of, ten, verdict


def test_a_method_that_is_better_by_five_points_is_best(tmp_path):
    found = judged(tmp_path / "run", ten(bic=0.55))
    a1 = found["A1"]
    assert a1.verdict.name == "holds"
    assert (a1.data, a1.recipe, a1.n) == ("digits", "", [5])
    assert a1.deciding.difference.value == pytest.approx(0.05, abs=0.002)
    assert a1.deciding.contrast.text.startswith("bic − ")
    assert a1.remark == "9 contrasts, by plain intervals: 9 holds"


def test_differences_that_happen_to_be_equal_decide_nothing_on_few_rows(tmp_path):
    few = judged(tmp_path / "few", ten(bic=0.55), noise=0.0, rows=20)["A1"]  # one row of a class, every time
    assert few.deciding.difference.value == pytest.approx(0.05)
    assert few.verdict.name == "undecided"
    many = judged(tmp_path / "many", ten(bic=0.55), noise=0.0)["A1"]
    assert many.verdict.name == "holds"


def test_one_method_as_good_is_a_tie_and_one_better_a_counter_example(tmp_path):
    tie = judged(tmp_path / "tie", ten(bic=0.55, lucir=0.55))["A1"]
    assert tie.verdict.name == "equivalent"
    assert tie.deciding.contrast.text == f"bic − lucir, {NONE}"
    lost = judged(tmp_path / "lost", ten(bic=0.55, lucir=0.6))["A1"]
    assert lost.verdict.name == "contradicted"
    assert lost.deciding.difference.value == pytest.approx(-0.05, abs=0.002)


def test_planted_methods_give_the_planted_verdicts(tmp_path):
    paradigms = {
        "data replay": {NONE: 0.6, BASE: 0.65},
        "feature replay": {NONE: 0.5, BASE: 0.67},
        "regularisation": {NONE: 0.4, BASE: 0.35},
    }
    found = judged(tmp_path / "run", ten(**{m: paradigms[paradigm_of(m)] for m in TEN}))
    assert verdict(found, "A2") == "holds"  # praka is above data replay with a base
    assert "apart, the other paradigms: 2 holds, 2 equivalent" in found["A2"].remark
    assert [verdict(found, claim) for claim in ("A3", "A4", "A5", "A6")] == ["holds"] * 4
    assert verdict(found, "A1") == "equivalent"  # bic is as good as its paradigm


def test_most_others_need_not_be_all(tmp_path):
    rises, falls = {NONE: 0.5, BASE: 0.6}, {NONE: 0.45, BASE: 0.4}
    plan = dict.fromkeys(TEN, rises) | {"lwf": falls, "lwm": falls, "eeil": {NONE: 0.6, BASE: 0.5}}
    found = judged(tmp_path / "most", ten(**plan))
    assert verdict(found, "A6") == "holds"
    plan |= {m: {NONE: 0.6, BASE: 0.5} for m in ("icarl", "bic", "lucir", "ss_il")}
    assert verdict(judged(tmp_path / "few", ten(**plan)), "A6") == "contradicted"


def test_across_scenarios_the_last_accuracy_is_compared(tmp_path):
    found = judged(tmp_path / "run", ten({NONE: 0.5, BASE: 0.6}))["A5"]
    assert {metric for s in found.shown for metric in s.contrast.quantity.metrics} == {"last_accuracy"}


def test_clearly_means_more_than_two_points(tmp_path):
    def without(step):
        return [Planted(f"{m}-x", m, 0.5 - step, hp={"distill": False}) for m in TEN]

    clear = judged(tmp_path / "clear", [*ten(), *without(0.05)])
    assert verdict(clear, "B1") == "holds"
    assert verdict(clear, "B2") == "holds"
    small = judged(tmp_path / "small", [*ten(), *without(0.012)])
    assert verdict(small, "B2") == "holds"
    assert verdict(small, "B1") == "undecided"
    assert "above 0.005 but not clearly" in small["B1"].remark


def test_what_b3_claims_of_each_method_is_planted_and_found(tmp_path):
    without = dict.fromkeys(TEN, 0.45) | {"icarl": 0.56, "lucir": 0.51}
    planted = [*ten(), *(Planted(f"{m}-x", m, a, hp={"distill": False}) for m, a in without.items())]
    found = judged(tmp_path / "run", planted)
    assert verdict(found, "B3") == "holds"
    assert verdict(found, "B2") == "contradicted"


def test_each_form_of_removal_is_compared_with_the_method_of_that_form(tmp_path):
    planted = [
        Planted("bic", "bic", 0.6, hp={"bias_layers": "single", "distill": True}),
        Planted("bic-w", "bic", 0.5, hp={"bias_layers": "single", "distill": False}),
        Planted("bic-p", "bic", 0.7, hp={"bias_layers": "per_task", "distill": True}),
        Planted("bic-p-w", "bic", 0.5, hp={"bias_layers": "per_task", "distill": False}),
    ]
    found = judged(tmp_path / "run", planted)["B2"]
    shown = {s.contrast.text: s for s in found.shown if not s.missing}
    assert shown[f"bic − bic-w, {BASE}"].difference.value == pytest.approx(0.1, abs=0.002)
    other = shown[f"bic − bic-p-w, {BASE}"]
    assert other.difference.value == pytest.approx(0.2, abs=0.002)
    assert other.contrast.extra == "other forms of bic"
    assert "apart, other forms of bic: 1 holds" in found.remark


def test_a_removal_is_compared_where_only_labels_tell_methods_from_one_another(tmp_path):
    planted = [
        Planted("zzz", "lwf", 0.5, hp={"distill": True}),
        Planted("aaa", "lwf", 0.4, hp={"distill": False}),
    ]
    found = judged(tmp_path / "run", planted)["B1"]
    assert f"zzz − aaa, {NONE}".replace("zzz", "lwf") in {
        s.contrast.text for s in found.shown if not s.missing
    }
    assert verdict({"B1": found}, "B1") == "not measured"
    assert f"lwm in {NONE}" in found.missing


def test_bytes_and_bias_of_feature_replay_are_judged_as_planted(tmp_path):
    def kept(method):
        return {"data replay": 4000, "feature replay": 100}.get(paradigm_of(method), 0)

    def newest(method):
        return 0.9 if paradigm_of(method) == "data replay" else 0.6

    planted = [Planted(m, m, 0.5, newest=newest(m), kept=kept(m)) for m in TEN]
    found = judged(tmp_path / "run", planted)
    assert verdict(found, "E1") == "holds"
    assert verdict(found, "E2") == "holds"
    heavy = [Planted(m, m, 0.5, kept=9000 if m == "il2a" else kept(m)) for m in TEN]
    found = judged(tmp_path / "heavy", heavy)
    assert verdict(found, "E2") == "contradicted"
    assert "il2a" in found["E2"].deciding.contrast.text

"""The survey's claims on distillation losses, alone and with replay, on lakes with planted effects."""

from __future__ import annotations

import re

import pyarrow.parquet as pq

from analysis import open_results
from analysis.survey.roles import Roles
from analysis.survey.verdict import judge
from tests.analysis.planted_effects import Planted, plant
from tests.analysis.survey_lakes import BASE, BOUNDS, LOGITS, NONE, judged, losses, replayed, verdict


def test_planted_losses_give_the_planted_verdicts(tmp_path):
    found = judged(
        tmp_path / "run",
        [
            *losses(accuracy=0.6, none=0.3, logit_l2=0.66, feature_l2=0.4, feature_cosine=0.45),
            Planted("weak", "distill", 0.55, hp={"loss": "cross-entropy", "t_squared": False}),
        ],
    )
    assert [verdict(found, c) for c in ("C1", "C2", "C3", "C4")] == ["holds"] * 4
    assert "apart, KL above cross-entropy at a quarter of its weight: 2 holds" in found["C3"].remark
    assert verdict(found, "C5") == "not measured"
    assert any("all_seen" in text for text in found["C5"].missing)
    assert verdict(found, "D4") == "not measured"


def test_distillation_under_a_global_loss_is_worth_less_where_planted(tmp_path):
    scope = {"ce_scope": "all_seen"}
    planted = [
        *losses(none=0.3),
        Planted("none-all", "distill", 0.1, newest=0.8, hp={"loss": "none", **scope}),
        Planted("kl-all", "distill", 0.12, newest=0.8, hp={"loss": "kl", **scope}),
    ]
    assert verdict(judged(tmp_path / "run", planted), "C5") == "holds"


def test_planted_replay_gives_the_planted_verdicts(tmp_path):
    low = {NONE: 0.45, BASE: 0.58}
    globally = {x.replace("-", "_"): low for x in LOGITS} | {
        "none": {NONE: 0.6, BASE: 0.6},
        "feature_l2": {NONE: 0.62, BASE: 0.64},
        "feature_cosine": {NONE: 0.6, BASE: 0.7},
    }
    found = judged(tmp_path / "run", replayed(globally, {"accuracy": 0.8, "none": 0.65}))
    assert [verdict(found, c) for c in ("D1", "D2", "D3", "D4", "D5")] == ["holds"] * 5
    assert verdict(found, "D7") == "equivalent"  # planted accuracies do not fall
    worse = judged(tmp_path / "worse", replayed(globally, {"accuracy": 0.45, "none": 0.5}))
    assert verdict(worse, "D4") == "contradicted"
    assert verdict(worse, "D5") == "contradicted"


def test_the_newest_task_is_answered_too_often_where_planted(tmp_path):
    biased = [Planted("replay", "replay", 0.4, newest=0.9)]
    assert verdict(judged(tmp_path / "biased", biased), "D6") == "holds"
    assert verdict(judged(tmp_path / "fair", [Planted("replay", "replay", 0.5)]), "D6") == "equivalent"


def constrained(agreement=0.9, newest=0.6, old=0.5):
    return [
        *(one for one in losses() if one.label not in ("kl", "logit-l2")),
        Planted("kl", "distill", 0.5, newest=0.7, hp={"loss": "kl"}, agreement=0.8),
        Planted("logit-l2", "distill", old, newest=newest, hp={"loss": "logit-l2"}, agreement=agreement),
    ]


def test_the_stricter_constraint_is_judged_only_at_equal_forgetting(tmp_path):
    # forgetting is newest - old: 0.2 for both, then 0.2 against 0.1
    assert verdict(judged(tmp_path / "equal", constrained(old=0.4)), "E3") == "holds"
    assert verdict(judged(tmp_path / "loose", constrained(0.7, old=0.4)), "E3") == "contradicted"
    found = judged(tmp_path / "unequal", constrained())["E3"]
    assert found.verdict.name == "not measured"
    assert any(re.search(r"near zero: it is −0\.1", text) for text in found.missing)


def test_a_run_of_an_earlier_version_has_no_agreement_and_is_still_read(tmp_path):
    folder = plant(tmp_path / "run", [*BOUNDS, *constrained(old=0.4)])
    path = folder / "tables" / "tasks" / "gathered.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["teacher_agreement"]), path)
    found = {j.claim.id: j for j in judge(Roles(open_results(folder)))}
    assert verdict(found, "E3") == "not measured"
    assert "teacher agreement of distill with loss kl (new_only)" in found["E3"].missing
    assert verdict(found, "C1") == "contradicted"  # the planted L2 is below no loss at all

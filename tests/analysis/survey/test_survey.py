"""The survey's claims on lakes with planted effects, its tables, and reports over several runs."""

from __future__ import annotations

import re
from itertools import chain

import pyarrow.parquet as pq
import pytest
import yaml

from analysis import open_results, write_report
from analysis.report.html_table import grid
from analysis.report.page import render
from analysis.report.section import VIEWS
from analysis.selection.selection import cells
from analysis.survey.references import reference_warnings
from analysis.survey.roles import FURTHER, LEVELS, PARADIGMS, TEN, Roles
from analysis.survey.verdict import CLAIMS, everywhere, judge
from cl_core.errors import BadRequest
from tests.analysis.planted import Plan, write
from tests.analysis.planted_effects import SURVEY_SCENARIOS, Planted, plant

NONE, BASE = SURVEY_SCENARIOS
BOUNDS = (Planted("finetune", "finetune", 0.05, newest=0.9), Planted("joint", "joint", 0.85))
LWF = Planted("lwf", "lwf", 0.5)
LOGITS, FEATURES = ("cross-entropy", "kl", "logit-l2", "logit-l1"), ("feature-l2", "feature-cosine")


def ten(accuracy=0.5, **others):
    """The ten methods at one accuracy, or some at others."""
    return [Planted(name, name, others.get(name, accuracy)) for name in TEN]


def losses(method="distill", hp=(), prefix="", accuracy=0.5, **others):
    """A label for each loss; names in `others` have underscores."""
    names = ("none", *LOGITS, *FEATURES)
    return [
        Planted(f"{prefix}{x}", method, others.get(x.replace("-", "_"), accuracy), hp={"loss": x, **dict(hp)})
        for x in names
    ]


def judged(folder, planted, **keywords):
    """Claim -> what it came to, on a new lake of one data set and one recipe column."""
    found = judge(Roles(open_results(plant(folder, [*BOUNDS, *planted], **keywords))))
    assert len({j.claim.id for j in found}) == len(found)
    return {j.claim.id: j for j in found}


def verdict(found, claim):
    return found[claim].verdict.name


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


def replayed(globally, separately):
    return [
        *losses("replay", {"softmax": "global"}, "g-", **globally),
        *losses("replay", {"softmax": "separated"}, "s-", **separately),
    ]


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


def paradigm_of(method):
    return next(name for name, members in PARADIGMS.items() if method in members)


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


def test_the_variant_of_a_loss_is_shown_but_not_meant(tmp_path):
    folder = tmp_path / "run"
    strong = Planted("kl-strong", "distill", 0.9, hp={"loss": "kl", "kd_weight": 4.0})
    heads = Planted("kl-heads", "distill", 0.8, hp={"loss": "kl", "train_old_head": True})
    results = open_results(plant(folder, [*BOUNDS, strong, heads, *losses()]))
    roles = Roles(results)
    for place in roles.places:
        assert roles.find(place, ("loss", "kl", "new_only")).cell.label == "kl"
    (shown,) = (t for t in VIEWS["survey"](results).tables if t.title == "Distillation losses alone")
    assert {"kl", "kl-strong", "kl-heads", "finetune", "joint"} <= set(shown.frame["", "label"])


def survey(folder, planted, **keywords):
    return VIEWS["survey"](open_results(plant(folder, planted, **keywords)))


def test_missing_and_failing_references_are_said_above_the_tables(tmp_path):
    lines = survey(tmp_path / "none", ten()).text.split("\n\n")[2:]
    assert (
        lines[0]
        == f"Warning: digits · {NONE} does not count as run: no completed finetune, no completed joint."
    )
    assert len(lines) == 2
    idle = [Planted("finetune", "finetune", 0.84), Planted("joint", "joint", 0.85)]
    (line, *_) = survey(tmp_path / "idle", [*idle, *ten()]).text.split("\n\n")[2:]
    assert "fine-tuning does not forget (last accuracy of joint training − its own: 0.01" in line
    blind = [Planted("finetune", "finetune", 0.02), Planted("joint", "joint", 0.1)]
    (line, *_) = survey(tmp_path / "blind", [*blind, *ten()]).text.split("\n\n")[2:]
    assert "joint training does not learn" in line
    good = survey(tmp_path / "good", [*BOUNDS, *ten()]).text
    assert "Warning" not in good
    assert "provisional" not in good


def test_the_four_tables_show_what_a_run_has_and_nothing_else(tmp_path):
    def titles(name, planted):
        found = survey(tmp_path / name, [*BOUNDS, *planted], orders=1)
        return [t.title for t in found.tables if not t.title.startswith(("Claim", "Every"))]

    without = [Planted("lwf-x", "lwf", 0.4, hp={"distill": False}), LWF]
    assert titles("a", ten()) == ["Methods"]
    assert titles("b", without) == ["With and without distillation"]
    assert titles("c", losses()) == ["Distillation losses alone"]
    assert titles("d", replayed({}, {})) == ["Replay with distillation losses"]
    assert titles("e", [LWF, Planted("replay", "replay", 0.5)]) == []


def test_a_run_like_the_quickstart_has_no_survey_in_its_report(tmp_path):
    plan = Plan(labels=("finetune", "lwf", "icarl", "bic", "joint"), trials=2, rows=6)
    results = open_results(write(tmp_path / "run", plan))
    found = VIEWS["survey"](results)
    assert found.optional
    assert found.bare
    assert 'id="survey"' not in render(results)


def test_methods_stand_by_paradigm_beside_their_references_with_every_metric(tmp_path):
    planted = [*BOUNDS, Planted("replay", "replay", 0.4), *ten(bic=0.55)]
    results = open_results(plant(tmp_path / "run", planted))
    (methods, *_) = VIEWS["survey"](results).tables
    frame = methods.frame
    assert list(frame["", "label"]) == [*TEN, "finetune", "replay", "joint"]
    assert list(dict.fromkeys(frame["", "paradigm"])) == [*PARADIGMS, "reference"]
    assert list(dict.fromkeys(frame.columns.get_level_values(0))) == ["", NONE, BASE]
    columns = [name for upper, name in frame.columns if upper == NONE]
    assert columns == [
        *("first task", "first task ±", "average incremental", "average incremental ±", "last accuracy"),
        *("last accuracy ±", "forgetting", "forgetting ±", "recency ratio", "recency ratio ±"),
        *("bytes kept", "CPU-seconds"),
    ]
    bic = frame[frame["", "label"] == "bic"].iloc[0]
    trials = results.runs[results.runs["cell"] == f"bic@{BASE}"]
    assert bic[BASE, "last accuracy"] == pytest.approx(trials["last_accuracy"].mean())
    assert bic[BASE, "CPU-seconds"] == 10.0
    # sd of five orders, t(0.975, 4) = 2.776445
    assert bic[BASE, "last accuracy ±"] == pytest.approx(2.776445 * trials["last_accuracy"].std() / 5**0.5)


@pytest.mark.parametrize(
    ("device", "title"), [("cuda", "GPU-seconds"), ("cuda:1", "GPU-seconds"), (None, "seconds")]
)
def test_seconds_say_on_what(tmp_path, device, title):
    (methods, *_) = survey(tmp_path / "run", [*BOUNDS, *ten()], device=device, orders=2).tables
    assert (NONE, title) in methods.frame.columns


def test_losses_stand_by_softmax_and_level(tmp_path):
    (replay, *_) = survey(tmp_path / "run", [*BOUNDS, *replayed({}, {})]).tables
    frame = replay.frame
    assert list(dict.fromkeys(zip(frame["", "softmax"], frame["", "level"], strict=True))) == [
        *((s, level) for s in ("global", "separated") for level in LEVELS),
        ("reference", ""),
    ]


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
    assert part.count('class="table wide spread"') == 2
    assert f'<th colspan="7" class="over">{NONE} · common</th>' in part
    assert '<th rowspan="2" class="text">label</th>' in part
    style = page[page.index("<style>") : page.index("</style>")]
    assert re.search(r"\.table \{ overflow-x: auto", style)
    assert re.search(r"\.table\.spread th:first-child[^}]*position: sticky; left: 0", style)
    assert "This view failed" not in page
    for claim in CLAIMS:
        assert f"<span>{claim.id}</span> <span>{claim.english}</span> <span>{claim.sentence}</span>" in part
    assert part.count("<details>") == 2
    assert "holds if the interval lies above +0.005" in part
    assert "above +0.02 where a claim says clearly or markedly" in part
    assert 'class="figure"' in part
    assert '<p class="n">n = 2 class orders' in part


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
    assert all(trial.startswith("a/") for trial in joint["run"])
    found = {j.claim.id: j for j in judge(Roles(results))}
    assert (verdict(found, "A1"), verdict(found, "C1")) == ("holds", "holds")
    titles = [t.title for t in VIEWS["survey"](results).tables]
    assert titles[:2] == ["Methods", "Distillation losses alone"]


def test_trial_names_change_only_where_they_clash(tmp_path):
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
    for trial in results.runs["run"]:
        assert results.confusions(trial, "val")


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
    (methods, *_) = VIEWS["survey"](results).tables
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

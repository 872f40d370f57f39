"""Lakes with the ten methods or with losses, and their judged claims."""

from __future__ import annotations

from analysis import open_results
from analysis.report.section import VIEWS
from analysis.survey.roles import PARADIGMS, TEN, Roles
from analysis.survey.verdict import judge
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


def replayed(globally, separately):
    return [
        *losses("replay", {"softmax": "global"}, "g-", **globally),
        *losses("replay", {"softmax": "separated"}, "s-", **separately),
    ]


def paradigm_of(method):
    return next(name for name, members in PARADIGMS.items() if method in members)


def survey(folder, planted, **keywords):
    return VIEWS["survey"](open_results(plant(folder, planted, **keywords)))

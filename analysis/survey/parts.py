"""The parts of each claim of the survey, by its id: what is compared with what, and in which scenarios.

In all of them `c` is the column, `s` a scenario.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.statistics.intervals import CLEAR, SMALLEST
from analysis.survey.contrasts import AVERAGE, LAST, ONE_BYTE, Column, Contrast, Part, Quantity
from analysis.survey.roles import DATA, FEATURE, REGULARISATION, TEN, WEAK_CE, Place


def _method(s: Place, name: str, metric: str = AVERAGE) -> Quantity:
    return Quantity(((1.0, s, ("method", name), metric),), name)


def _group(s: Place, names: Sequence[str], text: str, metric: str = AVERAGE) -> Quantity:
    """The mean over methods, each weighing the same."""
    terms = tuple((1.0 / len(names), s, ("method", name), metric) for name in names)
    return Quantity(terms, f"mean of {text}")


def _loss(s: Place, kind: str, loss: str, scope: str, metric: str = AVERAGE) -> Quantity:
    return Quantity(((1.0, s, (kind, loss, scope), metric),), loss)


def _gain(s: Place, kind: str, loss: str, scope: str, where: str = "", metric: str = AVERAGE) -> Quantity:
    """What a loss adds to none."""
    found = _loss(s, kind, loss, scope, metric) - _loss(s, kind, "none", scope, metric)
    return replace(found, text=f"{found.text} [{where}]" if where else found.text)


def _at(quantity: Quantity, s: Place) -> Quantity:
    return replace(quantity, text=f"{quantity.text} [{s.scenario}]")


NO_BASE = "a scenario without a base task"
WITH_BASE = "a scenario with a base task"
BOTH = "a scenario with and one without a base task"
ANY = "a scenario of two tasks or more"


def a1(c: Column) -> list[Part]:
    scenarios = c.scenarios(False)
    others = [name for name in TEN if name != "bic"]
    return [Part([Contrast(_method(s, "bic") - _method(s, m)) for s in scenarios for m in others], NO_BASE)]


def a2(c: Column) -> list[Part]:
    scenarios = c.scenarios(True)
    own = [Contrast(_method(s, "praka") - _method(s, m)) for s in scenarios for m in DATA]
    apart = [
        Contrast(_method(s, "praka") - _method(s, m), extra="the other paradigms")
        for s in scenarios
        for m in (*REGULARISATION, "il2a", "pass")
    ]
    return [Part([*own, *apart], WITH_BASE)]


def a3(c: Column) -> list[Part]:
    return [
        Part(
            [
                Contrast(
                    _group(s, DATA, "data replay")
                    - _group(s, (*REGULARISATION, *FEATURE), "the other two paradigms")
                )
                for s in c.scenarios(base)
            ],
            lack,
        )
        for base, lack in ((False, NO_BASE), (True, WITH_BASE))
    ]


def a4(c: Column) -> list[Part]:
    found = [
        _group(s, DATA, "data replay") - _group(s, FEATURE, "feature replay") for s in c.scenarios(False)
    ]
    return [Part([Contrast(q) for q in found], NO_BASE)]


def a5(c: Column) -> list[Part]:
    found = [_rise(b, n, m) for b, n in c.across() for m in FEATURE]
    return [Part([Contrast(q, CLEAR) for q in found], BOTH)]


def a6(c: Column) -> list[Part]:
    others = [name for name in TEN if name not in REGULARISATION]
    trailing = [
        _group(s, others, "the other two paradigms") - _group(s, REGULARISATION, "regularisation")
        for s in c.scenarios()
    ]
    falls = [_fall(b, n, m) for b, n in c.across() for m in REGULARISATION]
    rises = [_rise(b, n, m) for b, n in c.across() for m in others]
    return [
        Part([Contrast(q) for q in trailing], ANY),
        Part([Contrast(q) for q in falls], BOTH),
        Part([Contrast(q) for q in rises], BOTH, most=True),
    ]


def _rise(base: Place, none: Place, name: str) -> Quantity:
    """Last accuracy with a base task minus without one: the same classes are seen at the end."""
    return _at(_method(base, name, LAST), base) - _at(_method(none, name, LAST), none)


def _fall(base: Place, none: Place, name: str) -> Quantity:
    return _at(_method(none, name, LAST), none) - _at(_method(base, name, LAST), base)


def _removal(
    c: Column, s: Place, name: str, claimed: float = SMALLEST, raises: bool = False
) -> list[Contrast]:
    """With distillation minus without it, or the other way round; forms after the first decide nothing."""
    out = []
    for form in c.forms(s, name):
        having = Quantity(((1.0, s, ("with", name, form), AVERAGE),), name)
        without = Quantity(((1.0, s, ("without", name, form), AVERAGE),), f"{name} without")
        subject = c.roles.find(s, ("without", name, form))
        if subject is not None:
            without = replace(without, text=subject.row)
        quantity = without - having if raises else having - without
        out.append(Contrast(quantity, claimed, extra=f"other forms of {name}" if form != "0" else ""))
    return out


def b1(c: Column) -> list[Part]:
    return [
        Part(
            [
                k
                for s in c.scenarios(base)
                for m in (*REGULARISATION, *FEATURE)
                for k in _removal(c, s, m, CLEAR)
            ],
            lack,
        )
        for base, lack in ((False, NO_BASE), (True, WITH_BASE))
    ]


def b2(c: Column) -> list[Part]:
    return [Part([k for s in c.scenarios(True) for m in DATA for k in _removal(c, s, m)], WITH_BASE)]


def b3(c: Column) -> list[Part]:
    found = [k for s in c.scenarios(False) for m in ("eeil", "bic", "ss_il") for k in _removal(c, s, m)]
    found += [k for s in c.scenarios(False) for k in _removal(c, s, "icarl", CLEAR, raises=True)]
    found += [k for s in c.scenarios(False) for k in _removal(c, s, "lucir", raises=True)]
    return [Part(found, NO_BASE)]


ALONE = ("loss", "new_only")


def c1(c: Column) -> list[Part]:
    kind, scope = ALONE
    found = [
        _gain(s, kind, loss, scope)
        for s in c.scenarios()
        for loss in c.losses(s, kind, scope, ("logits", "features"))
    ]
    return [Part([Contrast(q) for q in found], ANY)]


def c2(c: Column) -> list[Part]:
    kind, scope = ALONE
    found = [
        _loss(s, kind, a, scope) - _loss(s, kind, b, scope)
        for s in c.scenarios()
        for a in c.losses(s, kind, scope, ("logits",))
        for b in c.losses(s, kind, scope, ("features",))
    ]
    return [Part([Contrast(q) for q in found], ANY)]


def c3(c: Column) -> list[Part]:
    kind, scope = ALONE
    out = []
    for s in c.scenarios():
        out += [
            Contrast(_loss(s, kind, "logit-l2", scope) - _loss(s, kind, b, scope))
            for b in ("kl", "cross-entropy")
        ]
        weak = _loss(s, kind, "kl", scope) - _loss(s, kind, WEAK_CE, scope)
        out.append(Contrast(weak, extra="KL above cross-entropy at a quarter of its weight"))
    return [Part(out, ANY)]


def c4(c: Column) -> list[Part]:
    kind, scope = ALONE
    found = [
        _loss(s, kind, "feature-cosine", scope) - _loss(s, kind, "feature-l2", scope) for s in c.scenarios()
    ]
    return [Part([Contrast(q) for q in found], ANY)]


def c5(c: Column) -> list[Part]:
    more, biased = [], []
    for s in c.scenarios():
        known = [
            loss
            for loss in c.losses(s, *ALONE, ("logits", "features"))
            if c.roles.find(s, ("loss", loss, "all_seen"))
        ]
        for loss in known or ["kl"]:
            more.append(
                _gain(s, "loss", loss, "new_only", "new-only")
                - _gain(s, "loss", loss, "all_seen", "all-seen")
            )
        for loss in ["none", *(known or ["kl"])]:
            q = _loss(s, "loss", loss, "all_seen", "excess_of_new")
            biased.append(replace(q, text=f"{loss} [all-seen]"))
    return [Part([Contrast(q) for q in more], ANY), Part([Contrast(q) for q in biased], ANY)]


def d1(c: Column) -> list[Part]:
    def harm(s: Place, loss: str, metric: str = AVERAGE) -> Quantity:
        return _loss(s, "replay", "none", "global", metric) - _loss(s, "replay", loss, "global", metric)

    def logits(s: Place) -> list[str]:
        return c.losses(s, "replay", "global", ("logits",))

    more = [_at(harm(n, x, LAST), n) - _at(harm(b, x, LAST), b) for b, n in c.across() for x in logits(n)]
    return [
        Part([Contrast(harm(s, x)) for s in c.scenarios(True) for x in logits(s)], WITH_BASE),
        Part([Contrast(harm(s, x), CLEAR) for s in c.scenarios(False) for x in logits(s)], NO_BASE),
        Part([Contrast(q) for q in more], BOTH),
    ]


def d2(c: Column) -> list[Part]:
    more = []
    for b, n in c.across():
        losses = c.losses(b, "replay", "global", ("features",))

        def gain(s: Place, losses: Sequence[str] = losses) -> Quantity:
            terms = [_gain(s, "replay", x, "global", metric=LAST).terms for x in losses]
            flat = tuple((w / len(losses), *rest) for group in terms for w, *rest in group)
            return Quantity(flat, f"mean gain of feature-level losses [{s.scenario}]")  # type: ignore[arg-type]

        more.append(gain(b) - gain(n))
    best = [
        _loss(s, "replay", "feature-cosine", "global") - _loss(s, "replay", loss, "global")
        for s in c.scenarios(True)
        for loss in c.losses(s, "replay", "global", ("features",))
        if loss != "feature-cosine"
    ]
    return [Part([Contrast(q) for q in more], BOTH), Part([Contrast(q) for q in best], WITH_BASE)]


def d3(c: Column) -> list[Part]:
    found = [
        _loss(s, "replay", "feature-l2", "global") - _loss(s, "replay", "feature-cosine", "global")
        for s in c.scenarios(False)
    ]
    return [Part([Contrast(q) for q in found], NO_BASE)]


def d4(c: Column) -> list[Part]:
    found = [
        _gain(s, "replay", x, "separated", "separated") - _gain(s, "replay", x, "global", "global")
        for s in c.scenarios()
        for x in c.losses(s, "replay", "separated", ("logits", "features"))
    ]
    return [Part([Contrast(q) for q in found], ANY)]


def d5(c: Column) -> list[Part]:
    found = [
        replace(_loss(s, "replay", "none", "separated"), text="separated")
        - replace(_loss(s, "replay", "none", "global"), text="global")
        for s in c.scenarios()
    ]
    return [Part([Contrast(q) for q in found], ANY)]


def d6(c: Column) -> list[Part]:
    found = [_loss(s, "replay", "none", "global", "excess_of_new") for s in c.scenarios()]
    return [Part([Contrast(replace(q, text="replay")) for q in found], ANY)]


def d7(c: Column) -> list[Part]:
    found = [
        _loss(s, "replay", "none", "global", "forgetting") - _loss(s, "replay", loss, "global", "forgetting")
        for s in c.scenarios()
        for loss in c.losses(s, "replay", "global", ("logits", "features"))
    ]
    return [Part([Contrast(q) for q in found], ANY)]


def e1(c: Column) -> list[Part]:
    metric = "excess_of_new"
    found = [
        _group(s, DATA, "data replay", metric) - _group(s, FEATURE, "feature replay", metric)
        for s in c.scenarios()
    ]
    return [Part([Contrast(q) for q in found], ANY)]


def e2(c: Column) -> list[Part]:
    metric = "kept_bytes_a_class"
    found = [
        _method(s, a, metric) - _method(s, b, metric) for s in c.scenarios() for b in FEATURE for a in DATA
    ]
    return [Part([Contrast(q, ONE_BYTE, ONE_BYTE) for q in found], ANY)]


def e3(c: Column) -> list[Part]:
    def pair(s: Place, metric: str) -> tuple[Quantity, Quantity]:
        return _loss(s, "loss", "logit-l2", "new_only", metric), _loss(s, "loss", "kl", "new_only", metric)

    agree, plastic, forgot = [], [], []
    for s in c.scenarios():
        l2, kl = pair(s, "teacher_agreement")
        agree.append(Contrast(l2 - kl))
        l2, kl = pair(s, "plasticity")
        plastic.append(Contrast(kl - l2))
        l2, kl = pair(s, "forgetting")
        forgot.append(Contrast(l2 - kl, CLEAR, CLEAR))
    return [Part(agree, ANY), Part(plastic, ANY), Part(forgot, ANY, condition=True)]

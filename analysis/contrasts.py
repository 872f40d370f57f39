"""What each claim of the survey compares: sums of measurements, written so that the claim is "above zero".

A measurement is that of a role in a place, by class order, the mean over its seeds; a contrast is taken over
the orders that all of its measurements have. Within a scenario methods are compared by average incremental
accuracy; across scenarios by last accuracy, because averages run over other numbers of classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.roles import LEVELS, PARADIGMS, WEAK_CE, Key, Place, Roles
from analysis.stats import CLEAR, NOTHING, SMALLEST, Mean, Outcomes, mean, outcomes, reading

TEN = tuple(method for methods in PARADIGMS.values() for method in methods)
REGULARISATION, DATA, FEATURE = (
    PARADIGMS["regularisation"],
    PARADIGMS["data replay"],
    PARADIGMS["feature replay"],
)
NAMED_LOSSES = ("cross-entropy", "kl", "logit-l2", "feature-l2", "feature-cosine")
"""The losses that the claims name; others of `LEVELS` join them where a run has them."""

AVERAGE, LAST = "average_incremental_accuracy", "last_accuracy"
ONE_BYTE = 1.0
NOT_MEASURED = "not measured"
WITHIN = {AVERAGE: "", LAST: " (last)", "forgetting": " (forgetting)", "excess_of_new": " (excess of new)"}
WORDS = {
    **WITHIN,
    "kept_bytes_a_class": " (bytes a class)",
    "teacher_agreement": " (agreement with the teacher)",
    "plasticity": " (newest task)",
}
"""How a contrast names its metric."""


@dataclass(frozen=True)
class Quantity:
    """A sum of measurements: (weight, place, role, metric)."""

    terms: tuple[tuple[float, Place, Key, str], ...]
    text: str

    def __sub__(self, other: Quantity) -> Quantity:
        minus = tuple((-w, place, key, metric) for w, place, key, metric in other.terms)
        return Quantity(
            self.terms + minus,
            f"{_bracketed(self.text)} − {_bracketed(other.text)}",
        )

    def by(self, metric: str) -> Quantity:
        """The same in another metric."""
        return replace(self, terms=tuple((w, place, key, metric) for w, place, key, _ in self.terms))

    @property
    def metrics(self) -> set[str]:
        """Of its terms."""
        return {metric for *_, metric in self.terms}


@dataclass(frozen=True)
class Contrast:
    """Claimed: `quantity` is above `claimed`; below -`smallest` contradicts. `extra` ones decide nothing."""

    quantity: Quantity
    claimed: float = SMALLEST
    smallest: float = SMALLEST
    extra: str = ""  # why it is shown all the same

    @property
    def text(self) -> str:
        """As the report names it."""
        (metric,) = self.quantity.metrics if len(self.quantity.metrics) == 1 else ("",)
        scenarios = list(dict.fromkeys(place.scenario for _, place, *_ in self.quantity.terms))
        where = f", {scenarios[0]}" if len(scenarios) == 1 else ""
        return f"{self.quantity.text}{WORDS.get(metric, '')}{where}"


@dataclass(frozen=True)
class Part:
    """Contrasts of which all must hold, or `most`, that is more than half; `lack` says why there are none.

    A `condition` must be equivalent to zero, or the claim is not measured.
    """

    contrasts: Sequence[Contrast]
    lack: str
    most: bool = False
    condition: bool = False


@dataclass(frozen=True)
class Shown:
    """What a contrast has come to, in the claimed direction, without any correction."""

    contrast: Contrast
    values: dict[str, float]  # by class order
    missing: list[str]
    last: Mean | None  # the same in last accuracy, where that is another thing

    @property
    def difference(self) -> Mean:
        """Over the matched class orders."""
        return mean(self.values.values())

    @property
    def outcomes(self) -> Outcomes:
        """p-values."""
        contrast = self.contrast
        return (
            NOTHING if self.missing else outcomes(self.values.values(), contrast.claimed, contrast.smallest)
        )

    @property
    def said(self) -> str:
        """The difference with its sign and half width."""
        return signed(self.difference, 0 if self.contrast.smallest >= 1 else 3)

    @property
    def verdict(self) -> str:
        """Of the plain 95 % interval."""
        return NOT_MEASURED if self.missing else reading(self.outcomes)


def signed(value: Mean, digits: int = 3) -> str:
    """A difference as the report writes it."""
    if value.value is None:
        return "–"
    half = "" if value.half is None else f" ± {value.half:,.{digits}f}"
    return f"{value.value:+,.{digits}f}{half}".replace("-", "−")


class Column:
    """A data set under one recipe: its scenarios, and what was measured there."""

    def __init__(self, roles: Roles, data: str, recipe: str) -> None:
        self.roles, self.data, self.recipe = roles, data, recipe
        self._places = [p for p in roles.places if (p.data, p.recipe) == (data, recipe)]

    def scenarios(self, base: bool | None = None) -> list[Place]:
        """Those with a larger first task (True), without (False), or both (None)."""
        known = [p for p in self._places if p.base is not None]
        return [p for p in known if base is None or p.base == base]

    def across(self) -> list[tuple[Place, Place]]:
        """Every pair of a scenario with a base task and one without."""
        return [(a, b) for a in self.scenarios(True) for b in self.scenarios(False)]

    def losses(self, place: Place, kind: str, scope: str, levels: Iterable[str]) -> list[str]:
        """The losses that claims name, and those that are measured there."""
        return [
            loss
            for level in levels
            for loss in LEVELS[level]
            if loss in NAMED_LOSSES or self.roles.find(place, (kind, loss, scope))
        ]

    def forms(self, place: Place, method: str) -> list[str]:
        """The ways in which distillation was taken away, the first one even where there is none."""
        return [key[2] for key in self.roles.keys(place, "without") if key[1] == method] or ["0"]

    def show(self, contrast: Contrast) -> Shown:
        """Measure a contrast."""
        values, missing = self._values(contrast.quantity)
        last = None
        if not missing and contrast.quantity.metrics <= {AVERAGE, "forgetting"}:
            last = mean(self._values(contrast.quantity.by(LAST))[0].values())
        return Shown(contrast, values, missing, last)

    def _values(self, quantity: Quantity) -> tuple[dict[str, float], list[str]]:
        """The quantity by class order, over the orders that all terms have; and what there is not."""
        found, missing = [], []
        for weight, place, key, metric in quantity.terms:
            subject = self.roles.find(place, key)
            values = self.roles.values(subject, metric) if subject else {}
            if subject is None:
                missing.append(f"{_role(key)} in {place.scenario}")
            elif not values:
                missing.append(f"{metric.replace('_', ' ')} of {_role(key)}")
            found.append({order: weight * value for order, value in values.items()})
        if missing:
            return {}, list(dict.fromkeys(missing))
        orders = [order for order in found[0] if all(order in other for other in found)]
        if not orders:
            return {}, ["a class order that all of these have"]
        return {order: sum(values[order] for values in found) for order in orders}, []


def _role(key: Key) -> str:
    """A role as the report names it."""
    kind, name, *rest = key
    if kind == "without":
        return f"{name} without distillation"
    if kind == "with":
        return name
    if kind in ("loss", "replay"):
        return f"{'distill' if kind == 'loss' else 'replay'} with loss {name} ({rest[0]})"
    return name


def _bracketed(text: str) -> str:
    return f"({text})" if " − " in text else text


# What follows are the parts of each claim, by its id. `c` is the column, `s` a scenario.


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

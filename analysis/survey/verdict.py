"""The rule that judges the survey's claims on what was measured: a verdict a claim, data set and recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.statistics.intervals import (
    FEWEST,
    NOTHING,
    OUTCOMES,
    SMALLEST,
    UNDECIDED,
    Outcomes,
    Verdict,
    reading,
    together,
    too_few,
    verdicts,
)
from analysis.survey.claim import Claim
from analysis.survey.claims_on_losses import CLAIMS_ON_LOSSES
from analysis.survey.claims_on_methods import CLAIMS_ON_METHODS
from analysis.survey.contrasts import NOT_MEASURED, Column, Part, Shown
from analysis.survey.roles import Roles

CLAIMS = (*CLAIMS_ON_METHODS, *CLAIMS_ON_LOSSES)
"""In the order of the report's four tables."""


@dataclass(frozen=True)
class Judged:
    """A claim on one data set under one recipe."""

    claim: Claim
    data: str
    recipe: str
    verdict: Verdict
    shown: list[Shown]
    deciding: Shown | None
    missing: list[str]
    remark: str

    @property
    def n(self) -> list[int]:
        """Class orders behind the contrasts: the fewest and the most."""
        known = [s.difference.n for s in self.shown if not s.missing and not s.contrast.extra]
        return sorted({min(known), max(known)}) if known else [0]


def judge(roles: Roles) -> list[Judged]:
    """Every claim in every data set and recipe column where something of it is measured.

    A claim of which nothing is measured anywhere stands once, without a data set.
    """
    pairs = dict.fromkeys((place.data, place.recipe) for place in roles.places)
    columns = [Column(roles, data, recipe) for data, recipe in pairs]
    out: list[Judged] = []
    for column in columns:
        for table in dict.fromkeys(claim.table for claim in CLAIMS):
            out += _judge_table([claim for claim in CLAIMS if claim.table == table], column)
    measured = {j.claim.id for j in out}
    for claim in CLAIMS:
        if claim.id not in measured:
            lacks = [
                _lack(column.show(c) for p in claim.parts(column) for c in p.contrasts) for column in columns
            ]
            parts = [p.lack for column in columns[:1] for p in claim.parts(column) if not p.contrasts]
            missing = list(dict.fromkeys([*parts, *(min(lacks, key=len) if lacks else [])]))
            out.append(Judged(claim, "", "", Verdict(NOT_MEASURED, 1.0), [], None, missing, ""))
    place = {claim.id: index for index, claim in enumerate(CLAIMS)}
    return sorted(out, key=lambda j: place[j.claim.id])


def everywhere(judged: Sequence[Judged]) -> dict[tuple[str, str], str]:
    """(claim, recipe) -> the verdict over all data sets, where a claim speaks of them all and several exist.

    One data set against it contradicts; it holds where it holds in each.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for j in judged:
        if j.claim.everywhere and j.data:
            groups.setdefault((j.claim.id, j.recipe), []).append(j.verdict.name)
    few = [too_few(n) for n in range(1, FEWEST)]
    order = ("contradicted", "equivalent", NOT_MEASURED, *few, UNDECIDED, "holds")
    return {key: min(names, key=order.index) for key, names in groups.items() if len(names) > 1}


def _judge_table(claims: Sequence[Claim], column: Column) -> list[Judged]:
    """The claims of one table; Holm's correction runs over those that are measured."""
    found = []
    for claim in claims:
        parts = claim.parts(column)
        shown = [[column.show(contrast) for contrast in part.contrasts] for part in parts]
        if any(not s.missing and not s.contrast.extra for group in shown for s in group):
            found.append((claim, parts, shown))
    family = [
        _combined(
            [
                (part, [s for s in group if not s.contrast.extra])
                for part, group in zip(parts, shown, strict=True)
                if not part.condition
            ]
        )
        for _, parts, shown in found
    ]
    out = []
    for (claim, parts, shown), verdict in zip(found, verdicts(family), strict=True):
        flat = [s for group in shown for s in group]
        own = [s for s in flat if not s.contrast.extra]
        missing = list(
            dict.fromkeys([*(p.lack for p in parts if not p.contrasts), *(m for s in own for m in s.missing)])
        )
        conditions = [s for p, group in zip(parts, shown, strict=True) if p.condition for s in group]
        unmet = [s for s in conditions if s.verdict in OUTCOMES and s.verdict != "equivalent"]
        if unmet:
            missing += [f"{s.contrast.text} near zero: it is {s.said}" for s in unmet]
        if unmet or (missing and verdict.name == UNDECIDED):
            verdict = Verdict(NOT_MEASURED, verdict.p)
        elif verdict.name != UNDECIDED and any(not (s.missing or s.verdict in OUTCOMES) for s in conditions):
            verdict = Verdict(UNDECIDED, verdict.p)
        decided = [s for s in own if not s.missing and s not in conditions]
        if verdict.name == UNDECIDED and decided:
            fewest = min(len(s.sample) for s in decided)
            verdict = Verdict(too_few(fewest) or UNDECIDED, verdict.p)
        out.append(
            Judged(
                claim=claim,
                data=column.data,
                recipe=column.recipe,
                verdict=verdict,
                shown=flat,
                deciding=_deciding(decided, verdict.name),
                missing=missing,
                remark=_remark(verdict, decided, flat),
            )
        )
    return out


def _combined(parts: Sequence[tuple[Part, Sequence[Shown]]]) -> Outcomes:
    """The p-values of a claim: every part must hold. A part without contrasts shows nothing."""
    found = []
    for part, group in parts:
        known = [s.outcomes for s in group] or [NOTHING]
        found.append(together(known, len(known) // 2 + 1 if part.most else None))
    return together(found)


def _deciding(shown: Sequence[Shown], verdict: str) -> Shown | None:
    """The contrast that the verdict hangs on; else the one that is farthest from holding."""
    if not shown:
        return None
    if verdict in ("contradicted", "equivalent"):
        return min(shown, key=lambda s: (s.outcomes[verdict], _value(s)))
    return max(shown, key=lambda s: (s.outcomes["holds"], -_value(s)))


def _value(shown: Shown) -> float:
    return shown.difference.value or 0.0


def _remark(verdict: Verdict, own: Sequence[Shown], flat: Sequence[Shown]) -> str:
    """The remark beside a verdict."""
    said = []
    if len(own) > 1:
        counts = {name: sum(s.verdict == name for s in own) for name in dict.fromkeys(s.verdict for s in own)}
        said.append(
            f"{len(own)} contrasts, by plain intervals: " + ", ".join(f"{n} {k}" for k, n in counts.items())
        )
    elif own and own[0].verdict != verdict.name and verdict.name == UNDECIDED:
        said.append(f"by the plain interval: {own[0].verdict}")
    small = [s for s in own if s.contrast.claimed > s.contrast.smallest and s.verdict != "holds"]
    small = [s for s in small if reading(s.sample.outcomes(s.contrast.smallest)) == "holds"]
    if small:
        said.append(f"above {SMALLEST:g} but not clearly: " + ", ".join(s.contrast.text for s in small[:3]))
    other = [s for s in own if s.last and _against(s)]
    if other:
        said.append("last accuracy points the other way: " + ", ".join(s.contrast.text for s in other[:3]))
    extra: dict[str, list[str]] = {}
    for s in flat:
        if s.contrast.extra and not s.missing:
            extra.setdefault(s.contrast.extra, []).append(s.verdict)
    for why, names in extra.items():
        counts = {name: names.count(name) for name in dict.fromkeys(names)}
        said.append(f"apart, {why}: " + ", ".join(f"{n} {k}" for k, n in counts.items()))
    return "; ".join(said)


def _against(shown: Shown) -> bool:
    """Tell whether the plain intervals of the metric and of last accuracy lie on two sides of zero."""
    a, b = shown.difference, shown.last
    if b is None or None in (a.half, b.half, a.value, b.value):
        return False
    clear = [abs(m.value or 0) > (m.half or 0) for m in (a, b)]
    return all(clear) and (a.value or 0) * (b.value or 0) < 0


def _lack(shown: Iterable[Shown]) -> list[str]:
    return list(dict.fromkeys(m for s in shown if not s.contrast.extra for m in s.missing))

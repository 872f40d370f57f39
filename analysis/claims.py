"""The survey's findings as data: each sentence with its contrast; and the rule that judges them.

Source: "Continual Learning With Knowledge Distillation: A Survey" (TNNLS 2024), in the words of a Chinese
article on it. Its training recipe is not known, so a verdict is a conceptual replication, for the data set
that it was measured on.

A claim is a conjunction of parts, a part a list of contrasts of which all, or most, must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from analysis import contrasts
from analysis.contrasts import NOT_MEASURED, Column, Part, Shown
from analysis.roles import Roles
from analysis.stats import (
    NOTHING,
    SMALLEST,
    UNDECIDED,
    Outcomes,
    Verdict,
    outcomes,
    reading,
    together,
    verdicts,
)


@dataclass(frozen=True)
class Claim:
    """One sentence of the survey; `everywhere` where it speaks of all data sets, or says always."""

    id: str
    table: str  # methods | distillation | losses | replay: of whose claims Holm's family is made
    sentence: str
    english: str
    contrast: str
    parts: Callable[[Column], list[Part]]
    everywhere: bool = False


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
    order = ("contradicted", "equivalent", NOT_MEASURED, UNDECIDED, "holds")
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
        unmet = [s for s in conditions if not s.missing and s.verdict not in ("equivalent", UNDECIDED)]
        if unmet:
            missing += [f"{s.contrast.text} near zero: it is {s.said}" for s in unmet]
        if unmet or (missing and verdict.name == UNDECIDED):
            verdict = Verdict(NOT_MEASURED, verdict.p)
        elif verdict.name != UNDECIDED and any(s.verdict == UNDECIDED for s in conditions):
            verdict = Verdict(UNDECIDED, verdict.p)
        decided = [s for s in own if not s.missing and s not in conditions]
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
    """What a reader should know beside the verdict."""
    said = []
    if len(own) > 1:
        counts = {name: sum(s.verdict == name for s in own) for name in dict.fromkeys(s.verdict for s in own)}
        said.append(
            f"{len(own)} contrasts, by plain intervals: " + ", ".join(f"{n} {k}" for k, n in counts.items())
        )
    elif own and own[0].verdict != verdict.name and verdict.name == UNDECIDED:
        said.append(f"by the plain interval: {own[0].verdict}")
    small = [s for s in own if s.contrast.claimed > s.contrast.smallest and s.verdict != "holds"]
    small = [s for s in small if reading(outcomes(s.values.values(), s.contrast.smallest)) == "holds"]
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
    """Whether the plain intervals of the metric and of last accuracy lie on two sides of zero."""
    a, b = shown.difference, shown.last
    if b is None or None in (a.half, b.half, a.value, b.value):
        return False
    clear = [abs(m.value or 0) > (m.half or 0) for m in (a, b)]
    return all(clear) and (a.value or 0) * (b.value or 0) < 0


def _lack(shown: Iterable[Shown]) -> list[str]:
    return list(dict.fromkeys(m for s in shown if not s.contrast.extra for m in s.missing))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "A1",
        "methods",
        "在没有基础训练的10任务场景中,BiC方法在所有数据集上表现最佳",
        "Without a base task (10 tasks) BiC does best on all data sets.",
        "without a base: BiC − each of the other nine > 0, on every data set",
        contrasts.a1,
        everywhere=True,
    ),
    Claim(
        "A2",
        "methods",
        "在有基础训练的11任务场景中,PRAKA在所有数据集上表现突出 ... 在所有数据集上超过了数据回放范式的方法",
        "With a base task (11 tasks) PRAKA stands out on all data sets and surpasses the data-replay "
        "methods.",
        "with a base: PRAKA − each data-replay method > 0, on every data set; apart: PRAKA − each of the "
        "others",
        contrasts.a2,
        everywhere=True,
    ),
    Claim(
        "A3",
        "methods",
        "在有无基础训练的两种场景中,「知识蒸馏与数据回放结合」范式的方法普遍表现较好",
        "With and without a base task, distillation joined with data replay does well in general.",
        "both: mean of the data-replay methods − mean of the other two paradigms > 0",
        contrasts.a3,
    ),
    Claim(
        "A4",
        "methods",
        "在没有基础训练的场景中,「知识蒸馏与特征回放结合」范式的方法略逊于数据回放范式",
        "Without a base task, distillation with feature replay is slightly below data replay.",
        "without a base: mean of data replay − mean of feature replay > 0",
        contrasts.a4,
    ),
    Claim(
        "A5",
        "methods",
        "在有基础训练的场景中,特征回放方法的表现显著提升",
        "With a base task the feature-replay methods improve markedly.",
        "each feature-replay method: last accuracy with a base − without one, markedly > 0",
        contrasts.a5,
    ),
    Claim(
        "A6",
        "methods",
        "「正则化的知识蒸馏」范式方法表现较差,且LwF和LwM在有基础训练的场景中表现低于没有基础训练的情况,"
        "其他方法通常在有基础训练的场景中表现更好",
        "Regularised distillation does worse; LwF and LwM are lower with a base task than without one, the "
        "other methods usually higher.",
        "the others − regularisation > 0; LwF, LwM: last accuracy without a base − with one > 0; most "
        "others: with − without > 0",
        contrasts.a6,
    ),
    Claim(
        "E1",
        "methods",
        "特征回放有助于减少由于回放数据和新任务数据之间的不平衡所引起的分类偏差问题",
        "Feature replay helps against the classification bias that unbalanced replay causes.",
        "mean excess of answers for the newest task: data replay − feature replay > 0",
        contrasts.e1,
    ),
    Claim(
        "E2",
        "methods",
        "只需少量内存来存储每个类别的特征信息",
        "Little memory is enough for the features of each class.",
        "bytes kept a class: each data-replay method − each feature-replay method > 0",
        contrasts.e2,
    ),
    Claim(
        "B1",
        "distillation",
        "知识蒸馏在「正则化的知识蒸馏」以及「知识蒸馏与特征回放结合」范式的方法中起到了关键作用 ... "
        "去除知识蒸馏后,性能明显下降",
        "Distillation is the key in regularised distillation and in distillation with feature replay: "
        "without it performance drops clearly.",
        "LwF, LwM, IL2A, PASS, PRAKA, both: with − without, clearly > 0 (LwM: the attention term alone is "
        "removed)",
        contrasts.b1,
    ),
    Claim(
        "B2",
        "distillation",
        "在有基础训练的场景中 ... 一旦去除蒸馏,所有方法的性能均有所下降",
        "With a base task, every method loses once distillation is removed.",
        "with a base: iCaRL, EEIL, BiC, LUCIR, SS-IL: with − without > 0",
        contrasts.b2,
    ),
    Claim(
        "B3",
        "distillation",
        "在没有基础训练的场景中,EEIL、BiC和SS-IL在去除KD后表现下降。相反,iCaRL和LUCIR的性能有所提升,"
        "iCaRL的提升尤为明显,LUCIR的提升较小",
        "Without a base task EEIL, BiC and SS-IL lose without distillation, but iCaRL and LUCIR gain, iCaRL "
        "clearly, LUCIR slightly.",
        "without a base: EEIL, BiC, SS-IL: with − without > 0; iCaRL: without − with, clearly > 0; LUCIR: "
        "without − with > 0",
        contrasts.b3,
    ),
    Claim(
        "C1",
        "losses",
        "不同知识蒸馏损失均有减缓遗忘的能力",
        "Every distillation loss slows forgetting.",
        "each loss alone − fine-tuning with the same heads > 0",
        contrasts.c1,
    ),
    Claim(
        "C2",
        "losses",
        "logits级的知识蒸馏损失在减缓遗忘方面表现明显优于特征级的知识蒸馏损失",
        "Losses on logits slow forgetting clearly better than losses on features.",
        "each loss on logits − each loss on features > 0",
        contrasts.c2,
    ),
    Claim(
        "C3",
        "losses",
        "L2距离损失具有更强的约束能力,较KL散度表现更好,优于交叉熵蒸馏损失的抗遗忘效果",
        "The L2 distance constrains more: better than KL and than cross-entropy distillation.",
        "logit L2 − KL > 0; logit L2 − cross-entropy > 0; apart: KL − cross-entropy without T² (KL against "
        "cross-entropy at equal weight has equal gradients)",
        contrasts.c3,
    ),
    Claim(
        "C4",
        "losses",
        "包含更多语义信息的余弦相似度损失,在减缓遗忘方面优于L2距离损失",
        "The cosine loss, which holds more semantics, slows forgetting better than the L2 distance.",
        "feature cosine − feature L2 > 0",
        contrasts.c4,
    ),
    Claim(
        "C5",
        "losses",
        "如果没有来自旧任务的数据使用全局分类损失,会导致严重的分类偏差问题,并显著降低知识蒸馏的效果",
        "Without old data, a global classification loss brings severe bias and takes away much of what "
        "distillation gives.",
        "gain of distillation under new-only − its gain under all-seen cross-entropy > 0; under all-seen the "
        "newest task is answered too often",
        contrasts.c5,
    ),
    Claim(
        "E3",
        "losses",
        "logits匹配对蒸馏过程施加了比概率匹配更严格的约束",
        "Matching logits constrains distillation more strictly than matching probabilities.",
        "agreement with the teacher: logit L2 − KL > 0; accuracy on the newest task right after it: KL − "
        "logit L2 > 0; at equal final forgetting",
        contrasts.e3,
    ),
    Claim(
        "D1",
        "replay",
        "将知识蒸馏与数据回放结合时,logits级的知识蒸馏损失始终会导致性能下降,"
        "这一负面影响在没有基础训练的情况下尤为明显",
        "Joined with data replay, losses on logits always lower performance, above all without a base task.",
        "global softmax: none − each loss on logits > 0 always, markedly without a base, and more than with "
        "one (last accuracy)",
        contrasts.d1,
        everywhere=True,
    ),
    Claim(
        "D2",
        "replay",
        "在基础训练的情况下,特征级知识蒸馏的正面效果稍微更明显,而余弦相似度损失在保持已学习特征方面表现优越",
        "With a base task the good effect of losses on features is slightly larger, and the cosine loss is "
        "best.",
        "mean gain of the losses on features: with a base − without one > 0 (last accuracy); with a base: "
        "cosine − each other > 0",
        contrasts.d2,
    ),
    Claim(
        "D3",
        "replay",
        "在没有基础训练的情况下,余弦相似度损失在保持记忆方面的效果不如L2损失",
        "Without a base task the cosine loss keeps memory less well than the L2 loss.",
        "without a base: feature L2 − feature cosine > 0",
        contrasts.d3,
    ),
    Claim(
        "D4",
        "replay",
        "分类偏差确实会影响KD的效果 ... 采用separated softmax损失函数结合数据回放时,"
        "能够显著增强知识蒸馏在减缓遗忘方面的效果",
        "Classification bias does affect distillation; separated softmax with data replay strengthens it "
        "much.",
        "(loss − none under separated softmax) − (loss − none under global softmax) > 0",
        contrasts.d4,
    ),
    Claim(
        "D5",
        "replay",
        "即使没有使用KD,使用Separated softmax的数据回放也比全局分类的回放表现更好",
        "Even without distillation, replay with separated softmax is better than with the global one.",
        "replay without distillation: separated − global > 0",
        contrasts.d5,
    ),
    Claim(
        "D6",
        "replay",
        "由于回放数据与新任务数据之间存在严重的数据不平衡,这容易导致分类偏差",
        "The imbalance of replayed and new data leads to classification bias.",
        "replay, global softmax: the newest task is answered too often (its share of answers − its share of "
        "rows > 0, the same as a recency ratio above 1)",
        contrasts.d6,
    ),
    Claim(
        "D7",
        "replay",
        "将知识蒸馏与数据回放结合,进一步增强了模型的记忆保持能力",
        "Joining distillation with data replay keeps memory even better.",
        "forgetting under global softmax: none − each loss > 0; stands in tension with B3 and D1, so last "
        "accuracy stands beside it",
        contrasts.d7,
    ),
)
"""In the order of the report's four tables."""

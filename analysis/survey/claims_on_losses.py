"""The survey's claims on single distillation losses, alone and with replay.

In each function `c` is the column of the tables, `s` a scenario.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.statistics.intervals import CLEAR
from analysis.survey.claim import (
    ANY,
    BOTH,
    NO_BASE,
    WITH_BASE,
    Claim,
    claim,
    named_at,
    of_gain,
    of_loss,
    part,
)
from analysis.survey.contrasts import AVERAGE, LAST, Column, Contrast, Part, Quantity
from analysis.survey.roles import WEAK_CE, Place

ALONE = ("loss", "new_only")


@claim(
    "C1",
    "losses",
    "不同知识蒸馏损失均有减缓遗忘的能力",
    "Every distillation loss slows forgetting.",
    "each loss alone − fine-tuning with the same heads > 0",
)
def c1(c: Column) -> list[Part]:
    kind, scope = ALONE
    found = [
        of_gain(s, kind, loss, scope)
        for s in c.scenarios()
        for loss in c.losses(s, kind, scope, ("logits", "features"))
    ]
    return [part(found, ANY)]


@claim(
    "C2",
    "losses",
    "logits级的知识蒸馏损失在减缓遗忘方面表现明显优于特征级的知识蒸馏损失",
    "Losses on logits slow forgetting clearly better than losses on features.",
    "each loss on logits − each loss on features > 0",
)
def c2(c: Column) -> list[Part]:
    kind, scope = ALONE
    found = [
        of_loss(s, kind, a, scope) - of_loss(s, kind, b, scope)
        for s in c.scenarios()
        for a in c.losses(s, kind, scope, ("logits",))
        for b in c.losses(s, kind, scope, ("features",))
    ]
    return [part(found, ANY)]


@claim(
    "C3",
    "losses",
    "L2距离损失具有更强的约束能力,较KL散度表现更好,优于交叉熵蒸馏损失的抗遗忘效果",
    "The L2 distance constrains more: better than KL and than cross-entropy distillation.",
    "logit L2 − KL > 0; logit L2 − cross-entropy > 0; apart: KL − cross-entropy without T² (KL against "
    "cross-entropy at equal weight has equal gradients)",
)
def c3(c: Column) -> list[Part]:
    kind, scope = ALONE
    out = []
    for s in c.scenarios():
        out += [
            Contrast(of_loss(s, kind, "logit-l2", scope) - of_loss(s, kind, b, scope))
            for b in ("kl", "cross-entropy")
        ]
        weak = of_loss(s, kind, "kl", scope) - of_loss(s, kind, WEAK_CE, scope)
        out.append(Contrast(weak, extra="KL above cross-entropy at a quarter of its weight"))
    return [Part(out, ANY)]


@claim(
    "C4",
    "losses",
    "包含更多语义信息的余弦相似度损失,在减缓遗忘方面优于L2距离损失",
    "The cosine loss, which holds more semantics, slows forgetting better than the L2 distance.",
    "feature cosine − feature L2 > 0",
)
def c4(c: Column) -> list[Part]:
    kind, scope = ALONE
    found = [
        of_loss(s, kind, "feature-cosine", scope) - of_loss(s, kind, "feature-l2", scope)
        for s in c.scenarios()
    ]
    return [part(found, ANY)]


@claim(
    "C5",
    "losses",
    "如果没有来自旧任务的数据使用全局分类损失,会导致严重的分类偏差问题,并显著降低知识蒸馏的效果",
    "Without old data, a global classification loss brings severe bias and takes away much of what "
    "distillation gives.",
    "gain of distillation under new-only − its gain under all-seen cross-entropy > 0; under all-seen the "
    "newest task is answered too often",
)
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
                of_gain(s, "loss", loss, "new_only", "new-only")
                - of_gain(s, "loss", loss, "all_seen", "all-seen")
            )
        for loss in ["none", *(known or ["kl"])]:
            q = of_loss(s, "loss", loss, "all_seen", "excess_of_new")
            biased.append(replace(q, text=f"{loss} [all-seen]"))
    return [part(more, ANY), part(biased, ANY)]


@claim(
    "E3",
    "losses",
    "logits匹配对蒸馏过程施加了比概率匹配更严格的约束",
    "Matching logits constrains distillation more strictly than matching probabilities.",
    "agreement with the teacher: logit L2 − KL > 0; accuracy on the newest task right after it: KL − "
    "logit L2 > 0; at equal final forgetting",
)
def e3(c: Column) -> list[Part]:
    def pair(s: Place, metric: str) -> tuple[Quantity, Quantity]:
        return of_loss(s, "loss", "logit-l2", "new_only", metric), of_loss(
            s, "loss", "kl", "new_only", metric
        )

    agree, plastic, forgot = [], [], []
    for s in c.scenarios():
        l2, kl = pair(s, "teacher_agreement")
        agree.append(l2 - kl)
        l2, kl = pair(s, "plasticity")
        plastic.append(kl - l2)
        l2, kl = pair(s, "forgetting")
        forgot.append(l2 - kl)
    return [part(agree, ANY), part(plastic, ANY), part(forgot, ANY, CLEAR, CLEAR, condition=True)]


@claim(
    "D1",
    "replay",
    "将知识蒸馏与数据回放结合时,logits级的知识蒸馏损失始终会导致性能下降,"
    "这一负面影响在没有基础训练的情况下尤为明显",
    "Joined with data replay, losses on logits always lower performance, above all without a base task.",
    "global softmax: none − each loss on logits > 0 always, markedly without a base, and more than with "
    "one (last accuracy)",
    everywhere=True,
)
def d1(c: Column) -> list[Part]:
    def harm(s: Place, loss: str, metric: str = AVERAGE) -> Quantity:
        return of_loss(s, "replay", "none", "global", metric) - of_loss(s, "replay", loss, "global", metric)

    def logits(s: Place) -> list[str]:
        return c.losses(s, "replay", "global", ("logits",))

    more = [
        named_at(harm(n, x, LAST), n) - named_at(harm(b, x, LAST), b)
        for b, n in c.across()
        for x in logits(n)
    ]
    return [
        part([harm(s, x) for s in c.scenarios(True) for x in logits(s)], WITH_BASE),
        part([harm(s, x) for s in c.scenarios(False) for x in logits(s)], NO_BASE, CLEAR),
        part(more, BOTH),
    ]


@claim(
    "D2",
    "replay",
    "在基础训练的情况下,特征级知识蒸馏的正面效果稍微更明显,而余弦相似度损失在保持已学习特征方面表现优越",
    "With a base task the good effect of losses on features is slightly larger, and the cosine loss is best.",
    "mean gain of the losses on features: with a base − without one > 0 (last accuracy); with a base: "
    "cosine − each other > 0",
)
def d2(c: Column) -> list[Part]:
    more = []
    for b, n in c.across():
        losses = c.losses(b, "replay", "global", ("features",))

        def gain(s: Place, losses: Sequence[str] = losses) -> Quantity:
            terms = [of_gain(s, "replay", x, "global", metric=LAST).terms for x in losses]
            flat = tuple((w / len(losses), *rest) for group in terms for w, *rest in group)
            return Quantity(flat, f"mean gain of feature-level losses [{s.scenario}]")  # type: ignore[arg-type]

        more.append(gain(b) - gain(n))
    best = [
        of_loss(s, "replay", "feature-cosine", "global") - of_loss(s, "replay", loss, "global")
        for s in c.scenarios(True)
        for loss in c.losses(s, "replay", "global", ("features",))
        if loss != "feature-cosine"
    ]
    return [part(more, BOTH), part(best, WITH_BASE)]


@claim(
    "D3",
    "replay",
    "在没有基础训练的情况下,余弦相似度损失在保持记忆方面的效果不如L2损失",
    "Without a base task the cosine loss keeps memory less well than the L2 loss.",
    "without a base: feature L2 − feature cosine > 0",
)
def d3(c: Column) -> list[Part]:
    found = [
        of_loss(s, "replay", "feature-l2", "global") - of_loss(s, "replay", "feature-cosine", "global")
        for s in c.scenarios(False)
    ]
    return [part(found, NO_BASE)]


@claim(
    "D4",
    "replay",
    "分类偏差确实会影响KD的效果 ... 采用separated softmax损失函数结合数据回放时,"
    "能够显著增强知识蒸馏在减缓遗忘方面的效果",
    "Classification bias does affect distillation; separated softmax with data replay strengthens it much.",
    "(loss − none under separated softmax) − (loss − none under global softmax) > 0",
)
def d4(c: Column) -> list[Part]:
    found = [
        of_gain(s, "replay", x, "separated", "separated") - of_gain(s, "replay", x, "global", "global")
        for s in c.scenarios()
        for x in c.losses(s, "replay", "separated", ("logits", "features"))
    ]
    return [part(found, ANY)]


@claim(
    "D5",
    "replay",
    "即使没有使用KD,使用Separated softmax的数据回放也比全局分类的回放表现更好",
    "Even without distillation, replay with separated softmax is better than with the global one.",
    "replay without distillation: separated − global > 0",
)
def d5(c: Column) -> list[Part]:
    found = [
        replace(of_loss(s, "replay", "none", "separated"), text="separated")
        - replace(of_loss(s, "replay", "none", "global"), text="global")
        for s in c.scenarios()
    ]
    return [part(found, ANY)]


@claim(
    "D6",
    "replay",
    "由于回放数据与新任务数据之间存在严重的数据不平衡,这容易导致分类偏差",
    "The imbalance of replayed and new data leads to classification bias.",
    "replay, global softmax: the newest task is answered too often (its share of answers − its share of "
    "rows > 0, the same as a recency ratio above 1)",
)
def d6(c: Column) -> list[Part]:
    found = [of_loss(s, "replay", "none", "global", "excess_of_new") for s in c.scenarios()]
    return [part([replace(q, text="replay") for q in found], ANY)]


@claim(
    "D7",
    "replay",
    "将知识蒸馏与数据回放结合,进一步增强了模型的记忆保持能力",
    "Joining distillation with data replay keeps memory even better.",
    "forgetting under global softmax: none − each loss > 0; stands in tension with B3 and D1, so last "
    "accuracy stands beside it",
)
def d7(c: Column) -> list[Part]:
    found = [
        of_loss(s, "replay", "none", "global", "forgetting")
        - of_loss(s, "replay", loss, "global", "forgetting")
        for s in c.scenarios()
        for loss in c.losses(s, "replay", "global", ("logits", "features"))
    ]
    return [part(found, ANY)]


CLAIMS_ON_LOSSES: tuple[Claim, ...] = (c1, c2, c3, c4, c5, e3, d1, d2, d3, d4, d5, d6, d7)
"""In the order of the report."""

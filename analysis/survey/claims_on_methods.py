"""The survey's claims on its methods, and on methods without their distillation.

In each function `c` is the column of the tables, `s` a scenario.
"""

from __future__ import annotations

from dataclasses import replace

from analysis.statistics.intervals import CLEAR, SMALLEST
from analysis.survey.claim import (
    ANY,
    BOTH,
    NO_BASE,
    WITH_BASE,
    Claim,
    claim,
    named_at,
    of_group,
    of_method,
    part,
)
from analysis.survey.contrasts import AVERAGE, LAST, ONE_BYTE, Column, Contrast, Part, Quantity
from analysis.survey.roles import DATA, FEATURE, REGULARISATION, TEN, Place


def _rise(base: Place, none: Place, name: str) -> Quantity:
    """Last accuracy with a base task minus without one: the same classes are seen at the end."""
    return named_at(of_method(base, name, LAST), base) - named_at(of_method(none, name, LAST), none)


def _fall(base: Place, none: Place, name: str) -> Quantity:
    return named_at(of_method(none, name, LAST), none) - named_at(of_method(base, name, LAST), base)


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


@claim(
    "A1",
    "methods",
    "在没有基础训练的10任务场景中,BiC方法在所有数据集上表现最佳",
    "Without a base task (10 tasks) BiC does best on all data sets.",
    "without a base: BiC − each of the other nine > 0, on every data set",
    everywhere=True,
)
def a1(c: Column) -> list[Part]:
    scenarios = c.scenarios(False)
    others = [name for name in TEN if name != "bic"]
    return [part([of_method(s, "bic") - of_method(s, m) for s in scenarios for m in others], NO_BASE)]


@claim(
    "A2",
    "methods",
    "在有基础训练的11任务场景中,PRAKA在所有数据集上表现突出 ... 在所有数据集上超过了数据回放范式的方法",
    "With a base task (11 tasks) PRAKA stands out on all data sets and surpasses the data-replay methods.",
    "with a base: PRAKA − each data-replay method > 0, on every data set; apart: PRAKA − each of the others",
    everywhere=True,
)
def a2(c: Column) -> list[Part]:
    scenarios = c.scenarios(True)
    own = [Contrast(of_method(s, "praka") - of_method(s, m)) for s in scenarios for m in DATA]
    apart = [
        Contrast(of_method(s, "praka") - of_method(s, m), extra="the other paradigms")
        for s in scenarios
        for m in (*REGULARISATION, "il2a", "pass")
    ]
    return [Part([*own, *apart], WITH_BASE)]


@claim(
    "A3",
    "methods",
    "在有无基础训练的两种场景中,「知识蒸馏与数据回放结合」范式的方法普遍表现较好",
    "With and without a base task, distillation joined with data replay does well in general.",
    "both: mean of the data-replay methods − mean of the other two paradigms > 0",
)
def a3(c: Column) -> list[Part]:
    return [
        part(
            [
                of_group(s, DATA, "data replay")
                - of_group(s, (*REGULARISATION, *FEATURE), "the other two paradigms")
                for s in c.scenarios(base)
            ],
            lack,
        )
        for base, lack in ((False, NO_BASE), (True, WITH_BASE))
    ]


@claim(
    "A4",
    "methods",
    "在没有基础训练的场景中,「知识蒸馏与特征回放结合」范式的方法略逊于数据回放范式",
    "Without a base task, distillation with feature replay is slightly below data replay.",
    "without a base: mean of data replay − mean of feature replay > 0",
)
def a4(c: Column) -> list[Part]:
    found = [
        of_group(s, DATA, "data replay") - of_group(s, FEATURE, "feature replay") for s in c.scenarios(False)
    ]
    return [part(found, NO_BASE)]


@claim(
    "A5",
    "methods",
    "在有基础训练的场景中,特征回放方法的表现显著提升",
    "With a base task the feature-replay methods improve markedly.",
    "each feature-replay method: last accuracy with a base − without one, markedly > 0",
)
def a5(c: Column) -> list[Part]:
    found = [_rise(b, n, m) for b, n in c.across() for m in FEATURE]
    return [part(found, BOTH, CLEAR)]


@claim(
    "A6",
    "methods",
    "「正则化的知识蒸馏」范式方法表现较差,且LwF和LwM在有基础训练的场景中表现低于没有基础训练的情况,"
    "其他方法通常在有基础训练的场景中表现更好",
    "Regularised distillation does worse; LwF and LwM are lower with a base task than without one, the "
    "other methods usually higher.",
    "the others − regularisation > 0; LwF, LwM: last accuracy without a base − with one > 0; most "
    "others: with − without > 0",
)
def a6(c: Column) -> list[Part]:
    others = [name for name in TEN if name not in REGULARISATION]
    trailing = [
        of_group(s, others, "the other two paradigms") - of_group(s, REGULARISATION, "regularisation")
        for s in c.scenarios()
    ]
    falls = [_fall(b, n, m) for b, n in c.across() for m in REGULARISATION]
    rises = [_rise(b, n, m) for b, n in c.across() for m in others]
    return [
        part(trailing, ANY),
        part(falls, BOTH),
        part(rises, BOTH, most=True),
    ]


@claim(
    "E1",
    "methods",
    "特征回放有助于减少由于回放数据和新任务数据之间的不平衡所引起的分类偏差问题",
    "Feature replay helps against the classification bias that unbalanced replay causes.",
    "mean excess of answers for the newest task: data replay − feature replay > 0",
)
def e1(c: Column) -> list[Part]:
    metric = "excess_of_new"
    found = [
        of_group(s, DATA, "data replay", metric) - of_group(s, FEATURE, "feature replay", metric)
        for s in c.scenarios()
    ]
    return [part(found, ANY)]


@claim(
    "E2",
    "methods",
    "只需少量内存来存储每个类别的特征信息",
    "Little memory is enough for the features of each class.",
    "bytes kept a class: each data-replay method − each feature-replay method > 0",
)
def e2(c: Column) -> list[Part]:
    metric = "kept_bytes_a_class"
    found = [
        of_method(s, a, metric) - of_method(s, b, metric)
        for s in c.scenarios()
        for b in FEATURE
        for a in DATA
    ]
    return [part(found, ANY, ONE_BYTE, ONE_BYTE)]


@claim(
    "B1",
    "distillation",
    "知识蒸馏在「正则化的知识蒸馏」以及「知识蒸馏与特征回放结合」范式的方法中起到了关键作用 ... "
    "去除知识蒸馏后,性能明显下降",
    "Distillation is the key in regularised distillation and in distillation with feature replay: "
    "without it performance drops clearly.",
    "LwF, LwM, IL2A, PASS, PRAKA, both: with − without, clearly > 0 (LwM: the attention term alone is "
    "removed)",
)
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


@claim(
    "B2",
    "distillation",
    "在有基础训练的场景中 ... 一旦去除蒸馏,所有方法的性能均有所下降",
    "With a base task, every method loses once distillation is removed.",
    "with a base: iCaRL, EEIL, BiC, LUCIR, SS-IL: with − without > 0",
)
def b2(c: Column) -> list[Part]:
    return [Part([k for s in c.scenarios(True) for m in DATA for k in _removal(c, s, m)], WITH_BASE)]


@claim(
    "B3",
    "distillation",
    "在没有基础训练的场景中,EEIL、BiC和SS-IL在去除KD后表现下降。相反,iCaRL和LUCIR的性能有所提升,"
    "iCaRL的提升尤为明显,LUCIR的提升较小",
    "Without a base task EEIL, BiC and SS-IL lose without distillation, but iCaRL and LUCIR gain, iCaRL "
    "clearly, LUCIR slightly.",
    "without a base: EEIL, BiC, SS-IL: with − without > 0; iCaRL: without − with, clearly > 0; LUCIR: "
    "without − with > 0",
)
def b3(c: Column) -> list[Part]:
    found = [k for s in c.scenarios(False) for m in ("eeil", "bic", "ss_il") for k in _removal(c, s, m)]
    found += [k for s in c.scenarios(False) for k in _removal(c, s, "icarl", CLEAR, raises=True)]
    found += [k for s in c.scenarios(False) for k in _removal(c, s, "lucir", raises=True)]
    return [Part(found, NO_BASE)]


CLAIMS_ON_METHODS: tuple[Claim, ...] = (a1, a2, a3, a4, a5, a6, e1, e2, b1, b2, b3)
"""In the order of the report."""

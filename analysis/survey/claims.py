"""The survey's findings as data: each sentence with its contrast. `analysis.survey.verdict` decides.

Source: "Continual Learning With Knowledge Distillation: A Survey" (TNNLS 2024), in the words of a Chinese
article on it. Its training recipe is not known, so a verdict is a conceptual replication, for the data set
that it was measured on.

A claim is a conjunction of parts, a part a list of contrasts of which all, or most, must hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.survey import parts
from analysis.survey.contrasts import Column, Part


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


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "A1",
        "methods",
        "在没有基础训练的10任务场景中,BiC方法在所有数据集上表现最佳",
        "Without a base task (10 tasks) BiC does best on all data sets.",
        "without a base: BiC − each of the other nine > 0, on every data set",
        parts.a1,
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
        parts.a2,
        everywhere=True,
    ),
    Claim(
        "A3",
        "methods",
        "在有无基础训练的两种场景中,「知识蒸馏与数据回放结合」范式的方法普遍表现较好",
        "With and without a base task, distillation joined with data replay does well in general.",
        "both: mean of the data-replay methods − mean of the other two paradigms > 0",
        parts.a3,
    ),
    Claim(
        "A4",
        "methods",
        "在没有基础训练的场景中,「知识蒸馏与特征回放结合」范式的方法略逊于数据回放范式",
        "Without a base task, distillation with feature replay is slightly below data replay.",
        "without a base: mean of data replay − mean of feature replay > 0",
        parts.a4,
    ),
    Claim(
        "A5",
        "methods",
        "在有基础训练的场景中,特征回放方法的表现显著提升",
        "With a base task the feature-replay methods improve markedly.",
        "each feature-replay method: last accuracy with a base − without one, markedly > 0",
        parts.a5,
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
        parts.a6,
    ),
    Claim(
        "E1",
        "methods",
        "特征回放有助于减少由于回放数据和新任务数据之间的不平衡所引起的分类偏差问题",
        "Feature replay helps against the classification bias that unbalanced replay causes.",
        "mean excess of answers for the newest task: data replay − feature replay > 0",
        parts.e1,
    ),
    Claim(
        "E2",
        "methods",
        "只需少量内存来存储每个类别的特征信息",
        "Little memory is enough for the features of each class.",
        "bytes kept a class: each data-replay method − each feature-replay method > 0",
        parts.e2,
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
        parts.b1,
    ),
    Claim(
        "B2",
        "distillation",
        "在有基础训练的场景中 ... 一旦去除蒸馏,所有方法的性能均有所下降",
        "With a base task, every method loses once distillation is removed.",
        "with a base: iCaRL, EEIL, BiC, LUCIR, SS-IL: with − without > 0",
        parts.b2,
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
        parts.b3,
    ),
    Claim(
        "C1",
        "losses",
        "不同知识蒸馏损失均有减缓遗忘的能力",
        "Every distillation loss slows forgetting.",
        "each loss alone − fine-tuning with the same heads > 0",
        parts.c1,
    ),
    Claim(
        "C2",
        "losses",
        "logits级的知识蒸馏损失在减缓遗忘方面表现明显优于特征级的知识蒸馏损失",
        "Losses on logits slow forgetting clearly better than losses on features.",
        "each loss on logits − each loss on features > 0",
        parts.c2,
    ),
    Claim(
        "C3",
        "losses",
        "L2距离损失具有更强的约束能力,较KL散度表现更好,优于交叉熵蒸馏损失的抗遗忘效果",
        "The L2 distance constrains more: better than KL and than cross-entropy distillation.",
        "logit L2 − KL > 0; logit L2 − cross-entropy > 0; apart: KL − cross-entropy without T² (KL against "
        "cross-entropy at equal weight has equal gradients)",
        parts.c3,
    ),
    Claim(
        "C4",
        "losses",
        "包含更多语义信息的余弦相似度损失,在减缓遗忘方面优于L2距离损失",
        "The cosine loss, which holds more semantics, slows forgetting better than the L2 distance.",
        "feature cosine − feature L2 > 0",
        parts.c4,
    ),
    Claim(
        "C5",
        "losses",
        "如果没有来自旧任务的数据使用全局分类损失,会导致严重的分类偏差问题,并显著降低知识蒸馏的效果",
        "Without old data, a global classification loss brings severe bias and takes away much of what "
        "distillation gives.",
        "gain of distillation under new-only − its gain under all-seen cross-entropy > 0; under all-seen the "
        "newest task is answered too often",
        parts.c5,
    ),
    Claim(
        "E3",
        "losses",
        "logits匹配对蒸馏过程施加了比概率匹配更严格的约束",
        "Matching logits constrains distillation more strictly than matching probabilities.",
        "agreement with the teacher: logit L2 − KL > 0; accuracy on the newest task right after it: KL − "
        "logit L2 > 0; at equal final forgetting",
        parts.e3,
    ),
    Claim(
        "D1",
        "replay",
        "将知识蒸馏与数据回放结合时,logits级的知识蒸馏损失始终会导致性能下降,"
        "这一负面影响在没有基础训练的情况下尤为明显",
        "Joined with data replay, losses on logits always lower performance, above all without a base task.",
        "global softmax: none − each loss on logits > 0 always, markedly without a base, and more than with "
        "one (last accuracy)",
        parts.d1,
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
        parts.d2,
    ),
    Claim(
        "D3",
        "replay",
        "在没有基础训练的情况下,余弦相似度损失在保持记忆方面的效果不如L2损失",
        "Without a base task the cosine loss keeps memory less well than the L2 loss.",
        "without a base: feature L2 − feature cosine > 0",
        parts.d3,
    ),
    Claim(
        "D4",
        "replay",
        "分类偏差确实会影响KD的效果 ... 采用separated softmax损失函数结合数据回放时,"
        "能够显著增强知识蒸馏在减缓遗忘方面的效果",
        "Classification bias does affect distillation; separated softmax with data replay strengthens it "
        "much.",
        "(loss − none under separated softmax) − (loss − none under global softmax) > 0",
        parts.d4,
    ),
    Claim(
        "D5",
        "replay",
        "即使没有使用KD,使用Separated softmax的数据回放也比全局分类的回放表现更好",
        "Even without distillation, replay with separated softmax is better than with the global one.",
        "replay without distillation: separated − global > 0",
        parts.d5,
    ),
    Claim(
        "D6",
        "replay",
        "由于回放数据与新任务数据之间存在严重的数据不平衡,这容易导致分类偏差",
        "The imbalance of replayed and new data leads to classification bias.",
        "replay, global softmax: the newest task is answered too often (its share of answers − its share of "
        "rows > 0, the same as a recency ratio above 1)",
        parts.d6,
    ),
    Claim(
        "D7",
        "replay",
        "将知识蒸馏与数据回放结合,进一步增强了模型的记忆保持能力",
        "Joining distillation with data replay keeps memory even better.",
        "forgetting under global softmax: none − each loss > 0; stands in tension with B3 and D1, so last "
        "accuracy stands beside it",
        parts.d7,
    ),
)
"""In the order of the report's four tables."""

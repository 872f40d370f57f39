"""Single distillation losses: the quantity that each compares, its source and its usual weight.

The usual weights are constants. The schedules of LUCIR and PODNet by class counts are left out, so a study of
losses changes the loss alone. Each loss has a fifth to three quarters of the gradient norms beside the
cross-entropy on new classes (mean over the second task of digits and of CIFAR-10, B0-5tasks).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from cl_core.blocks import losses
from cl_core.errors import BadRequest
from cl_core.hparams import Choice, Float, hp, option
from cl_core.state import State
from cl_core.task import Batch, Out, Task, Term


class Pair(NamedTuple):
    """The outputs of student and teacher on one batch, with the settings of the comparison."""

    student: Out  # logits [B, seen]
    teacher: Out  # logits [B, old]
    rows: Tensor  # [old, D] of the student's head
    rows_old: Tensor  # [old, D] of the teacher's
    temperature: float = 2.0
    t_squared: bool = True

    @property
    def logits(self) -> tuple[Tensor, Tensor]:
        """The logits of the old classes, [B, old] both."""
        return self.student.logits[:, : self.teacher.logits.shape[1]], self.teacher.logits

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """The features, [B, D] both."""
        return self.student.features, self.teacher.features

    @property
    def maps(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The maps of each stage, [B, C, H, W]."""
        return self.student.maps, self.teacher.maps


@dataclass(frozen=True)
class Distillation:
    """One loss with its usual weight and the source of that weight."""

    kind: str  # probability matching | logit matching | instance feature | hidden layer | relation
    source: str
    weight: float
    weight_source: str
    loss: Callable[[Pair], Tensor]

    @property
    def level(self) -> str:
        """The level at which the loss compares: logits or features."""
        return "logits" if self.kind in ("probability matching", "logit matching") else "features"


def _cross_entropy(p: Pair) -> Tensor:
    factor = p.temperature**2 if p.t_squared else 1.0
    return factor * losses.cross_entropy_kd(*p.logits, p.temperature)


PROTOTYPE_TEMPERATURE = 0.2
"""Decided here. The cosines of a prototype to a batch differ by tenths, so at T = 1 their softmax would be
nearly uniform. (The official code's 2 is for products with features of any length.)
"""

DISTILLATIONS: dict[str, Distillation] = {
    "cross-entropy": Distillation(
        "probability matching",
        "Li & Hoiem, LwF, TPAMI 2017, eq. 2-4",
        0.25,
        "LwF's 1 without T^2, at T = 2",
        _cross_entropy,
    ),
    "kl": Distillation(
        "probability matching",
        "Hinton et al., 2015; as in SS-IL, ICCV 2021",
        0.25,
        "as cross-entropy, whose gradient it has",
        lambda p: losses.kd(*p.logits, p.temperature),
    ),
    "logit-l2": Distillation(
        "logit matching",
        "Buzzega et al., DER, NeurIPS 2020",
        0.5,
        "within DER's alpha, 0.1 to 1",
        lambda p: losses.logit_l2(*p.logits),
    ),
    "logit-l1": Distillation(
        "logit matching",
        "Gao et al., R-DFCIL, ECCV 2022",
        0.5,
        "lambda_hkd 0.15 of R-DFCIL times its alpha, 2.6 for ten new classes",
        lambda p: losses.logit_l1(*p.logits),
    ),
    "feature-l2": Distillation(
        "instance feature",
        "the mean square; PASS, CVPR 2021, has the norm of the batch",
        10.0,
        "decided: half of the gradient beside cross-entropy",
        lambda p: losses.feature_l2(*p.features),
    ),
    "feature-cosine": Distillation(
        "instance feature",
        "Hou et al., LUCIR, CVPR 2019, less-forget",
        5.0,
        "lambda_base of LUCIR on CIFAR",
        lambda p: losses.feature_cosine(*p.features),
    ),
    "pod": Distillation(
        "hidden layer",
        "Douillard et al., PODNet, ECCV 2020, POD-spatial",
        3.0,
        "lambda_c of PODNet on CIFAR",
        lambda p: losses.pod(*p.maps),
    ),
    "attention": Distillation(
        "hidden layer",
        "Zagoruyko & Komodakis, AT, ICLR 2017, activation-based",
        10.0,
        "official code: 1000 of a mean over positions, 1 to 16 for maps of 32 to 8 pixels",
        lambda p: losses.attention(*p.maps),
    ),
    "relation-distance": Distillation(
        "relation",
        "Park et al., RKD-D, CVPR 2019",
        2.5,
        "a tenth of RKD's 25, which has nine tenths of the gradient beside cross-entropy",
        lambda p: losses.relation_distance(*p.features),
    ),
    "relation-angle": Distillation(
        "relation",
        "Park et al., RKD-A, CVPR 2019",
        5.0,
        "a tenth of RKD's 50, as RKD-D's",
        lambda p: losses.relation_angle(*p.features),
    ),
    "relation-prototype": Distillation(
        "relation",
        "Asadi et al., PRD, ICML 2023",
        1.0,
        "default of the official code",
        lambda p: losses.relation_prototype(
            p.student.features, p.rows, p.teacher.features, p.rows_old, PROTOTYPE_TEMPERATURE
        ),
    ),
}


@dataclass(frozen=True)
class Distilled:
    """The choice of one loss, a base class for the hyperparameters of a method that offers it."""

    loss: str = hp("none", Choice("none", *DISTILLATIONS), searched=False, doc="the distillation, or none")
    kd_weight: float = hp(
        1.0,
        Float(0.01, 100, log=True),
        when={"loss": tuple(DISTILLATIONS)},
        stability=True,
        doc="multiple of the usual weight: "
        + ", ".join(f"{n} {d.weight:g}" for n, d in DISTILLATIONS.items()),
    )
    temperature: float = hp(
        2.0, Float(1, 5), when={"loss": ("kl", "cross-entropy")}, doc="T of the two probability losses"
    )
    t_squared: bool = option(
        True,
        False,
        when={"loss": ("cross-entropy",)},
        doc="factor T^2; with it cross-entropy has the gradient of kl, without it a T^2-th of it",
    )

    def check_maps(self, maps: tuple[Tensor, ...]) -> None:
        """Raise BadRequest where the loss compares maps and the net gives none."""
        if self.loss in ("pod", "attention") and (not maps or any(m.ndim != 4 for m in maps)):
            raise BadRequest(
                f"loss {self.loss!r} needs a net that gives its maps [B, C, H, W], not {len(maps)} of them: "
                f"return (features, maps), or use convnet, resnet32 or resnet18"
            )

    def terms(self, s: State, out: Out, b: Batch, task: Task) -> dict[str, Term]:
        """Return the weighted loss of the student's `out` on the batch; empty without a loss or a teacher."""
        if self.loss == "none" or s.teacher is None:
            return {}
        chosen = DISTILLATIONS[self.loss]
        rows, rows_old = s.head.weight, s.teacher.net.head.weight
        assert isinstance(rows_old, Tensor)
        pair = Pair(
            out, s.teacher(b.x), rows[: task.old], rows_old[: task.old], self.temperature, self.t_squared
        )
        name = "kd" if chosen.level == "logits" else "feature_kd"
        return {name: Term(chosen.loss(pair), self.kd_weight * chosen.weight)}

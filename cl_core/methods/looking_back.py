"""Looking Back: past images recovered from the network itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.losses import fallback_note, kd, logit_l2, new_only
from cl_core.blocks.recovery import Recovered, recovery, soft_targets, some
from cl_core.hparams import Float, Int, hp, option
from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("looking_back")
class LookingBack(Method):
    """Recover a set of old images from the previous network, and train on new and recovered ones.

    Each image starts as noise, and is changed until the previous network gives it a target, drawn from a
    Dirichlet distribution around its class. Each step has as many recovered images as new ones. The set is
    recovered anew at every task, batch by batch, and not kept.

    Decided here: cross-entropy of new images runs over new classes, and the teacher's answers to new and
    recovered images are distilled. `loss: official` is the official code's: cross-entropy over all seen
    classes, and logits of recovered images alone. There the head tells recovered images from real ones. The
    official recovery has binary cross-entropy, which the paper's equation has not.
    """

    name, title = "looking_back", "Looking Back"
    paper = "PourKeshavarzi et al., Looking Back on Learned Experiences, ICLR 2022 (arXiv 2103.12216)"
    equation = (
        "x = argmin CE(softmax(z_old(x)/tau), q), q ~ Dir(beta c_k); "
        "L = CE(z_new, y) on new + lambda T^2 KL(teacher || student) on new and recovered"
    )
    paradigm = "generated data"
    level, kind = "implicit data, logits", "model inversion, probability matching"
    teacher = True
    memories = ()

    @dataclass(frozen=True)
    class HP:
        """The distillation, and the recovery."""

        distill: bool = fields.distill(
            "recovered images are learnt as images of the class that the teacher sees in them"
        )
        loss: str = option(
            "kl",
            "official",
            when=fields.DISTILLING,
            doc="kl: as in the equation; official: all seen classes, squared distance of logits on recovered",
        )
        kd_weight: float = fields.stability_weight(
            1.0, 0.05, 20, when=fields.DISTILLING, doc="lambda; decided here, no published value"
        )
        temperature: float = fields.temperature(
            "T of the distillation", when={"loss": ("kl",), **fields.DISTILLING}
        )
        recovered_per_class: int = hp(20, Int(1, 5000), searched=False, doc="images; official code 2,400")
        recovery_steps: float = hp(
            1.0,
            Float(0.1, 10, log=True),
            searched=False,
            doc="epochs of recovery for one of training, for each batch of images; officially 1,500 steps",
        )
        recovery_lr: float = hp(
            0.01, Float(1e-3, 1, log=True), searched=False, doc="constant rate of Adam; official 0.01"
        )
        recovery_temperature: float = hp(
            20.0, Float(1, 100, log=True), searched=False, doc="tau of the answers; official 20"
        )

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        if task.index:
            each, batch = self.hp.recovered_per_class, task.recipe.batch
            targets = soft_targets(s.head.weight[: task.old].detach(), each, g("targets"))
            noise = torch.randn(len(targets), *data.data.shape, generator=g("noise"))
            adam = {"optimizer": "adam", "lr": self.hp.recovery_lr, "weight_decay": 0.0}
            recipe = task.recipe.stage(self.hp.recovery_steps, schedule="constant", **adam)
            found = []
            for start in range(0, len(targets), batch):
                part = Recovered(noise[start : start + batch], targets[start : start + batch])
                s.modules["recovered"] = part.to(data.device)
                found.append(part.images)
                yield Phase(
                    f"recover {len(found)}",
                    (),
                    recipe,
                    self.recovery_loss,
                    params=(part.images,),
                    train_mode=False,
                    augment=False,
                    steps=-(-len(task.rows) // batch),
                )
            self._finish(s, found)
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss)

    @torch.no_grad()
    def _finish(self, s: State, found: list[nn.Parameter]) -> None:
        # One set of all images, and the class [N] that the teacher sees in each.
        assert s.teacher is not None
        labels = torch.cat([s.teacher(images).logits.argmax(dim=1) for images in found])
        del s.modules["recovered"]
        for name, value in (("recovered", torch.cat([*found])), ("labels", labels)):
            s.local[name] = nn.Parameter(value, requires_grad=False)

    def pictures(self, s: State, task: Task, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        labels = s.local.get("labels")
        return None if labels is None else some(s.local["recovered"], labels, n, g("shown"))

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        if not task.index:
            return b
        images: Tensor = s.local["recovered"]
        chosen = torch.randint(0, len(images), (len(b.y),), generator=g("chosen")).to(b.x.device)
        x, y = torch.cat([b.x, images[chosen]]), torch.cat([b.y, s.local["labels"][chosen]])
        return Batch(x, y, rows=torch.cat([b.rows, torch.full_like(b.rows, -1)]))

    def recovery_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The distance of the teacher's answers to the targets, for a batch of images."""
        assert s.teacher is not None
        part: Recovered = s.modules["recovered"]  # type: ignore[assignment]
        z = s.teacher.net(part.images).logits
        return {"recovery": Term(recovery(z, part.targets, self.hp.recovery_temperature))}

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z, n = s.net(b.x).logits, len(b.y) // 2  # n new images, then n recovered ones
        if s.teacher is None or not self.hp.distill:
            return {"ce": Term(F.cross_entropy(z, b.y))}
        if self.hp.loss == "official":
            ce, value = (
                F.cross_entropy(z[:n], b.y[:n]),
                logit_l2(z[n:, : task.old], s.teacher(b.x[n:]).logits),
            )
        else:
            ce = new_only(z[:n], b.y[:n], task)
            value = kd(z[:, : task.old], s.teacher(b.x).logits, self.hp.temperature)
        return {"ce": Term(ce), "kd": Term(value, self.hp.kd_weight)}

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.distill and self.hp.loss == "kl" else None

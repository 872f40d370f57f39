"""Exemplars: ranked row ids of the training split. A smaller buffer is a prefix of a larger one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.errors import BadRequest
from cl_core.hparams import Int, hp, option
from cl_core.task import no_rows


class Memory:
    """Ranked row ids of each class, in arrival order of the classes."""

    def __init__(self, rows: Mapping[int, Tensor] | None = None) -> None:
        self.rows: dict[int, Tensor] = dict(rows or {})

    def __len__(self) -> int:
        return sum(len(r) for r in self.rows.values())

    def ids(self, classes: Iterable[int] | None = None) -> Tensor:
        """All row ids [n], or those of some classes, class by class."""
        wanted = self.rows if classes is None else [c for c in classes if c in self.rows]
        parts = [self.rows[c] for c in wanted]
        return torch.cat(parts) if parts else no_rows()

    def keep(self, counts: Mapping[int, int]) -> None:
        """Cut every class to the first `counts[c]` of its ranking."""
        self.rows = {c: r[: counts[c]].clone() for c, r in self.rows.items()}


@dataclass(frozen=True)
class Budget:
    """Hyperparameters of the exemplar budget; a method with exemplars derives its own from this class."""

    budget: str = option(
        "per_class",
        "total",
        "bytes",
        at_boundary=True,
        doc="what is fixed: exemplars a class, exemplars in all, or their bytes as uint8 pixels",
    )
    exemplars_per_class: int = hp(
        20, Int(1, 5000), at_boundary=True, searched=False, when={"budget": ("per_class",)}, doc="m"
    )
    exemplars_total: int = hp(
        2000,
        Int(1, 1_000_000),
        at_boundary=True,
        searched=False,
        when={"budget": ("total",)},
        doc="K, shared equally by the classes seen so far; what is left over goes to the oldest",
    )
    exemplars_bytes: int = hp(
        2_000_000,
        Int(1, 10**12),
        at_boundary=True,
        searched=False,
        when={"budget": ("bytes",)},
        doc="bytes of stored pixels, shared as a total",
    )
    selection: str = option("herding", "random", at_boundary=True, doc="how exemplars are ranked")

    def counts(self, seen: int, image_bytes: int) -> dict[int, int]:
        """Return the exemplars that each of the `seen` classes may have; the sum never exceeds the budget."""
        if self.budget == "per_class":
            return dict.fromkeys(range(seen), self.exemplars_per_class)
        total = self.exemplars_total if self.budget == "total" else self.exemplars_bytes // image_bytes
        each, rest = divmod(total, seen)
        return {c: each + (c < rest) for c in range(seen)}

    def check_budget(self, num_classes: int, image_bytes: int, at_least: int = 1) -> None:
        """Raise BadRequest unless every class has `at_least` exemplars when all classes have been seen."""
        smallest = min(self.counts(num_classes, image_bytes).values())
        if smallest < at_least:
            name = {
                "per_class": "exemplars_per_class",
                "total": "exemplars_total",
                "bytes": "exemplars_bytes",
            }[self.budget]
            unit = {"per_class": 1, "total": num_classes, "bytes": num_classes * image_bytes}[self.budget]
            raise BadRequest(
                f"{name} must leave every class {at_least} exemplars: {getattr(self, name)} gives {smallest} "
                f"for {num_classes} classes; set it to {at_least * unit} or more"
            )


def herding(features: Tensor, k: int) -> Tensor:
    """The first k of the herding ranking of `features` [N, D]: indices [min(k, N)] (iCaRL, Alg. 4).

    Features are L2-normalised; each pick brings the mean of the picked nearest to the mean of all, and
    nothing is picked twice (the official loop may revisit samples). Ties go to the lower index.
    """
    x = F.normalize(features.double(), dim=1)
    mean, total = x.mean(dim=0), torch.zeros_like(x[0])
    free = torch.ones(len(x), dtype=torch.bool, device=x.device)
    picked = []
    for n in range(1, min(k, len(x)) + 1):
        distance = torch.linalg.vector_norm(mean - (total + x) / n, dim=1)
        best = int(torch.where(free, distance, torch.inf).argmin())
        free[best] = False
        total = total + x[best]
        picked.append(best)
    return torch.tensor(picked, dtype=torch.int64)

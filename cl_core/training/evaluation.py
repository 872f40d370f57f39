"""Evaluation: counts of answers, from which every metric is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.images.view import View
from cl_core.method import Method
from cl_core.records import pack_rows
from cl_core.state import State
from cl_core.task import Task


@dataclass(frozen=True)
class Evaluation:
    """The answers of one classifier after one task on one split, over the K classes seen so far."""

    split: str
    classifier: str
    primary: bool
    confusion: np.ndarray  # [K, K] int64: true x answered
    correct_within_task: np.ndarray  # [K] int64: answers restricted to the classes of the true task
    correct_rows: tuple[bytes, ...]  # K: one bit a row of the class, in file order: `records.unpack_rows`
    mean_true_score: np.ndarray  # [K] float64
    mean_other_score: np.ndarray | None  # [K] float64: mean of the largest other score; None with one class
    weight_norm: np.ndarray  # [K] float64 of the head's rows, whichever rule answers
    bias: np.ndarray | None  # [K] float64


class _Tally:
    def __init__(self, classes: int, device: torch.device) -> None:
        self.k = classes
        self.confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
        self.within = torch.zeros(classes, dtype=torch.int64, device=device)
        self.true = torch.zeros(classes, dtype=torch.float64, device=device)
        self.other = torch.zeros(classes, dtype=torch.float64, device=device)
        self.correct: list[Tensor] = []

    def add(self, scores: Tensor, y: Tensor, group: Tensor) -> None:
        """scores [B, K], y [B], group [K]: the task of each class."""
        answered = scores.argmax(dim=1)
        self.correct.append(answered == y)
        self.confusion += torch.bincount(y * self.k + answered, minlength=self.k**2)
        foreign = group[y][:, None] != group[None, :]
        within = scores.masked_fill(foreign, -torch.inf).argmax(dim=1)
        self.within += torch.bincount(y[within == y], minlength=self.k)
        scores = scores.double()
        # A product with the one-hot labels sums in a fixed order; index_add_ does not on a GPU.
        by_class = F.one_hot(y, self.k).double().T
        self.true += by_class @ scores.gather(1, y[:, None])[:, 0]
        if self.k > 1:
            self.other += by_class @ scores.scatter(1, y[:, None], -torch.inf).amax(dim=1)


@torch.no_grad()
def evaluate(method: Method, s: State, task: Task, data: View, split: str) -> list[Evaluation]:
    """The counts of every classifier of `method` on the rows of `split` of the classes seen so far."""
    s.net.eval()
    sizes = torch.tensor(task.sizes, device=data.device)
    group = torch.arange(len(task.sizes), device=data.device).repeat_interleave(sizes)
    tallies: dict[str, _Tally] = {}
    for batch in data.batches(data.rows(range(task.seen), split), split):
        for name, scores in method.scores(s, batch.x, task).items():
            tallies.setdefault(name, _Tally(task.seen, data.device)).add(scores.float(), batch.y, group)
    norm = s.head.weight[: task.seen].double().norm(dim=1).cpu().numpy()
    bias = getattr(s.head, "bias", None)
    out = []
    for name, tally in tallies.items():
        confusion = tally.confusion.view(task.seen, task.seen).cpu().numpy()
        rows = confusion.sum(axis=1)
        n = np.maximum(rows, 1)
        correct = torch.cat(tally.correct).cpu().numpy()  # class by class, as `View.rows` gives them
        out.append(
            Evaluation(
                split=split,
                classifier=name,
                primary=name == method.primary(),
                confusion=confusion,
                correct_within_task=tally.within.cpu().numpy(),
                correct_rows=tuple(pack_rows(part) for part in np.split(correct, rows.cumsum()[:-1])),
                mean_true_score=tally.true.cpu().numpy() / n,
                mean_other_score=tally.other.cpu().numpy() / n if task.seen > 1 else None,
                weight_norm=norm,
                bias=None if bias is None else bias[: task.seen].double().cpu().numpy(),
            )
        )
    return out


@torch.no_grad()
def teacher_agreement(s: State, task: Task, data: View, split: str) -> float | None:
    """Return the share of images of old classes on which network and teacher name the same old class.

    None without a teacher. It shows how strongly a distillation binds.
    """
    if s.teacher is None:
        return None
    s.net.eval()
    agreed = torch.zeros((), dtype=torch.int64, device=data.device)
    rows = data.rows(range(task.old), split)
    for batch in data.batches(rows, split):
        answers = s.net(batch.x).logits[:, : task.old].argmax(dim=1)
        agreed += (answers == s.teacher(batch.x).logits.argmax(dim=1)).sum()
    return int(agreed) / len(rows)

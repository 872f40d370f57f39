"""Classifiers beside the head, and scores in a form for readers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest_mean(features: Tensor, means: Tensor) -> Tensor:
    """Return minus the distance of normalised features to each class mean (iCaRL, Alg. 1).

    features [B, D], means [K, D] -> [B, K].
    """
    return -torch.cdist(F.normalize(features, dim=1), means, compute_mode="donot_use_mm_for_euclid_dist")


def bias_corrected(z: Tensor, pairs: Tensor, groups: tuple[tuple[int, int], ...]) -> Tensor:
    """alpha z + beta on each group of classes [start, end) (BiC, Wu et al., CVPR 2019, eq. 5).

    z [B, K], pairs [G, 2] -> [B, K]; the groups cover the K classes.
    """
    # Group by group: the gradient of an index or a repetition does not sum in a fixed order on a GPU.
    corrected = [z[:, a:b] * alpha + beta for (a, b), (alpha, beta) in zip(groups, pairs, strict=True)]
    return torch.cat(corrected, dim=1)


class Reading(NamedTuple):
    """Scores in a form for readers, in the order of the classes.

    `name` is "probability" (a softmax over the seen classes), "sigmoid" (a probability of each class alone)
    or "distance" (the nearest class is the answer). Your own method may name another.
    """

    name: str
    values: Tensor  # [B, K]


def probability(logits: Tensor, temperature: float = 1.0) -> Reading:
    """softmax(z / T) of logits [B, K], as trained with the temperature T."""
    return Reading("probability", F.softmax(logits / temperature, dim=1))


def sigmoid(logits: Tensor) -> Reading:
    """The sigmoids of logits [B, K], as trained by a binary cross-entropy a class."""
    return Reading("sigmoid", logits.sigmoid())


def distance(scores: Tensor) -> Reading:
    """The distances whose negatives are the scores [B, K] of `nearest_mean`."""
    return Reading("distance", -scores)

"""Supervised contrast: vectors of one class together, all others apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def supervised_contrast(
    vectors: Tensor, classes: Tensor, temperature: float = 0.1, negatives: Tensor | None = None
) -> Tensor:
    """Mean negative log-probability that an anchor picks a vector of its own class among all others.

    ``-(1/|A|) sum_i (1/|P(i)|) sum_{j in P(i)} log(exp(v_i.v_j / tau) / sum_{k != i} exp(v_i.v_k / tau))`` over the
    anchors A that have a positive.

    Args:
        vectors: (M, C) float; normalised here.
        classes: (M,) int64.
        temperature: tau.
        negatives: (N, C) float vectors that stand in every denominator and are never anchors nor positives.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where no class has two vectors.

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2. Explained in notebook 04.
    """
    anchors = F.normalize(vectors, dim=1)
    keys = anchors if negatives is None else torch.cat([anchors, F.normalize(negatives, dim=1)])
    similarity = anchors @ keys.T / temperature
    itself = torch.eye(*similarity.shape, dtype=torch.bool, device=vectors.device)
    lowest = torch.finfo(similarity.dtype).min  # not -inf: a lone vector would make its log-sum, and gradients, nan
    log_probability = similarity - torch.logsumexp(similarity.masked_fill(itself, lowest), dim=1, keepdim=True)
    positive = classes[:, None] == classes[None, :]
    positive &= ~itself[:, : len(anchors)]
    count = positive.sum(dim=1)
    per_anchor = (log_probability[:, : len(anchors)] * positive).sum(dim=1) / count.clamp(min=1)
    return -per_anchor.sum() / (count > 0).sum().clamp(min=1)

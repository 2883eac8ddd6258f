"""Supervised contrast: vectors of one class together, all others apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def supervised_contrast(
    vectors: Tensor,
    classes: Tensor,
    temperature: float = 0.1,
    negatives: Tensor | None = None,
    memory: Tensor | None = None,
    memory_classes: Tensor | None = None,
) -> Tensor:
    """Mean negative log-probability that an anchor picks a vector of its own class among all others.

    ``-(1/|A|) sum_i (1/|P(i)|) sum_{j in P(i)} log(exp(v_i.v_j / tau) / sum_{k != i} exp(v_i.v_k / tau))`` over the
    anchors A that have a positive. Positives j and candidates k run over vectors and memory.

    Args:
        vectors: (M, C) float; normalised here.
        classes: (M,) int64.
        temperature: tau.
        negatives: (N, C) float vectors that stand in every denominator and are never anchors nor positives.
        memory: (Q, C) float vectors that are positives of their class and candidates of all, and never anchors.
        memory_classes: (Q,) int64 classes of ``memory``.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where no vector has another of its class.

    Raises:
        ValueError: ``memory`` without a class for each of its vectors, or the reverse.

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2. Explained in notebook 04.
    """
    if (held := _length(memory)) != _length(memory_classes):
        raise ValueError(f"memory holds {held} vectors, memory_classes {_length(memory_classes)}; give one for each")
    anchors = F.normalize(vectors, dim=1)
    others = [F.normalize(keys, dim=1) for keys in (memory, negatives) if keys is not None]
    keys = torch.cat([anchors, *others])
    similarity = anchors @ keys.T / temperature
    itself = torch.eye(*similarity.shape, dtype=torch.bool, device=vectors.device)
    lowest = torch.finfo(similarity.dtype).min  # not -inf: a lone vector would make its log-sum, and gradients, nan
    log_probability = similarity - torch.logsumexp(similarity.masked_fill(itself, lowest), dim=1, keepdim=True)
    key_classes = classes if memory is None else torch.cat([classes, memory_classes])
    positive = classes[:, None] == key_classes[None, :]
    positive &= ~itself[:, : len(key_classes)]
    count = positive.sum(dim=1)
    per_anchor = (log_probability[:, : len(key_classes)] * positive).sum(dim=1) / count.clamp(min=1)
    return -per_anchor.sum() / (count > 0).sum().clamp(min=1)


def _length(rows: Tensor | None) -> int:
    return 0 if rows is None else len(rows)

"""Decoupled distillation (DKD): how sure of the right class, and apart from it, how the wrong ones are ranked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.precision import in_float32


@in_float32
def decoupled_distillation(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0, target: float = 1.0, others: float = 8.0
) -> Tensor:
    """Hinton's divergence in two parts with weights of their own, at every labelled position.

    With ``b = (p_y, 1 - p_y)`` and ``p^`` the distribution over the wrong classes alone,
    ``T^2 mean_u [target KL(b_t || b_s) + others KL(p^_t || p^_s)]``. Plain distillation is ``target = 1`` and, at every
    position, ``others = 1 - p_y`` of the teacher: the surer it is, the less it tells of the wrong classes.

    Args:
        student: (B, K, h, w) float logits.
        teacher: (B, K, h, w) float logits; detached here.
        labels: (B, h, w) int64 in [0, K) or 255, at the logits' resolution.
        temperature: T.
        target: weight of the right class against all others.
        others: weight of the ranking of the others.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where nothing is labelled.

    Source: Zhao et al., Decoupled Knowledge Distillation, CVPR 2022. Explained in notebook 03.
    """
    labelled = labels != IGNORE
    right = F.one_hot(labels.where(labelled, 0), student.shape[1]).movedim(-1, 1).bool()
    log_q = F.log_softmax(student / temperature, dim=1)
    log_p = F.log_softmax(teacher.detach() / temperature, dim=1)
    binary = _divergence(_right_or_not(log_p, right), _right_or_not(log_q, right))
    lowest = torch.finfo(log_q.dtype).min / 2  # out of the softmax over the wrong classes, without infinities
    wrong = [F.log_softmax(x.masked_fill(right, lowest), dim=1).masked_fill(right, 0) for x in (log_p, log_q)]
    ranking = (wrong[0].exp() * (wrong[0] - wrong[1])).masked_fill(right, 0).sum(dim=1)
    per_pixel = (target * binary + others * ranking) * labelled
    return temperature**2 * per_pixel.sum() / labelled.sum().clamp(min=1)


def _right_or_not(log_probability: Tensor, right: Tensor) -> Tensor:
    """(B, 2, h, w): log-probability of the right class, and of all others together."""
    lowest = torch.finfo(log_probability.dtype).min / 2
    parts = [log_probability.masked_fill(~chosen, lowest).logsumexp(dim=1) for chosen in (right, ~right)]
    return torch.stack(parts, dim=1)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)

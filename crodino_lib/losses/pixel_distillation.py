"""Pixel distillation: the student's class probabilities follow the teacher's, one position at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def pixel_distillation(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    """Mean divergence, over positions, of the student's softened class probabilities from the teacher's.

    ``T^2 mean_u sum_k p_k (log p_k - log q_k)`` with ``p = softmax(teacher / T)`` and ``q = softmax(student / T)``;
    T^2 keeps the size of the gradients as T grows.

    Args:
        student: (B, K, h, w) float logits.
        teacher: (B, K, h, w) float logits; detached here.
        temperature: T.
        valid: (B, h, w) bool, or float weights in [0, 1]; None for every position.

    Returns:
        Scalar, at least 0; 0 where the two agree up to a constant per position, and 0 (with zero gradients) where
        nothing is valid.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; per pixel as in CIRKD losses/kd.py, which
    counts ignored positions too. Explained in notebook 03.
    """
    log_q = F.log_softmax(student / temperature, dim=1)
    log_p = F.log_softmax(teacher.detach() / temperature, dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
    weight = torch.ones_like(divergence) if valid is None else valid.to(divergence.dtype)
    return temperature**2 * (divergence * weight).sum() / weight.sum().clamp(min=1e-6)

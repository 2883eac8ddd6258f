"""Feature imitation: the direction of the teacher's features at every position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def feature_imitation(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared distance, over positions, between the features normalised over channels: ``2 - 2 cos``.

    Args:
        student: (B, C, h, w) float.
        teacher: (B, C, h, w) float; detached here.
        valid: (B, h, w) bool, or float weights in [0, 1]; None for every position.

    Returns:
        Scalar in [0, 4]; 0 where the directions agree, whatever the lengths, and where nothing is valid.

    Source: our reconstruction of CSK-Net's distillation of shallow features. Explained in notebook 05.
    """
    difference = F.normalize(teacher.detach(), dim=1) - F.normalize(student, dim=1)
    distance = difference.square().sum(dim=1)
    weight = torch.ones_like(distance) if valid is None else valid.to(distance.dtype)
    return (distance * weight).sum() / weight.sum().clamp(min=1e-6)

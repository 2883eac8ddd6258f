"""Channel distillation: every channel of the student fires where the teacher's does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def channel_distillation(
    student: Tensor, teacher: Tensor, temperature: float = 4.0, valid: Tensor | None = None
) -> Tensor:
    """Mean divergence, over images and channels, of the student's spatial distribution from the teacher's.

    ``T^2 / (B C) sum_{n,c} KL(softmax_u(teacher_nc / T) || softmax_u(student_nc / T))``: where a channel fires counts,
    how strongly does not. The softmax runs over the positions, so that its scale depends on the size of the map.

    Args:
        student: (B, C, h, w) float logits or features.
        teacher: (B, C, h, w) float; detached here.
        temperature: T.
        valid: (B, h, w) bool, or float weights of which those above 0 are valid; None for every position.

    Returns:
        Scalar, at least 0; 0 where the two agree up to a constant per channel. An image without a valid position
        adds 0 (with zero gradients) to the sum.

    Source: Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021. The official code's
    default compares the first image of a batch only. Explained in notebook 03.
    """
    log_q = _spatial_log_softmax(student / temperature, valid)
    log_p = _spatial_log_softmax(teacher.detach() / temperature, valid)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=2)
    return temperature**2 * divergence.mean()


def _spatial_log_softmax(maps: Tensor, valid: Tensor | None) -> Tensor:
    """(B, C, h*w) log-probabilities over the positions; invalid ones take no mass."""
    if valid is not None:
        lowest = torch.finfo(maps.dtype).min  # not -inf: the divergence would be nan
        maps = maps.masked_fill((valid == 0).unsqueeze(1), lowest)
    return F.log_softmax(maps.flatten(2), dim=2)

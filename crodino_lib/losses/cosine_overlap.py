"""Cosine overlap of the shared and the private half of a bottleneck."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def cosine_overlap(shared: Tensor, private: Tensor) -> Tensor:
    """Mean cosine, over positions, between the two halves of a feature map.

    For features that are not negative it lies in [0, 1] and reaches 0 only where the halves use disjoint channels.
    It is not independence: two halves can be orthogonal everywhere and yet determine each other (notebook 07).

    Args:
        shared: (B, C, h, w) float, not negative.
        private: (B, C, h, w) float, not negative.

    Returns:
        Scalar.

    Source: the signed cosine of the same authors' earlier public code. Explained in notebook 04.
    """
    return F.cosine_similarity(shared, private, dim=1).mean()

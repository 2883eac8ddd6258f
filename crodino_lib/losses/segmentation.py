"""Cross-entropy of a segmentation at label resolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.precision import in_float32


@in_float32
def segmentation_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels of a batch, the logits enlarged to the label's size.

    Args:
        logits: (B, K, h, w) float, at any resolution.
        labels: (B, H, W) int64 in [0, K) or 255.

    Returns:
        Scalar; 0 (with zero gradients) where no pixel is labelled.

    Explained in notebook 02.
    """
    up = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(up, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)

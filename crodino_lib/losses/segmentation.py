"""Cross-entropy of a segmentation, and the precision that every loss is computed in."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE


def in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Call ``loss`` outside autocast, with its half-precision tensors cast to float32.

    A bf16 softmax of similarities divided by a temperature of 0.1 keeps about two digits.
    """

    def full(value):
        return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value

    @functools.wraps(loss)
    def wrapped(*args, **kwargs) -> Tensor:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return loss(*map(full, args), **{name: full(value) for name, value in kwargs.items()})

    return wrapped


@in_float32
def segmentation_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean cross-entropy over the labelled pixels of a batch, the logits enlarged to the label's size.

    From (B, K, h, w) float at any resolution and (B, H, W) int64 in [0, K) or 255; 0 (with zero gradients) where no
    pixel is labelled.
    """
    up = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(up, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)

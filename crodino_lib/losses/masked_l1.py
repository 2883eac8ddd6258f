"""Absolute error over the pixels where a sensor has a value."""

from __future__ import annotations

from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def masked_l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error over valid pixels and channels.

    Args:
        prediction: (B, C, H, W) float.
        target: (B, C, H, W) float.
        valid: (B, 1, H, W) bool, or float weights in [0, 1].

    Returns:
        Scalar; 0 (with zero gradients) where nothing is valid.

    Explained in notebook 04.
    """
    weight = valid.to(prediction.dtype)
    total = ((prediction - target).abs() * weight).sum()
    return total / (weight.sum() * prediction.shape[1]).clamp(min=1e-6)

"""Linear dependence of two halves, free of their bases: debiased centred kernel alignment."""

from __future__ import annotations

import torch
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def debiased_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear CKA without the bias that makes independent features look alike where samples are few.

    ``D(X, Y) / sqrt(D(X, X) D(Y, Y))``, where D estimates the squared norm of the cross-covariance of ``X`` and ``Y``
    without bias. The plain CKA of independent normal features with N = 100 and C = 128 is 0.57.

    Args:
        x: (N, C) float, a row per sample, at least 4.
        y: (N, D) float, the same samples.

    Returns:
        Scalar in [-1, 1]: 1 for equal features, 0 in the mean for independent ones; unchanged by rotations, shifts and
        a common scale of either side; 0 (with zero gradients) where a side is constant.

    Raises:
        ValueError: fewer than 4 rows.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019; the debiased form of
    google-research/representation_similarity, Demo.ipynb. Explained in notebook 04.
    """
    if len(x) < 4:
        raise ValueError(f"debiased_cka needs at least 4 rows, got x with {len(x)}; give it more samples")
    x, y = _centred(x), _centred(y)
    scale_x, scale_y = (_cross_covariance(v, v).clamp(min=1e-12).sqrt() for v in (x, y))
    return _cross_covariance(x, y) / (scale_x * scale_y)


def _centred(x: Tensor) -> Tensor:
    """Columns less their means, of norm 1; exactly 0 where only rounding is left of them."""
    centred = x - x.mean(dim=0)
    norm = centred.norm().detach()  # CKA ignores scale, so its gradient needs no derivative of the norm
    return centred / norm.masked_fill(norm <= 1e-5 * x.norm().detach(), torch.inf)


def _cross_covariance(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased, up to a factor, squared norm of the cross-covariance of centred features."""
    n = len(x)
    x_squared, y_squared = x.square().sum(dim=1), y.square().sum(dim=1)
    own_pairs = n / (n - 2) * (x_squared @ y_squared)
    return (x.T @ y).square().sum() - own_pairs + x_squared.sum() * y_squared.sum() / ((n - 1) * (n - 2))

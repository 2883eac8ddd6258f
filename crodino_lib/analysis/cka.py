"""Compare what two blocks hold, whatever their bases: linear centred kernel alignment (CKA)."""

import numpy as np

from crodino_lib.analysis._common import Result, across, is_constant
from crodino_lib.analysis.extraction import Latents

PAIRED = ("cka",)


def linear_cka(x: np.ndarray, y: np.ndarray, debiased: bool = True) -> float:
    """Compute how alike the similarities between rows are in two blocks: 1 if equal, 0 if linearly unrelated.

    ``|X'Y|^2 / (|X'X| |Y'Y|)`` of centred blocks. Debiased, every squared norm becomes ``D(X, Y) = |X'Y|^2 -
    n/(n-2) sum_i |x_i|^2 |y_i|^2 + (sum_i |x_i|^2) (sum_i |y_i|^2) / ((n-1)(n-2))``: without it independent normal
    features with n = 100 and d = 128 have 0.57.

    Args:
        x: (n, d) float.
        y: (n, e) float, the same rows.
        debiased: whether independent blocks give 0 in the mean; the result can then be negative.

    Returns:
        At most 1; unchanged by rotations, shifts and a common scale of either side. NaN with fewer than 4 rows, where
        a block is constant, or so short of rows for its channels that no variance is left without the bias.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019; the debiased form of
    google-research/representation_similarity, Demo.ipynb. Explained in notebook 07.
    """
    if len(x) < 4 or is_constant(x) or is_constant(y):
        return np.nan
    x, y = (np.asarray(block, float) - np.mean(block, axis=0, dtype=float) for block in (x, y))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)  # CKA ignores the scale, and this way it cannot overflow
    plain = [np.linalg.norm(block.T @ block) for block in (x, y)]
    if not debiased:
        return float(np.linalg.norm(x.T @ y) ** 2 / (plain[0] * plain[1]))
    own = [_debiased_norm(block, block) for block in (x, y)]
    if min(own[0] / plain[0] ** 2, own[1] / plain[1] ** 2) <= 1e-9:  # nothing but rounding is left
        return np.nan
    return float(_debiased_norm(x, y) / np.sqrt(own[0] * own[1]))


def _debiased_norm(x: np.ndarray, y: np.ndarray) -> float:
    """Compute D(X, Y) of centred blocks, see ``linear_cka``."""
    n, x_squared, y_squared = len(x), np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    total = np.square(x.T @ y).sum() - n / (n - 2) * (x_squared @ y_squared)
    return total + x_squared.sum() * y_squared.sum() / ((n - 1) * (n - 2))


def compute(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute ``cka`` of each half across the sensors, and ``cka_halves`` between both halves of each sensor."""
    results = [Result("cka", linear_cka(u, v), half=half) for half, (u, v) in across(latents).items()]
    for sensor in latents.sensors:
        halves = [latents.blocks[sensor, half] for half in latents.halves]
        results.append(Result("cka_halves", linear_cka(*halves), sensor))
    return results

"""Whether two blocks hold the same structure, whatever their bases: linear centred kernel alignment."""

from __future__ import annotations

import numpy as np

from crodino_lib.analysis._common import across, counts, drawn, is_constant, within
from crodino_lib.analysis.extraction import Latents

PAIRED = ("cka", "cka_biased", "cka_whitened")  # across sensors, row i must be the same place in both
VARIANCE = 0.95  # held by the principal components that are kept


def linear_cka(x: np.ndarray, y: np.ndarray, debiased: bool = True) -> float:
    """How alike the similarities between rows are in two blocks: 1 if equal, 0 if linearly unrelated.

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
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)  # scale is of no account, and now cannot overflow
    if not debiased:
        norms = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
        return float(np.linalg.norm(x.T @ y) ** 2 / norms)
    own = [_debiased_norm(block, block) / np.linalg.norm(block.T @ block) ** 2 for block in (x, y)]
    if min(own) <= 1e-9:  # nothing but rounding is left
        return np.nan
    return float(_debiased_norm(x, y) / np.sqrt(_debiased_norm(x, x) * _debiased_norm(y, y)))


def _debiased_norm(x: np.ndarray, y: np.ndarray) -> float:
    """D(X, Y) of centred blocks, see ``linear_cka``."""
    n = len(x)
    x_squared, y_squared = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    total = np.square(x.T @ y).sum() - n / (n - 2) * (x_squared @ y_squared)
    return total + x_squared.sum() * y_squared.sum() / ((n - 1) * (n - 2))


def principal_components(x: np.ndarray, share: float = VARIANCE) -> tuple[np.ndarray, np.ndarray]:
    """The fewest principal components that hold ``share`` of the variance of ``x`` (n, d), which is not constant.

    Returns:
        Their whitened scores (n, r) and their directions (d, r), both with orthonormal columns.
    """
    centred = np.asarray(x, float) - np.mean(x, axis=0, dtype=float)
    scores, singular, directions = np.linalg.svd(centred, full_matrices=False)
    held = np.cumsum(singular**2) / np.sum(singular**2)
    r = int(np.searchsorted(held, share - 1e-12)) + 1
    return scores[:, :r], directions[:r].T


def whitened_cka(x: np.ndarray, y: np.ndarray) -> float:
    """A second opinion that a few strong directions cannot decide: debiased linear CKA of PCA-whitened blocks.

    Each block keeps the components that hold 95 % of its variance, and these count alike. Where both keep as many,
    this is the mean squared canonical correlation, without its bias.

    Args:
        x: (n, d) float.
        y: (n, e) float, the same rows.

    Returns:
        At most 1; NaN as ``linear_cka``, and so where a block keeps about as many components as there are rows.

    Source: Raghu et al., SVCCA, NeurIPS 2017, for the truncation; Kornblith et al., ICML 2019, for CKA of whitened
    features; Davari et al., Reliability of CKA, ICLR 2023, for the need. Explained in notebook 07.
    """
    if is_constant(x) or is_constant(y):
        return np.nan
    return linear_cka(principal_components(x)[0], principal_components(y)[0])


def compute(latents: Latents, n: int, generator: np.random.Generator) -> dict[str, float]:
    """CKA of each half across the sensors, and of both halves of each sensor.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used.
        generator: draws them.

    Returns:
        ``cka``, ``cka_biased`` and ``cka_whitened`` of ``shared``, ``private`` and of either sensor; ``rows``,
        ``images``. NaN where a block is constant or there are fewer than 4 rows.

    Raises:
        ValueError: see ``drawn``.

    Explained in notebook 07.
    """
    latents = drawn(latents, n, generator)
    found = {}
    for where, (x, y) in (across(latents) | within(latents)).items():
        found[f"cka {where}"] = linear_cka(x, y)
        found[f"cka_biased {where}"] = linear_cka(x, y, debiased=False)
        found[f"cka_whitened {where}"] = whitened_cka(x, y)
    return found | counts(latents)

"""Measure whether a block has died, or has shrunk to few directions or to a point."""

import numpy as np
from scipy.stats import entropy

from crodino_lib.analysis import Result
from crodino_lib.analysis.extraction import Latents


def spread(x: np.ndarray) -> float:
    """Compute ``sqrt(sum_i |x_i - mean|^2 / sum_i |x_i|^2)``: 0 for equal rows, 1 around a mean of 0, NaN for zeros.

    A rank does not see a block that shrinks to a point, because what is left of its variance may point everywhere.
    """
    x = np.asarray(x, float)
    return float(np.linalg.norm(x - x.mean(axis=0)) / np.linalg.norm(x)) if x.any() else np.nan


def is_constant(x: np.ndarray) -> bool:
    """Return whether all rows (n, d) are equal, up to float32 rounding; always true for a single row."""
    return not spread(x) > 1e-6


def effective_rank(x: np.ndarray) -> float:
    """Compute how many directions a block (n, d) uses, in [1, d]; NaN where the block is constant.

    ``exp(H(s))`` with ``s`` the shares of the variance along the principal components and ``H`` the entropy in nats.
    Never above n - 1, so rows must be many more than channels.

    Source: Roy and Vetterli, The Effective Rank, EUSIPCO 2007. Explained in notebook 15.
    """
    if is_constant(x):
        return np.nan
    x = np.asarray(x, float)
    return float(np.exp(entropy(np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2)))


def dead_channels(x: np.ndarray) -> float:
    """Compute the share of the channels of x (n, d) that are the same in every row, up to rounding."""
    return float((np.ptp(x, axis=0) <= 1e-6 * np.abs(x).max(axis=0)).mean())


def collapse(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute ``effective_rank``, ``rank_fraction`` (of d), ``spread`` and ``dead_channels`` of every block."""
    results = []
    for block, x in latents.blocks.items():
        rank = effective_rank(x)
        values = {"effective_rank": rank, "rank_fraction": rank / x.shape[1], "spread": spread(x)}
        values["dead_channels"] = dead_channels(x)
        results += [Result(measure, value, *block) for measure, value in values.items()]
    return results

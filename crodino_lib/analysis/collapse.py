"""Whether a block has died or shrunk to a few directions, which makes every picture of it look good."""

from __future__ import annotations

import numpy as np

from crodino_lib.analysis._common import counts, drawn, is_constant, within
from crodino_lib.analysis.extraction import Latents


def spectrum(x: np.ndarray) -> np.ndarray:
    """(min(n, d),) shares of the variance of x (n, d) along its principal components, summing to 1; NaN if constant."""
    if is_constant(x):
        return np.full(min(x.shape), np.nan)
    x = np.asarray(x, float)
    squared = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return squared / squared.sum()


def effective_rank(shares: np.ndarray) -> float:
    """Number of directions that a block uses, ``exp(H(shares))`` with H the entropy in nats, in [1, d].

    Never above n - 1, so rows must be many more than channels. ``shares`` are those of ``spectrum``.

    Source: Roy and Vetterli, The Effective Rank, EUSIPCO 2007. Explained in notebook 07.
    """
    logs = np.log(np.where(shares == 0, 1.0, shares))  # 0 log 0 is 0
    return float(np.exp(-(shares * logs).sum()))


def participation_ratio(shares: np.ndarray) -> float:
    """The same number, swayed more by strong directions: ``1 / sum(shares^2)``, never above the effective rank.

    Source: Gao et al., A Theory of Multineuronal Dimensionality, 2017. Explained in notebook 07.
    """
    return float(1 / np.square(shares).sum())


def spread(x: np.ndarray) -> float:
    """Share of the rows' lengths that differs from row to row: 0 where all rows are one vector, 1 around a mean of 0.

    ``sqrt(sum_i |x_i - mean|^2 / sum_i |x_i|^2)`` of x (n, d); NaN where all are zeros. A rank does not see a block
    that shrinks to a point, because what is left of its variance may point everywhere.
    """
    length = np.linalg.norm(np.asarray(x, float))
    return float(np.linalg.norm(x - np.asarray(x, float).mean(axis=0)) / length) if length > 0 else np.nan


def dead_channels(x: np.ndarray) -> float:
    """Fraction of the channels of x (n, d) that are the same in every row, up to rounding; NaN with a single row."""
    if len(x) < 2:
        return np.nan
    return float((np.ptp(x, axis=0) <= 1e-6 * np.abs(x).max(axis=0)).mean())


def norm_ratio(shared: np.ndarray, private: np.ndarray) -> float:
    """Mean length of the private rows (n, d) over that of the shared ones (n, e); NaN where these are all zeros."""
    lengths = [np.linalg.norm(np.asarray(block, float), axis=1).mean() for block in (private, shared)]
    return float(lengths[0] / lengths[1]) if lengths[1] > 0 else np.nan


def compute(latents: Latents, n: int, generator: np.random.Generator) -> dict[str, float]:
    """Rank and dead channels of every block, and how large the private half is.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used.
        generator: draws them.

    Returns:
        For every block ``effective_rank``, ``participation_ratio``, ``rank_fraction`` (effective rank over d; a private
        half below 0.05 has collapsed), ``spread`` and ``dead_channels``; for either sensor ``norm_ratio``; ``rows``,
        ``images``. A constant block has no rank (NaN), a spread of 0 (NaN for zeros), and all its channels are dead; a
        single row has no rank and no dead channels.

    Raises:
        ValueError: see ``drawn``.

    Explained in notebook 07.
    """
    latents = drawn(latents, n, generator)
    found = {}
    for name, block in latents.blocks.items():
        shares = spectrum(block)
        found[f"effective_rank {name}"] = effective_rank(shares)
        found[f"participation_ratio {name}"] = participation_ratio(shares)
        found[f"rank_fraction {name}"] = effective_rank(shares) / block.shape[1]
        found[f"spread {name}"] = spread(block)
        found[f"dead_channels {name}"] = dead_channels(block)
    ratios = {f"norm_ratio {sensor}": norm_ratio(*pair) for sensor, pair in within(latents).items()}
    return found | ratios | counts(latents)

"""Whether the sensors' clouds lie apart: the distance of their means, and of their distributions.

Everything is about directions, that is about rows of length one; ``collapse`` tells of lengths. A gap may be
harmless: a decoder subtracts a constant offset. And clouds of equal means can still be told apart.
"""

from __future__ import annotations

import numpy as np

from crodino_lib.analysis._common import across, counts, directions, drawn, share_channels
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.hsic import rbf_kernel

MEASURES = ("gap", "gap_scaled", "mmd2", "mmd_p")


def modality_gap(u: np.ndarray, v: np.ndarray) -> float:
    """Distance of the mean directions of two sensors, in [0, 2]: ``|mean_i u_i/|u_i| - mean_i v_i/|v_i||``.

    Args:
        u: (n, d) float, the one sensor.
        v: (m, d) float, the other.

    Returns:
        NaN where a block is all zeros, which have no direction.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 2. Explained in notebook 07.
    """
    if not (np.any(u) and np.any(v)):
        return np.nan
    return float(np.linalg.norm(directions(u).mean(axis=0) - directions(v).mean(axis=0)))


def scaled_gap(u: np.ndarray, v: np.ndarray) -> float:
    """The gap beside the clouds' spread: over the root of the summed traces of both covariances of the directions.

    Arguments as ``modality_gap``.

    Returns:
        NaN where a block is all zeros or neither has any spread.
    """
    spread = sum(directions(block).var(axis=0).sum() for block in (u, v))
    return float(modality_gap(u, v) / np.sqrt(spread)) if spread > 1e-12 else np.nan


def pair_kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``h_ij = k(u_i, u_j) + k(v_i, v_j) - k(u_i, v_j) - k(v_i, u_j)`` of directions, with a diagonal of zeros.

    The kernel is ``rbf_kernel`` of all rows of both sensors. Exchanging u_i with v_i turns the sign of row and column
    i and does nothing else.

    Args:
        u: (n, d) float, the one sensor.
        v: (n, d) float, the same places seen by the other.

    Returns:
        (n, n) float; NaN where a block is all zeros, or more than half of all pairs of rows are equal.
    """
    n = len(u)
    if not (np.any(u) and np.any(v)):
        return np.full((n, n), np.nan)
    k = rbf_kernel(np.concatenate([directions(u), directions(v)]))
    h = k[:n, :n] + k[n:, n:] - k[:n, n:] - k[n:, :n]
    np.fill_diagonal(h, 0.0)
    return h


def squared_mmd(h: np.ndarray) -> float:
    """Squared distance of the sensors' distributions, 0 in the mean if they are the same; can be negative.

    ``sum_{i != j} h_ij / (n (n - 1))``: a place is never compared with itself, which would make sensors that agree
    in every place look closer than equal.

    Args:
        h: (n, n) float, of ``pair_kernel``.

    Returns:
        NaN with a single row.

    Source: Gretton et al., A Kernel Two-Sample Test, JMLR 2012, lemma 6, equation 4. Explained in notebook 07.
    """
    n = len(h)
    return float(h.sum() / (n * (n - 1))) if n > 1 else np.nan


def swap_p(h: np.ndarray, images: np.ndarray, permutations: int, generator: np.random.Generator) -> float:
    """How often sensors exchanged in random images lie as far apart as the true ones: small if truly apart.

    Args:
        h: (n, n) float, of ``pair_kernel``.
        images: (n,) image of every row; all rows of an image exchange their sensors, or none does.
        permutations: B, at least 1.
        generator: decides for every image.

    Returns:
        ``(1 + number of exchanges with a distance as large) / (1 + B)``, so never below 1 / (1 + B), nor far below
        2 / 2^images; NaN with one image or an h of NaN.
    """
    found, image = np.unique(images, return_inverse=True)
    if len(found) < 2 or np.isnan(h).any():
        return np.nan
    signs = generator.choice([-1.0, 1.0], size=(permutations, len(found)))[:, image]
    distances = ((signs @ h) * signs).sum(axis=1)
    reached = (distances >= h.sum() - 1e-9 * np.abs(h).sum()).sum()  # an exchange of all images changes only rounding
    return float((1 + reached) / (1 + permutations))


def compute(latents: Latents, n: int, generator: np.random.Generator, permutations: int) -> dict[str, float]:
    """The gap between the sensors in each half.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used; memory grows with its square.
        generator: draws them and the permutations.
        permutations: exchanges of sensors, for the p-value, at least 1.

    Returns:
        ``gap``, ``gap_scaled``, ``mmd2`` and ``mmd_p`` of ``shared`` and ``private``; ``rows``, ``images``. A constant
        block has a direction, so a gap; NaN where a block is all zeros, where the sensors have different
        numbers of channels, where no pair of rows differs, with one row (``mmd2``), and with one image (``mmd_p``).

    Raises:
        ValueError: ``permutations`` below 1; see also ``drawn``.

    Explained in notebook 07.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    latents = drawn(latents, n, generator)
    found = {}
    for where, (u, v) in across(latents).items():
        if not share_channels(u, v):
            found |= {f"{name} {where}": np.nan for name in MEASURES}
            continue
        h = pair_kernel(u, v)
        found[f"gap {where}"] = modality_gap(u, v)
        found[f"gap_scaled {where}"] = scaled_gap(u, v)
        found[f"mmd2 {where}"] = squared_mmd(h)
        found[f"mmd_p {where}"] = swap_p(h, latents.images, permutations, generator)
    return found | counts(latents)

"""Whether the sensors put a place in one direction while the directions stay spread out.

Read together: near alignment with a uniformity near 0 is collapse, not agreement.
"""

from __future__ import annotations

import numpy as np

from crodino_lib.analysis._common import across, counts, directions, drawn, share_channels
from crodino_lib.analysis.extraction import Latents
from crodino_lib.data.sample import IGNORE

PAIRED = ("alignment",)  # across sensors, row i must be the same place in both


def alignment(u: np.ndarray, v: np.ndarray) -> float:
    """Mean squared distance of the directions of a place in both sensors: 0 if equal, 2 if unrelated, 4 if opposed.

    Args:
        u: (n, d) float, the one sensor.
        v: (n, d) float, the same places seen by the other.

    Returns:
        ``mean_i |u_i/|u_i| - v_i/|v_i||^2``; NaN where a block is all zeros, or the sensors have different
        numbers of channels.

    Source: Wang and Isola, Alignment and Uniformity on the Hypersphere, ICML 2020, with alpha = 2. Explained in
    notebook 07.
    """
    if not (share_channels(u, v) and np.any(u) and np.any(v)):
        return np.nan
    return float(np.square(directions(u) - directions(v)).sum(axis=1).mean())


def uniformity(u: np.ndarray) -> float:
    """How evenly directions cover the sphere: 0 if all are one, towards -4 for spread ones (lower is more even).

    Args:
        u: (n, d) float.

    Returns:
        ``log mean_{i < j} exp(-2 |u_i - u_j|^2)`` of rows of length one, in [-8, 0]; NaN for one row or all zeros.

    Source: Wang and Isola, ICML 2020, with t = 2. Explained in notebook 07.
    """
    n = len(u)
    if n < 2 or not np.any(u):
        return np.nan
    rows = directions(u)
    lengths = np.square(rows).sum(axis=1)  # 1, but 0 for rows of zeros
    potentials = np.exp(-2 * np.maximum(lengths[:, None] + lengths[None] - 2 * rows @ rows.T, 0))
    np.fill_diagonal(potentials, 0.0)
    return float(np.log(potentials.sum() / (n * (n - 1))))


def tolerance(u: np.ndarray, classes: np.ndarray) -> float:
    """Mean cosine of two different rows of one class, in [-1, 1]; every such pair weighs the same.

    Args:
        u: (n, d) float.
        classes: (n,) int class of every row; rows without one (255) are left out.

    Returns:
        NaN where no class has two rows, as for whole images, or all are zeros.

    Source: Wang and Liu, Understanding the Behaviour of Contrastive Loss, CVPR 2021. Explained in notebook 07.
    """
    total, pairs = 0.0, 0
    for index in np.unique(classes[classes != IGNORE]):
        rows = directions(u[classes == index])
        total += np.square(rows.sum(axis=0)).sum() - np.square(rows).sum()  # all pairs less each row with itself
        pairs += len(rows) * (len(rows) - 1)
    return float(total / pairs) if pairs and np.any(u) else np.nan


def compute(latents: Latents, n: int, generator: np.random.Generator) -> dict[str, float]:
    """Alignment of the sensors in each half; uniformity and tolerance of every block.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used.
        generator: draws them.

    Returns:
        ``alignment`` of ``shared`` and ``private``; ``uniformity`` and ``tolerance`` of every block; ``rows``,
        ``images``. A constant block has uniformity 0 and tolerance 1, which is what collapse means here; NaN for one
        of zeros; ``tolerance`` is NaN for whole images.

    Raises:
        ValueError: see ``drawn``.

    Explained in notebook 07.
    """
    latents = drawn(latents, n, generator)
    found = {f"alignment {where}": alignment(*pair) for where, pair in across(latents).items()}
    for name, block in latents.blocks.items():
        found[f"uniformity {name}"] = uniformity(block)
        found[f"tolerance {name}"] = tolerance(block, latents.classes)
    return found | counts(latents)

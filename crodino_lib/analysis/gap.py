"""The modality gap: how far apart the mean directions of two sensors lie.

A gap may be harmless, because a decoder can subtract a constant offset; and sensors of equal means may still differ.
"""

from __future__ import annotations

import numpy as np

from crodino_lib.analysis._common import across, counts, directions, drawn, share_channels
from crodino_lib.analysis.extraction import Latents

MEASURES = ("gap", "gap_scaled")


def modality_gap(u: np.ndarray, v: np.ndarray) -> float:
    """Compute the distance of the mean directions of two sensors, in [0, 2]: ``|mean_i u_i/|u_i| - mean_i v_i/|v_i||``.

    Args:
        u: (n, d) float, one sensor.
        v: (m, d) float, the other.

    Returns:
        NaN where a block is all zeros, which have no direction.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 2. Explained in notebook 07.
    """
    if not (np.any(u) and np.any(v)):
        return np.nan
    return float(np.linalg.norm(directions(u).mean(axis=0) - directions(v).mean(axis=0)))


def scaled_gap(u: np.ndarray, v: np.ndarray) -> float:
    """Divide the gap by the spread of the directions: the root of the summed traces of both covariances.

    Arguments as ``modality_gap``. NaN where a block is all zeros or neither has any spread.
    """
    spread = sum(directions(block).var(axis=0).sum() for block in (u, v))
    return float(modality_gap(u, v) / np.sqrt(spread)) if spread > 1e-12 else np.nan


def compute(latents: Latents, n: int, generator: np.random.Generator) -> dict[str, float]:
    """Compute ``gap`` and ``gap_scaled`` of each half; NaN where the sensors have different numbers of channels."""
    latents = drawn(latents, n, generator)
    found = {}
    for where, (u, v) in across(latents).items():
        measurable = share_channels(u, v)
        found[f"gap {where}"] = modality_gap(u, v) if measurable else np.nan
        found[f"gap_scaled {where}"] = scaled_gap(u, v) if measurable else np.nan
    return found | counts(latents)

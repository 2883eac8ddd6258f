"""Measure the modality gap: how far apart the mean directions of two sensors lie.

A gap may be harmless, because a decoder can subtract a constant offset; and sensors of equal means may still differ.
"""

import numpy as np

from crodino_lib.analysis._common import Result, across, directions, same_width
from crodino_lib.analysis.extraction import Latents


def modality_gap(u: np.ndarray, v: np.ndarray) -> float:
    """Compute ``|mean_i u_i/|u_i| - mean_i v_i/|v_i||`` of two blocks (n, d), in [0, 2]; NaN where one is all zeros.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 2. Explained in notebook 07.
    """
    if not (np.any(u) and np.any(v)):
        return np.nan
    return float(np.linalg.norm(directions(u).mean(axis=0) - directions(v).mean(axis=0)))


def compute(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute ``gap`` of each half; NaN where the sensors have different numbers of channels."""
    pairs = across(latents)
    return [Result("gap", modality_gap(*pair) if same_width(*pair) else np.nan, half=h) for h, pair in pairs.items()]

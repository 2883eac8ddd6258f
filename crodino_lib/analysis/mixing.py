"""Measure whether places of both sensors lie among each other, and those of one class together, in the full space.

Distances are those of rows of length one, whose order is that of cosines.
"""

import numpy as np

from crodino_lib.analysis._common import Result, across, directions, is_constant, same_width
from crodino_lib.analysis.embedding_quality import NEIGHBOURS, class_purity, cross_modality_fraction
from crodino_lib.analysis.extraction import Latents

MEASURES = ("class_purity", "cross_modality", "cross_within_class")


def cross_within_class(points: np.ndarray, sensors: np.ndarray, classes: np.ndarray) -> float:
    """Compute the mean share of neighbours from the other sensor, among the points (2n, d) of a point's own class.

    Without this restriction, classes that only one sensor can tell apart would hide how the sensors mix. 0 where the
    sensors lie apart, about 0.5 where they are mixed. Classes with a single row per sensor are left out; NaN if none is
    left.
    """
    shares = []
    for index in np.unique(classes):
        own = classes == index
        if k := min(NEIGHBOURS, own.sum() // 2 - 1):
            shares += [cross_modality_fraction(points[own], sensors[own], k)] * own.sum()
    return float(np.mean(shares)) if shares else np.nan


def compute(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute neighbour shares of the regions of both sensors, in each half.

    Returns:
        Of the 15 nearest neighbours, or one fewer than there are rows, ``class_purity``: share of the own class;
        ``cross_modality``: share from the other sensor; ``cross_within_class``. NaN where a block is constant, where
        the sensors have different numbers of channels, and with a single row; ``class_purity`` also with one class.
    """
    results = []
    for half, (u, v) in across(latents).items():
        values = [np.nan] * len(MEASURES)
        if same_width(u, v) and not (is_constant(u) or is_constant(v)):
            vectors, rows = latents.stacked(half)
            points, k = directions(vectors), min(NEIGHBOURS, len(latents) - 1)
            sensors, classes = rows["sensor"].to_numpy(), rows["class"].to_numpy()
            purity = class_purity(points, classes, k) if len(np.unique(classes)) > 1 else np.nan
            mixed = cross_modality_fraction(points, sensors, k)
            values = [purity, mixed, cross_within_class(points, sensors, classes)]
        results += [Result(measure, value, half=half) for measure, value in zip(MEASURES, values, strict=True)]
    return results

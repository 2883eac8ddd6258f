"""Whether places of both sensors lie among each other, and those of one class together, in the space itself.

Distances are those of rows of length one, whose order is that of cosines. ``fidelity`` has such numbers beside those of
a two-dimensional picture; they are of standardised channels, as the picture is, and so differ a little from these.
"""

from __future__ import annotations

import numpy as np

from crodino_lib.analysis._common import across, counts, directions, drawn, is_constant, share_channels
from crodino_lib.analysis.embedding_quality import NEIGHBOURS, class_purity, cross_modality_fraction
from crodino_lib.analysis.extraction import Latents
from crodino_lib.data.sample import IGNORE

MEASURES = ("class_purity", "cross_modality", "cross_within_class")


def neighbours(rows: int) -> int:
    """15, or fewer where a point has fewer fellows among the ``rows`` of its own sensor: all could still be of it."""
    return min(NEIGHBOURS, rows - 1)


def cross_within_class(points: np.ndarray, sensors: np.ndarray, classes: np.ndarray) -> float:
    """Mean fraction of neighbours from the other sensor among the neighbours of a point's own class.

    Without this restriction classes that only one sensor tells apart would hide how the sensors mix. 0 where the
    sensors lie apart, about 0.5 where they are mixed.

    Args:
        points: (2n, d) float, as many of each sensor.
        sensors: (2n,) sensor of every point.
        classes: (2n,) class of every point; those without one (255) are left out.

    Returns:
        Mean over points; classes with a single row per sensor have no choice of neighbours and are left out. NaN if
        none is left.
    """
    total, members = 0.0, 0
    for index in np.unique(classes[classes != IGNORE]):
        own = classes == index
        if k := neighbours(own.sum() // 2):
            total += own.sum() * cross_modality_fraction(points[own], sensors[own], k)
            members += own.sum()
    return float(total / members) if members else np.nan


def purity(points: np.ndarray, classes: np.ndarray, k: int) -> float:
    """Mean fraction of the k nearest neighbours of a point's own class; arguments as ``fidelity.class_purity``.

    NaN with one class, where it could not be other than 1, and so for whole images.
    """
    return class_purity(points, classes, k) if len(np.unique(classes)) > 1 else np.nan


def compute(latents: Latents, n: int, generator: np.random.Generator) -> dict[str, float]:
    """How the rows of both sensors and of the classes lie among each other, in each half.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used; each is a point for either sensor.
        generator: draws them.

    Returns:
        ``class_purity``, ``cross_modality`` (share of neighbours from the other sensor) and ``cross_within_class`` of
        ``shared`` and ``private``, with 15 neighbours or one fewer than there are rows; ``rows``, ``images``. NaN where
        a block is constant, where the sensors have different numbers of channels, and with a single row; those of
        classes also with one class or whole images, but ``cross_within_class`` needs only one class.

    Raises:
        ValueError: see ``drawn``.

    Explained in notebook 07.
    """
    latents = drawn(latents, n, generator)
    found = {}
    for half, pair in across(latents).items():
        measurable = share_channels(*pair) and not any(map(is_constant, pair))
        measured = _measures(latents, half) if measurable else dict.fromkeys(MEASURES, np.nan)
        found |= {f"{name} {half}": value for name, value in measured.items()}
    return found | counts(latents)


def _measures(latents: Latents, half: str) -> dict[str, float]:
    """Every measure of a half whose blocks are not constant."""
    vectors, rows = latents.stacked(half)
    points, k = directions(vectors), neighbours(len(latents))
    sensors, classes = np.repeat([0, 1], len(latents)), rows["class"].to_numpy()
    values = (
        purity(points, classes, k),
        cross_modality_fraction(points, sensors, k),
        cross_within_class(points, sensors, classes),
    )
    return dict(zip(MEASURES, values, strict=True))

"""Whether places of both sensors lie among each other, and those of one class together, in the space itself.

Distances are those of rows of length one, whose order is that of cosines. ``fidelity`` has such numbers beside those of
a two-dimensional picture; they are of standardised channels, as the picture is, and so differ a little from these.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from crodino_lib.analysis._common import across, counts, directions, drawn, is_constant, share_channels
from crodino_lib.analysis.embedding_quality import NEIGHBOURS, class_purity, cross_modality_fraction
from crodino_lib.analysis.extraction import Latents
from crodino_lib.data.sample import IGNORE

MEASURES = ("class_purity", "cross_modality", "cross_within_class", "ilisi", "silhouette_class", "silhouette_sensor")


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


def ilisi(points: np.ndarray, sensors: np.ndarray, k: int) -> float:
    """How many sensors a neighbourhood holds, from 1 (apart) to 2: mean inverse Simpson index of k neighbours.

    Neighbours count alike, unlike in the paper, so few of them do not reach 2: evenly mixed sensors have 1.89 in the
    mean with k = 15.

    Args:
        points: (n, d) float.
        sensors: (n,) sensor of every point.
        k: neighbours looked at, fewer than n.

    Source: Korsunsky et al., Harmony, Nature Methods 2019. Explained in notebook 07.
    """
    found = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
    fractions = [(sensors[found] == name).mean(axis=1) for name in np.unique(sensors)]
    return float((1 / np.square(fractions).sum(axis=0)).mean())


def silhouette(points: np.ndarray, groups: np.ndarray) -> float:
    """How much nearer points are to their own group than to the next, in [-1, 1], by cosine; 0 is no structure.

    Args:
        points: (n, d) float.
        groups: (n,) group of every point; those without one (255) are left out.

    Returns:
        NaN with one group, or as many groups as points.

    Source: Rousseeuw, 1987; ``sklearn.metrics.silhouette_score``.
    """
    known = groups != IGNORE
    points, groups = points[known], groups[known]
    if not 1 < len(np.unique(groups)) < len(points):
        return np.nan
    return float(silhouette_score(points, groups, metric="cosine"))


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
        ``class_purity``, ``cross_modality`` (fraction of neighbours from the other sensor), ``cross_within_class``,
        ``ilisi``, ``silhouette_class`` and ``silhouette_sensor`` of ``shared`` and ``private``, with 15 neighbours or
        one fewer than there are rows; ``rows``, ``images``. All NaN where a block is constant, as neighbours are then
        chosen by nothing, where the sensors have different numbers of channels, and with a single row; those of classes
        NaN with one class or whole images, but ``cross_within_class`` needs only one class.

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
        ilisi(points, sensors, k),
        silhouette(points, classes),
        silhouette(points, sensors),
    )
    return dict(zip(MEASURES, values, strict=True))

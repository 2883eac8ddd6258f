"""How far a two-dimensional picture can be believed.

Distances are Euclidean. For a picture made with cosine distances give rows of length one, whose Euclidean ranks are
their cosine ranks.
"""

from __future__ import annotations

import numpy as np
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 15


def trustworthiness(high: np.ndarray, low: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Whether neighbours in the picture are neighbours in truth: 1 if all are.

    Args:
        high: (n, d) float, the space itself.
        low: (n, 2) float, the picture.
        k: neighbours looked at, fewer than n / 2.

    Source: Venna and Kaski, 2001; ``sklearn.manifold.trustworthiness``.
    """
    return float(sklearn_trustworthiness(high, low, n_neighbors=k))


def continuity(high: np.ndarray, low: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Whether neighbours in truth are neighbours in the picture: 1 if all are. Arguments as ``trustworthiness``.

    Source: Venna and Kaski, 2001; trustworthiness with the roles of both spaces swapped.
    """
    return trustworthiness(low, high, k)


def class_purity(points: np.ndarray, classes: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Mean fraction of the k nearest neighbours that are of a point's own class, in [0, 1].

    Args:
        points: (n, d) float.
        classes: (n,) class of every point.
        k: neighbours looked at, fewer than n.
    """
    classes = np.asarray(classes)
    neighbours = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)  # never a point itself
    return float((classes[neighbours] == classes[:, None]).mean())


def cross_modality_fraction(points: np.ndarray, sensors: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Mean fraction of the k nearest neighbours that come from another sensor.

    About 0.5 where two equally frequent sensors are mixed, 0 where they lie apart.

    Args:
        points: (n, d) float.
        sensors: (n,) sensor of every point.
        k: neighbours looked at, fewer than n.

    Raises:
        ValueError: all points come from one sensor.
    """
    if len(found := np.unique(sensors)) < 2:
        raise ValueError(f"neighbours from another sensor need two sensors in one picture, found only {found.tolist()}")
    return 1.0 - class_purity(points, sensors, k)

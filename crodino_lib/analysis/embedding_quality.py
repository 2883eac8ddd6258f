"""How far a two-dimensional picture can be believed.

Distances are Euclidean. For a picture made with cosine distances give rows of length one, whose Euclidean ranks are
their cosine ranks. Trustworthiness, continuity and co-ranking compare ranks alone: those of the latent space are
found once, however many pictures of it are judged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist, pdist
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

NEIGHBOURS = 15
MOST_PAIRS = 100_000  # of points whose distances are compared: the correlation is known to about 0.003
MISLEADING = 0.1  # a share of neighbours that changes more from the space to the picture


class Space(NamedTuple):
    """A latent space with all that pictures of it are compared with, computed once.

    Attributes:
        vectors: (n, d) float64 of length one, whose Euclidean ranks are the cosine ranks that UMAP sees.
        rows: ``sensor`` and ``class`` of every point.
        k: neighbours looked at: 15, fewer where there are not more than 30 points.
        ranks: from ``ranks``.
        pairs: from ``some_pairs``.
        cross_modality: share of neighbours from another sensor.
        class_purity: share of neighbours of the same class.
    """

    vectors: np.ndarray
    rows: pd.DataFrame
    k: int
    ranks: np.ndarray
    pairs: np.ndarray
    cross_modality: float
    class_purity: float

    @classmethod
    def of(cls, vectors: np.ndarray, rows: pd.DataFrame, generator: np.random.Generator) -> Space:
        """The space of standardised vectors.

        Args:
            vectors: (n, d) float, before PCA: what PCA loses counts against the picture.
            rows: ``sensor`` and ``class`` of every point.
            generator: of the pairs whose distances are compared.

        Raises:
            ValueError: all points come from one sensor.
        """
        vectors = normalize(vectors)
        k = min(NEIGHBOURS, (len(vectors) - 1) // 2)  # trustworthiness is defined below n / 2
        mixed = cross_modality_fraction(vectors, rows["sensor"], k)
        pure = class_purity(vectors, rows["class"], k)
        pairs = some_pairs(len(vectors), MOST_PAIRS, generator)
        return cls(vectors, rows, k, ranks(vectors), pairs, mixed, pure)

    def fidelity(self, picture: np.ndarray) -> dict[str, float | bool]:
        """The numbers that every picture is printed with.

        Args:
            picture: (n, 2) float.
        """
        seen, groups = ranks(picture), self.rows.groupby(["class", "sensor"]).ngroup().to_numpy()
        found = {
            "points": len(picture),
            "k": self.k,
            "trustworthiness": trustworthiness(self.ranks, seen, self.k),
            "continuity": continuity(self.ranks, seen, self.k),
            "rnx_auc": rnx_auc(rnx(self.ranks, seen)),
            "distance_spearman": distance_spearman(self.vectors, picture, self.pairs),
            "centroid_spearman": centroid_spearman(self.vectors, picture, groups),
            "cross_modality_hd": self.cross_modality,
            "cross_modality_2d": cross_modality_fraction(picture, self.rows["sensor"], self.k),
            "class_purity_hd": self.class_purity,
            "class_purity_2d": class_purity(picture, self.rows["class"], self.k),
            "islands": islands(picture, groups),
        }
        changes = [abs(found[f"{what}_hd"] - found[f"{what}_2d"]) for what in ("cross_modality", "class_purity")]
        return found | {"misleads": max(changes) > MISLEADING}


def ranks(points: np.ndarray) -> np.ndarray:
    """How near every point is to every other: 1 for the nearest neighbour, 2 for the next, 0 for the point itself.

    Args:
        points: (n, d) float; of equally near ones the first comes first.

    Returns:
        (n, n) integers: row i holds the ranks of all points as seen from i. 2 n² bytes up to 65,536 points.
    """
    distances = cdist(points, points, "sqeuclidean")  # exact, so that equal points are equally near
    np.fill_diagonal(distances, -1.0)  # a point is its own nearest, even if another equals it
    order = distances.argsort(axis=1, kind="stable")
    found = np.empty(order.shape, np.min_scalar_type(len(points)))
    np.put_along_axis(found, order, np.arange(len(points), dtype=found.dtype)[None], axis=1)
    return found


def trustworthiness(high: np.ndarray, low: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Whether neighbours in the picture are neighbours in truth: 1 if all are.

    Args:
        high: (n, n) ranks in the space itself, from ``ranks``.
        low: (n, n) ranks in the picture.
        k: neighbours looked at, fewer than n / 2.

    Source: Venna and Kaski, 2001. Explained in notebook 07.
    """
    n = len(high)
    neighbours = (low > 0) & (low <= k)
    intrusions = np.maximum(high[neighbours].astype(np.int64) - k, 0).sum()
    return float(1 - 2 / (n * k * (2 * n - 3 * k - 1)) * intrusions)


def continuity(high: np.ndarray, low: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Whether neighbours in truth are neighbours in the picture: 1 if all are. Arguments as ``trustworthiness``.

    Source: Venna and Kaski, 2001; trustworthiness with the roles of both spaces swapped.
    """
    return trustworthiness(low, high, k)


def rnx(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """How many neighbours the space and the picture have in common at every k: 1 is all, 0 as many as by chance.

    ``R(k) = ((n - 1) Q(k) - k) / (n - 1 - k)``, where Q is the mean share of the k nearest that are in common.

    Args:
        high: (n, n) ranks in the space itself, from ``ranks``.
        low: (n, n) ranks in the picture.

    Returns:
        (n - 2,) float64, for k = 1, ..., n - 2.

    Source: Lee, Peluffo-Ordóñez and Verleysen, 2015, after Lee and Verleysen, 2009.
    """
    n = len(high)
    farther = np.maximum(high, low)  # a pair is in common from this k on
    common = np.cumsum(np.bincount(farther.ravel(), minlength=n)[1:-1])
    k = np.arange(1, n - 1)
    return ((n - 1) * common / (n * k) - k) / (n - 1 - k)


def rnx_auc(curve: np.ndarray) -> float:
    """Mean of R(k) with weights 1 / k: small neighbourhoods count most, as on a logarithmic axis.

    Args:
        curve: from ``rnx``.

    Source: Lee, Peluffo-Ordóñez and Verleysen, 2015.
    """
    return float(np.average(curve, weights=1 / np.arange(1, len(curve) + 1)))


def some_pairs(n: int, most: int, generator: np.random.Generator) -> np.ndarray:
    """Pairs of different points: all of them, or ``most`` drawn with equal chances, with replacement.

    Returns:
        (P, 2) int, the first smaller than the second.
    """
    if n * (n - 1) // 2 <= most:
        return np.stack(np.triu_indices(n, 1), axis=1)
    first = generator.integers(n, size=most)
    second = (first + generator.integers(1, n, size=most)) % n
    return np.sort(np.stack([first, second], axis=1), axis=1)


def distance_spearman(high: np.ndarray, low: np.ndarray, pairs: np.ndarray) -> float:
    """Rank correlation of the distances of pairs of points: whether what is far in truth is far in the picture.

    Args:
        high: (n, d) float, the space itself.
        low: (n, 2) float, the picture.
        pairs: (P, 2) int, which distances to compare.

    Returns:
        In [-1, 1]; NaN where all distances of one side are equal.
    """
    one, other = pairs.T
    far = [np.linalg.norm(points[one] - points[other], axis=1) for points in (high, low)]
    return _spearman(*far)


def centroid_spearman(high: np.ndarray, low: np.ndarray, groups: np.ndarray) -> float:
    """Rank correlation of the distances between centroids of groups: whether islands lie as the groups do in truth.

    Args:
        high: (n, d) float, the space itself.
        low: (n, 2) float, the picture.
        groups: (n,) group of every point, such as its class and sensor.

    Returns:
        In [-1, 1]; NaN with fewer than three groups, which have one distance or none.
    """
    far = [pdist(pd.DataFrame(points).groupby(np.asarray(groups)).mean()) for points in (high, low)]
    return _spearman(*far)


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one, other).statistic)


def islands(picture: np.ndarray, groups: np.ndarray) -> float:
    """How clean the islands of a picture are: its silhouette by groups, in [-1, 1]. Beauty, and no merit.

    Args:
        picture: (n, 2) float.
        groups: (n,) group of every point: its class and sensor.

    Returns:
        NaN with one group, or as many groups as points.

    Source: Rousseeuw, 1987; ``sklearn.metrics.silhouette_score``.
    """
    if not 1 < len(np.unique(groups)) < len(picture):
        return float("nan")
    return float(silhouette_score(picture, groups))


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

"""Measure how far a two-dimensional embedding of a latent space can be trusted.

Distances are Euclidean. Give rows of length one, whose Euclidean ranks are their cosine ranks, where cosines are meant.
"""

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

NEIGHBOURS = 15
MISLEADING = 0.1  # a share of neighbours that changes more from the latent space to the embedding
MEASURES = ["trustworthiness", "continuity", "rnx_auc"]
MEASURES += ["cross_modality_hd", "cross_modality_2d", "class_purity_hd", "class_purity_2d", "islands"]


class EmbeddingReference:
    """A latent space and what all its embeddings are compared with, computed once.

    ``vectors`` (n, d) are standardised but before PCA: what PCA loses counts against the embedding. ``rows`` have
    ``sensor`` (two or more) and ``class`` of every point.
    """

    def __init__(self, vectors: np.ndarray, rows: pd.DataFrame):
        self.vectors, self.rows = normalize(vectors), rows  # of length one: the ranks are the cosine ranks UMAP uses
        self.k = min(NEIGHBOURS, (len(vectors) - 1) // 2)  # trustworthiness is defined below n / 2
        self.cross_modality = cross_modality_fraction(self.vectors, rows["sensor"], self.k)
        self.class_purity = class_purity(self.vectors, rows["class"], self.k)
        self.ranks = ranks(self.vectors)

    def quality(self, embedding: np.ndarray) -> dict[str, float | bool]:
        """Compute the numbers that are printed with every embedding (n, 2), of the ``k`` nearest neighbours.

        ``trustworthiness``: neighbours in the embedding are neighbours in the latent space; ``continuity``: the
        reverse; ``rnx_auc``; neighbour shares in both spaces (``_hd``, ``_2d``); ``islands``; ``misleads``: a neighbour
        share changes by more than 0.1. Source: Venna and Kaski, 2001. Explained in notebook 07.
        """
        values = {
            "points": len(embedding),
            "k": self.k,
            "trustworthiness": trustworthiness(self.vectors, embedding, n_neighbors=self.k),
            "continuity": trustworthiness(embedding, self.vectors, n_neighbors=self.k),
            "rnx_auc": rnx_auc(rnx(self.ranks, ranks(embedding))),
            "cross_modality_hd": self.cross_modality,
            "cross_modality_2d": cross_modality_fraction(embedding, self.rows["sensor"], self.k),
            "class_purity_hd": self.class_purity,
            "class_purity_2d": class_purity(embedding, self.rows["class"], self.k),
            "islands": islands(embedding, self.rows.groupby(["class", "sensor"]).ngroup().to_numpy()),
        }
        changes = [abs(values[f"{name}_hd"] - values[f"{name}_2d"]) for name in ("cross_modality", "class_purity")]
        return values | {"misleads": max(changes) > MISLEADING}


def ranks(points: np.ndarray) -> np.ndarray:
    """Rank all points (n, d) by their distance from every point: 1 for the nearest neighbour, 0 for the point itself.

    Row i of the (n, n) integers holds the ranks as seen from i; of equally near points the first comes first.
    """
    distances = cdist(points, points, "sqeuclidean")  # exact, so that equal points are equally near
    np.fill_diagonal(distances, -1.0)  # a point is its own nearest, even if another equals it
    return (rankdata(distances, "ordinal", axis=1) - 1).astype(np.min_scalar_type(len(points)))


def rnx(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Compute the share of neighbours in common, above chance, at every k: 1 is all, 0 as many as by chance.

    ``R(k) = ((n - 1) Q(k) - k) / (n - 1 - k)``, where Q is the mean share of the k nearest that are in common. ``high``
    and ``low`` are the (n, n) ranks in both spaces; the result is for k = 1, ..., n - 2.

    Source: Lee, Peluffo-Ordóñez and Verleysen, 2015, after Lee and Verleysen, 2009.
    """
    n, k = len(high), np.arange(1, len(high) - 1)
    farther = np.maximum(high, low)  # a pair is in common from this k on
    common = np.cumsum(np.bincount(farther.ravel(), minlength=n)[1:-1])
    return ((n - 1) * common / (n * k) - k) / (n - 1 - k)


def rnx_auc(curve: np.ndarray) -> float:
    """Compute the mean of R(k), from ``rnx``, with weights 1 / k: small neighbourhoods count most."""
    return float(np.average(curve, weights=1 / np.arange(1, len(curve) + 1)))


def islands(embedding: np.ndarray, groups: np.ndarray) -> float:
    """Compute how clean the islands of an embedding are: its silhouette by groups, in [-1, 1]. Beauty, not quality.

    NaN with one group, or as many groups as points. Source: Rousseeuw, 1987.
    """
    if not 1 < len(np.unique(groups)) < len(embedding):
        return np.nan
    return float(silhouette_score(embedding, groups))


def class_purity(points: np.ndarray, classes: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Compute the mean share of the k < n nearest neighbours that are of a point's own class, in [0, 1]."""
    classes = np.asarray(classes)
    return float((classes[nearest_neighbours(points, k)] == classes[:, None]).mean())


def nearest_neighbours(points: np.ndarray, k: int) -> np.ndarray:
    """Return (n, k): the k < n nearest neighbours of each point, nearest first, never a point itself."""
    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)


def cross_modality_fraction(points: np.ndarray, sensors: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Compute the mean share of the k nearest neighbours that come from another sensor; ValueError for a single one.

    About 0.5 where two equally frequent sensors are mixed, 0 where they lie apart.
    """
    if len(names := np.unique(sensors)) < 2:
        raise ValueError(f"neighbours from another sensor need points of two sensors, found only {names.tolist()}")
    return 1.0 - class_purity(points, sensors, k)

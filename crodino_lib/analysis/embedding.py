"""From the vectors of a half to two dimensions: what is wrong with them, standardised, PCA, UMAP."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from crodino_lib.analysis.collapse import spread

PCA_DIMENSIONS = 50
ROUNDING = 1e-6  # deviation of a channel in units of its largest value: less is float32 rounding
COLLAPSED = "collapsed"
NEARLY_COLLAPSED = 0.01  # deviation of a sensor's vectors in units of their length


def condition(vectors: np.ndarray, sensors: Iterable[str]) -> str:
    """What is wrong with the vectors of a half, in words; nothing where a picture can show them.

    A half collapses where every sensor says one thing whatever it sees: a constant offset between sensors is left.

    Args:
        vectors: (n, d) float.
        sensors: (n,) sensor of every vector.

    Returns:
        Starts with ``collapsed`` where there is nothing to embed.
    """
    if (bad := int((~np.isfinite(vectors).all(axis=1)).sum())) > 0:
        return f"{COLLAPSED}: {bad} of {len(vectors)} vectors are not finite"
    grouped = [vectors[np.asarray(sensors) == sensor].astype(np.float64) for sensor in np.unique(sensors)]
    if not any(_varies(part).any() for part in grouped):
        return f"{COLLAPSED}: all vectors{' of a sensor' if _varies(vectors).any() else ''} are equal"
    widest = max(spread(part) for part in grouped if part.any())
    return f"nearly collapsed: vectors deviate by {widest:.1%} of their length" if widest < NEARLY_COLLAPSED else ""


def standardised(vectors: np.ndarray) -> np.ndarray:
    """Channels of mean 0 and deviation 1 over both sensors together, which keeps any offset between them.

    A channel that varies by rounding alone is left out: it would come out as large as the others.
    """
    return StandardScaler().fit_transform(vectors[:, _varies(vectors)].astype(np.float64))


def _varies(vectors: np.ndarray) -> np.ndarray:
    """(d,) bool: channels that vary by more than rounding."""
    return vectors.std(axis=0, dtype=np.float64) > ROUNDING * np.abs(vectors).max(axis=0)


def principal(high: np.ndarray) -> np.ndarray:
    """The first 50 principal components, fewer of smaller data and never fewer than two; no randomness."""
    found = PCA(min(PCA_DIMENSIONS, *high.shape), svd_solver="full").fit_transform(high)
    return np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))


def embed(distances: np.ndarray, seed: int, n_neighbors: int, min_dist: float) -> tuple[np.ndarray, str]:
    """UMAP of cosine distances.

    Args:
        distances: (n, n) cosine distances of the principal components; found once, as every seed needs the same.
        seed: of UMAP.
        n_neighbors: UMAP's; lowered to n - 1 where there are fewer points.
        min_dist: UMAP's.

    Returns:
        (n, 2) float64, and a remark where UMAP could not start from the graph's spectrum. Distances between islands,
        their sizes and the gaps between them mean nothing.
    """
    from umap import UMAP  # compiles on import: seconds that only pictures should cost

    umap = UMAP(
        n_neighbors=min(n_neighbors, len(distances) - 1),
        min_dist=min_dist,
        metric="precomputed",
        init="spectral",
        random_state=seed,
        n_jobs=1,  # what a fixed seed implies
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        low = umap.fit_transform(distances).astype(np.float64)
    failed = any("Spectral initialisation failed" in str(warning.message) for warning in heard)
    return low, "UMAP started at random, its spectral start failed" if failed else ""

"""The latent manifolds in two dimensions: UMAP, with the numbers that say how far to believe it.

Shared halves of both sensors are embedded together, private halves together, never shared with private: these have no
common basis, and any joint picture of them, even of an untrained network, shows clean islands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize

from crodino_lib.latents.extraction import Latents
from crodino_lib.latents.fidelity import (
    NEIGHBOURS,
    class_purity,
    continuity,
    cross_modality_fraction,
    trustworthiness,
)

FEWEST_POINTS = 10
PCA_DIMENSIONS = 50


class Manifolds(NamedTuple):
    """Embeddings and their fidelity.

    Attributes:
        points: one row per point: ``model``, ``half``, ``sensor``, ``image``, ``class``, ``name``, ``x``, ``y``. Keep
            it with the figure: equal seeds give equal pictures on one machine only.
        table: one row per model and half: ``points``, ``seed``, ``k``, ``trustworthiness``, ``continuity``, and
            ``cross_modality`` and ``class_purity`` in the latent space (``_hd``) and in the picture (``_2d``).
    """

    points: pd.DataFrame
    table: pd.DataFrame


def fit_manifolds(models: Mapping[str, Latents], seed: int, n_neighbors: int = 30, min_dist: float = 0.1) -> Manifolds:
    """One picture per model and half of the bottleneck, with both sensors in it.

    Args:
        models: name -> latents, such as ``trained`` and ``untrained``; the second is what tells structure that was
            learnt from structure that any network has. Give balanced samples of the same regions.
        seed: of UMAP.
        n_neighbors: UMAP's; lowered to n - 1 where there are fewer points.
        min_dist: UMAP's.

    Raises:
        ValueError: too few points, one sensor only, or a half whose vectors are all equal.
    """
    points, table = [], []
    for model, latents in models.items():
        rows = pd.concat([latents.rows.assign(sensor=sensor) for sensor in latents.sensors], ignore_index=True)
        for half in latents.halves:
            vectors = np.concatenate([latents.blocks[f"{sensor}/{half}"] for sensor in latents.sensors])
            high = standardised(vectors, f"{half} half of {model}")
            low = embed(high, seed, n_neighbors, min_dist)
            named = rows.assign(model=model, half=half, x=low[:, 0], y=low[:, 1])
            points.append(named[["model", "half", "sensor", "image", "class", "name", "x", "y"]])
            table.append({"model": model, "half": half, "seed": seed} | fidelity(high, low, rows))
    return Manifolds(pd.concat(points, ignore_index=True), pd.DataFrame(table))


def standardised(vectors: np.ndarray, what: str) -> np.ndarray:
    """Channels of mean 0 and deviation 1 over both sensors together, which keeps any offset between them.

    Raises:
        ValueError: fewer than ``FEWEST_POINTS`` vectors, or all of them equal; names ``what``.
    """
    if len(vectors) < FEWEST_POINTS:
        raise ValueError(
            f"the {what} has {len(vectors)} points; a picture needs at least {FEWEST_POINTS}: use more scenes"
        )
    if not vectors.std(axis=0).any():
        raise ValueError(
            f"the {what} has collapsed: all {len(vectors)} vectors are equal, so there is nothing to embed"
        )
    return StandardScaler().fit_transform(vectors.astype(np.float64))


def embed(high: np.ndarray, seed: int, n_neighbors: int, min_dist: float) -> np.ndarray:
    """PCA to at most 50 dimensions, then UMAP on cosine distances.

    Args:
        high: (n, d) standardised vectors.
        seed: of UMAP.
        n_neighbors: UMAP's; lowered to n - 1 where there are fewer points.
        min_dist: UMAP's.

    Returns:
        (n, 2) float64. Distances between islands, their sizes and the gaps between them mean nothing.
    """
    from umap import UMAP  # compiles on import: seconds that only pictures should cost

    reduced = PCA(min(PCA_DIMENSIONS, *high.shape), random_state=seed).fit_transform(high)
    umap = UMAP(
        n_neighbors=min(n_neighbors, len(high) - 1),
        min_dist=min_dist,
        metric="cosine",
        init="spectral",
        random_state=seed,
        n_jobs=1,  # what a fixed seed implies
    )
    return umap.fit_transform(reduced).astype(np.float64)


def fidelity(high: np.ndarray, low: np.ndarray, rows: pd.DataFrame) -> dict[str, float]:
    """Numbers that every picture is printed with.

    Args:
        high: (n, d) standardised vectors, before PCA: what PCA loses counts against the picture.
        low: (n, 2) embedding.
        rows: ``sensor`` and ``class`` of every point.
    """
    high = normalize(high)  # Euclidean ranks are now the cosine ranks that UMAP saw
    k = min(NEIGHBOURS, (len(high) - 1) // 2)  # trustworthiness is defined below n / 2
    found = {
        "points": len(high),
        "k": k,
        "trustworthiness": trustworthiness(high, low, k),
        "continuity": continuity(high, low, k),
    }
    for space, points in (("hd", high), ("2d", low)):
        found[f"cross_modality_{space}"] = cross_modality_fraction(points, rows["sensor"], k)
        found[f"class_purity_{space}"] = class_purity(points, rows["class"], k)
    return found

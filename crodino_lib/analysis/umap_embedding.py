"""Embed latents in two dimensions by UMAP and PCA, with the numbers that tell how far to trust the embedding.

Shared halves of both sensors are embedded together, private halves together, never shared with private: these have no
common basis, and any joint embedding of them, even of an untrained network, shows clean islands.
"""

import warnings
from collections.abc import Iterable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_distances
from sklearn.preprocessing import StandardScaler

from crodino_lib.analysis._common import spread
from crodino_lib.analysis.embedding_quality import MEASURES, EmbeddingReference
from crodino_lib.analysis.extraction import Latents
from crodino_lib.io import atomic_write, bar, load_npz

FEWEST_POINTS = 10
PCA_DIMENSIONS = 50
ROUNDING = 1e-6  # deviation of a channel in units of its largest value: less is float32 rounding
COLLAPSED = "collapsed"
NEARLY_COLLAPSED = 0.01  # deviation of a sensor's vectors in units of their length
POINT_COLUMNS = ["model", "half", "embedding", "sensor", "image", "class", "name", "x", "y"]


class Embeddings(NamedTuple):
    """Embeddings and their quality. Keep the points with a figure: equal seeds give equal ones on one machine only.

    Attributes:
        points: one row per point, with ``POINT_COLUMNS``; ``embedding`` is ``UMAP`` or ``PCA``.
        table: one row per model, half and embedding: ``points``, ``seed`` (missing for PCA), ``seeds`` (how many were
            fitted), the numbers of ``EmbeddingReference.quality``, ``disparity`` between the seeds, and ``remark``:
            empty, or what is wrong with the half. A collapsed half has no points and no measures.
    """

    points: pd.DataFrame
    table: pd.DataFrame

    @classmethod
    def concat(cls, models: Mapping[str, Self]) -> Self:
        """Join embeddings of single models of the same places, under the names given here."""
        tables = zip(*[[table.assign(model=name) for table in part] for name, part in models.items()], strict=True)
        return cls(*[pd.concat(parts, ignore_index=True) for parts in tables])

    def save(self, path: Path) -> Path:
        """Write both tables into one ``.npz`` file, atomically and without pickles."""
        arrays = {}
        for table, frame in self._asdict().items():
            for name, values in frame.items():
                values = values.to_numpy(float, na_value=np.nan) if values.dtype == "Int64" else values.to_numpy()
                arrays[f"{table}/{name}"] = values if values.dtype.kind in "biuf" else values.astype(str)
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote; ValueError for any other file."""
        columns = {table: {} for table in cls._fields}
        with load_npz(path) as file:
            for key in file.files:
                table, _, column = key.partition("/")
                columns.get(table, {})[column] = file[key]
        if missing := [table for table, held in columns.items() if not held]:
            raise ValueError(f"{path} has no {', '.join(missing)}: not saved embeddings")
        points, table = (pd.DataFrame(columns[name]) for name in cls._fields)
        return cls(points, table.astype({"seed": "Int64", "k": "Int64"}))


def fit_embeddings(
    latents: Latents,
    seeds: Iterable[int] = range(5),
    n: int = 4000,
    n_neighbors: int = 30,
    min_dist: float = 0.1,
    sample_seed: int = 0,
) -> Embeddings:
    """Embed every half of a model, both sensors together: by UMAP, and by PCA as a second opinion.

    Of the UMAP fits the one of median trustworthiness is returned, never the prettiest. ``model`` stays empty.

    Args:
        latents: regions of one model.
        seeds: of UMAP.
        n: most points, all sensors together.
        n_neighbors: of UMAP; lowered to n - 1 where there are fewer points.
        min_dist: of UMAP.
        sample_seed: of the sample of rows; equal seeds choose the same rows of every model.

    Raises:
        ValueError: no seeds, too few points, or one sensor only.
    """
    seeds = list(seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one, and five to know how stable the embeddings are")
    latents = sample_points(latents, n, sample_seed)
    points, rows = [], []
    for half in latents.halves:
        vectors, places = latents.stacked(half)
        places = places.assign(model="", half=half)
        remark = describe_collapse(vectors, places["sensor"])
        if remark.startswith(COLLAPSED):
            rows += [{"half": half, "embedding": name, "points": 0, "remark": remark} for name in ("UMAP", "PCA")]
            continue
        high = standardise(vectors)
        reference, components = EmbeddingReference(high, places), principal_components(high)
        fits = umap_fits(reference, components, seeds, n_neighbors, min_dist)
        best = median_position([quality["trustworthiness"] for _, quality in fits])
        flat = components[:, :2], reference.quality(components[:, :2]) | {"remark": ""}
        for name, (low, quality) in {"UMAP": fits[best], "PCA": flat}.items():
            both = ", ".join(filter(None, (remark, quality["remark"])))
            rows.append({"half": half, "embedding": name} | quality | {"remark": both})
            points.append(places.assign(embedding=name, x=low[:, 0], y=low[:, 1])[POINT_COLUMNS])
    table = quality_table(rows, "half", "embedding").assign(seeds=len(seeds))
    table.insert(0, "model", "")
    return Embeddings(pd.concat(points) if points else pd.DataFrame(columns=POINT_COLUMNS), table)


def sweep(
    latents: Latents,
    seeds: Iterable[int] = range(5),
    n_neighbors: Iterable[int] = (15, 30, 50, 100),
    min_dist: Iterable[float] = (0.1, 0.5),
    n: int = 2000,
) -> pd.DataFrame:
    """Measure how much of an embedding is due to UMAP's settings and seed: ``Embeddings.table`` for every setting."""
    tables = []
    for k, distance in bar(list(product(n_neighbors, min_dist)), label="settings", unit="setting"):
        table = fit_embeddings(latents, seeds, n, k, distance).table
        tables.append(table[table["embedding"] == "UMAP"].assign(n_neighbors=k, min_dist=distance))
    return pd.concat(tables, ignore_index=True).drop(columns=["model", "embedding"])


def umap_fits(
    reference: EmbeddingReference, components: np.ndarray, seeds: list[int], n_neighbors: int, min_dist: float
) -> list[tuple[np.ndarray, dict]]:
    """Fit UMAP with every seed; return each embedding (n, 2) with its seed, quality, remark, and their disparity."""
    distances, fits = cosine_distances(components), []
    for seed in bar(seeds, label="UMAP", unit="seed"):
        low, remark = umap_2d(distances, seed, n_neighbors, min_dist)
        fits.append((low, {"seed": seed} | reference.quality(low) | {"remark": remark}))
    spread_of_seeds = disparity([low for low, _ in fits])
    return [(low, quality | {"disparity": spread_of_seeds}) for low, quality in fits]


def umap_2d(distances: np.ndarray, seed: int, n_neighbors: int, min_dist: float) -> tuple[np.ndarray, str]:
    """Embed (n, n) cosine distances by UMAP; return (n, 2) float64, and a remark where the spectral start failed.

    Distances between islands, their sizes and the gaps between them mean nothing.
    """
    from umap import UMAP  # compiles on import: seconds that only embeddings should cost

    umap = UMAP(
        n_neighbors=min(n_neighbors, len(distances) - 1),
        min_dist=min_dist,
        metric="precomputed",
        init="spectral",
        random_state=seed,
        n_jobs=1,  # what a fixed seed implies
    )
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        low = umap.fit_transform(distances).astype(np.float64)
    failed = any("Spectral initialisation failed" in str(warning.message) for warning in raised)
    return low, "UMAP started at random, its spectral start failed" if failed else ""


def median_position(values: list[float]) -> int:
    """Return the position of the median; of an even number that of the lower of the two medians."""
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def disparity(embeddings: list[np.ndarray]) -> float:
    """Compute the mean Procrustes disparity of all pairs of embeddings: 0 is the same, 1 unrelated, NaN for one."""
    pairs = list(combinations(embeddings, 2))
    return float(np.mean([procrustes(one, other)[2] for one, other in pairs])) if pairs else float("nan")


def sample_points(latents: Latents, n: int, seed: int) -> Latents:
    """Draw rows so that all sensors together have at most ``n`` points (ValueError: fewer than 10).

    Equal seeds choose the same rows of every model.
    """
    sampled = latents.sample(n // len(latents.sensors), np.random.default_rng(seed))
    if (points := len(sampled) * len(latents.sensors)) < FEWEST_POINTS:
        raise ValueError(
            f"there are {points} points; an embedding needs {FEWEST_POINTS}: use more scenes, or a larger n"
        )
    return sampled


def describe_collapse(vectors: np.ndarray, sensors: Iterable[str]) -> str:
    """Describe what is wrong with the vectors (n, d) of a half; empty where they can be embedded.

    A half collapses where every sensor has one vector for all inputs: a constant offset between sensors is left. The
    description then starts with ``collapsed``.
    """
    if (bad := int((~np.isfinite(vectors).all(axis=1)).sum())) > 0:
        return f"{COLLAPSED}: {bad} of {len(vectors)} vectors are not finite"
    parts = [vectors[np.asarray(sensors) == sensor].astype(np.float64) for sensor in np.unique(sensors)]
    if not any(_varying(part).any() for part in parts):
        return f"{COLLAPSED}: all vectors{' of a sensor' if _varying(vectors).any() else ''} are equal"
    widest = max(spread(part) for part in parts if part.any())
    return f"nearly collapsed: vectors deviate by {widest:.1%} of their length" if widest < NEARLY_COLLAPSED else ""


def standardise(vectors: np.ndarray) -> np.ndarray:
    """Scale channels to mean 0 and deviation 1 over both sensors together, which keeps any offset between them.

    Channels that vary by rounding alone are left out: they would become as large as the others.
    """
    return StandardScaler().fit_transform(vectors[:, _varying(vectors)].astype(np.float64))


def _varying(vectors: np.ndarray) -> np.ndarray:
    """Return (d,) bool: channels that vary by more than rounding."""
    return vectors.std(axis=0, dtype=np.float64) > ROUNDING * np.abs(vectors).max(axis=0)


def principal_components(high: np.ndarray) -> np.ndarray:
    """Return the first 50 principal components, fewer of smaller data and never fewer than two; no randomness."""
    components = PCA(min(PCA_DIMENSIONS, *high.shape), svd_solver="full").fit_transform(high)
    return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))


def quality_table(rows: list[dict], *keys: str) -> pd.DataFrame:
    """Return qualities as a table: the columns ``keys``, then the numbers; NaN where there is no embedding."""
    table = pd.DataFrame(rows).reindex(
        columns=[*keys, "points", "seed", "k", *MEASURES, "disparity", "misleads", "remark"]
    )
    table["misleads"] = table["misleads"].eq(True)  # where nothing is drawn nothing misleads
    numbers = dict.fromkeys((*MEASURES, "disparity"), float)
    return table.astype({"points": int, "seed": "Int64", "k": "Int64"} | numbers)

"""Embed latents in two dimensions by UMAP and PCA, with the numbers that tell how far to trust the embedding.

Shared halves of both sensors are embedded together, private halves together, never shared with private: these have no
common basis, and any joint embedding of them, even of an untrained network, shows clean islands.
"""

import importlib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_distances
from sklearn.preprocessing import StandardScaler

from crodino_lib.analysis.collapse import spread
from crodino_lib.analysis.embedding_quality import MEASURES, EmbeddingReference
from crodino_lib.analysis.extraction import Latents, read_arrays, table_arrays
from crodino_lib.io import atomic_write, bar, load_npz
from crodino_lib.settings import choose

FEWEST_POINTS = 10
UMAP_NEIGHBOURS, UMAP_MIN_DIST = 30, 0.1
PCA_DIMENSIONS = 50
ROUNDING = 1e-6  # deviation of a channel in units of its largest value: less is float32 rounding
COLLAPSED = "collapsed"
NEARLY_COLLAPSED = 0.01  # deviation of a sensor's vectors in units of their length
POINT_COLUMNS = ["model", "half", "embedding", "sensor", "image", "class", "name", "x", "y"]
FILM_COLUMNS = ["half", "epoch", "image", "class", "name", "sensor", "x", "y"]
FEWEST_FRAMES = 2
HOW_TO = "train with frames = 2 or more, which saves the latents of some epochs"
STEPS = 100  # of the layout; 200 add 0.02 to the area under R_NX and a quarter to the time
FRAME = re.compile(r"epoch-(\d+)\.npz")


class Embeddings(NamedTuple):
    """Embeddings and their quality. Keep the points with a figure: equal seeds give equal ones on one machine only.

    ``points`` has a row per point, with ``POINT_COLUMNS``; ``embedding`` is ``UMAP`` or ``PCA``. ``table`` has a row
    for each model, half and embedding: ``points``, ``seed`` (missing for PCA), ``seeds`` (how many were fitted), the
    numbers of ``EmbeddingReference.quality``, ``disparity`` between the seeds, and ``remark``: empty, or what is wrong
    with the half. A collapsed half has no points and no measures.
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
        table = self.table.astype({"seed": float, "k": float})
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **table_arrays("points", self.points), **table_arrays("table", table))
        return Path(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote; ValueError for any other file."""
        with load_npz(path) as file:
            tables = {name: read_arrays(name, file) for name in cls._fields}
        if missing := [name for name, table in tables.items() if table.columns.empty]:
            raise ValueError(f"{path} has no {', '.join(missing)}: not saved embeddings")
        return cls(tables["points"], tables["table"].astype({"seed": "Int64", "k": "Int64"}))


def fit_embeddings(
    latents: Latents, seeds: Iterable[int] = range(5), n: int = 4000, sample_seed: int = 0
) -> Embeddings:
    """Embed every half of a model, both sensors together: by UMAP, and by PCA as a second opinion.

    Of the UMAP fits the one of median trustworthiness is returned, never the prettiest. ``model`` stays empty. At most
    ``n`` points of the regions, all sensors together, are drawn with ``sample_seed``, the same ones of every model.
    ValueError for no seeds, too few points, or one sensor.
    """
    seeds = list(seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one, and five to know how stable the embeddings are")
    latents = sample_points(latents, n, sample_seed)
    points, rows = [], []
    for half in latents.halves:
        vectors, places = latents.stacked(half)
        remark, key = describe_collapse(vectors, places["sensor"]), {"model": "", "half": half}
        if remark.startswith(COLLAPSED):
            rows += [key | {"embedding": name, "points": 0, "remark": remark} for name in ("UMAP", "PCA")]
            continue
        high = standardise(vectors)
        reference, components = EmbeddingReference(high, places), principal_components(high)
        flat = components[:, :2], reference.quality(components[:, :2]) | {"remark": ""}
        for name, (low, quality) in {"UMAP": median_fit(reference, components, seeds), "PCA": flat}.items():
            both = ", ".join(filter(None, (remark, quality["remark"])))
            rows.append(key | {"embedding": name} | quality | {"remark": both})
            points.append(places.assign(**key, embedding=name, x=low[:, 0], y=low[:, 1])[POINT_COLUMNS])
    table = quality_table(rows, "model", "half", "embedding").assign(seeds=len(seeds))
    return Embeddings(pd.concat(points) if points else pd.DataFrame(columns=POINT_COLUMNS), table)


def median_fit(reference: EmbeddingReference, components: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, dict]:
    """Fit UMAP with every seed; return the (n, 2) of median trustworthiness, its quality, and the seeds' disparity."""
    distances, fits = cosine_distances(components), []
    for seed in bar(seeds, label="UMAP", unit="seed"):
        low, remark = umap_2d(distances, seed)
        fits.append((low, {"seed": seed} | reference.quality(low) | {"remark": remark}))
    agreement = disparity([low for low, _ in fits])
    low, quality = sorted(fits, key=lambda fit: fit[1]["trustworthiness"])[(len(fits) - 1) // 2]  # lower of two medians
    return low, quality | {"disparity": agreement}


def imported(name: str) -> type:
    """Return a class of umap, which compiles for seconds; its code gets as many threads as torch has.

    Or it would give torch as many as there are cores, and what is trained afterwards would round otherwise.
    """
    if "numba" not in sys.modules:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))
    return getattr(importlib.import_module("umap"), name)


def umap_2d(distances: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Embed (n, n) cosine distances by UMAP; return (n, 2) float64, and a remark where the spectral start failed.

    Distances between islands, their sizes and the gaps between them mean nothing.
    """
    looks = {"n_neighbors": min(UMAP_NEIGHBOURS, len(distances) - 1), "min_dist": UMAP_MIN_DIST}
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : looks["n_neighbors"]]
    looks["precomputed_knn"] = nearest, np.take_along_axis(distances, nearest, axis=1)  # or UMAP compiles a sort
    looks |= {"metric": "precomputed", "random_state": seed, "n_jobs": 1}  # one job is what a fixed seed implies
    umap = imported("UMAP")(**looks)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        low = umap.fit_transform(distances).astype(np.float64)
    failed = any("Spectral initialisation failed" in str(warning.message) for warning in raised)
    return low, "UMAP started at random, its spectral start failed" if failed else ""


def disparity(embeddings: list[np.ndarray]) -> float:
    """Compute the mean Procrustes disparity of all pairs of embeddings: 0 is the same, 1 unrelated, NaN for one."""
    pairs = list(combinations(embeddings, 2))
    return float(np.mean([procrustes(*pair)[2] for pair in pairs])) if pairs else np.nan


def sample_points(latents: Latents, n: int, seed: int) -> Latents:
    """Draw rows, by ``seed`` the same of every model, of at most ``n`` points of all sensors (ValueError: under 10)."""
    sampled = latents.sample(n // len(latents.sensors), np.random.default_rng(seed))
    if (found := len(sampled) * len(latents.sensors)) < FEWEST_POINTS:
        raise ValueError(f"there are {found} points; an embedding needs {FEWEST_POINTS}: use more scenes or a larger n")
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
    numbers = [*MEASURES, "disparity"]
    table = pd.DataFrame(rows).reindex(columns=[*keys, "points", "seed", "k", *numbers, "misleads", "remark"])
    table["misleads"] = table["misleads"].eq(True)  # where nothing is drawn nothing misleads
    return table.astype({"points": int, "seed": "Int64", "k": "Int64"} | dict.fromkeys(numbers, float))


def fit_aligned_umap(frames: Mapping[int, Latents], half: str, seed: int, n: int = 1000) -> Embeddings:
    """Embed a half at several epochs of a training, aligned region by region: one embedding per epoch.

    Embeddings fitted apart cannot be compared: UMAP may turn, mirror or reorder each. An aligned fit holds those of
    neighbouring epochs together, so that what moves in the film moved in the latent space. Every epoch is standardised
    and reduced by itself: an aligned fit takes from each epoch its own graph of cosine neighbours, which no rotation
    changes, and ties epochs by the identity of their rows. One basis for all would be that of the late epochs, which
    vary most, and would cut away what the early ones vary in.

    Args:
        frames: epoch -> latents of the same regions; ValueError for fewer than two whose half has not collapsed.
        half: ``shared`` or ``private``.
        n: most points, all sensors together; the same in every epoch.

    Returns:
        ``points`` with ``FILM_COLUMNS``, in the same order in every epoch; ``table``: ``half``, ``epoch``, ``seed``,
        quality, ``remark``. Collapsed epochs have no points.
    """
    if len(frames) < FEWEST_FRAMES:
        raise ValueError(f"a film needs at least {FEWEST_FRAMES} frames, found {len(frames)}: {HOW_TO}")
    first = next(iter(frames.values()))
    choose(half, first.halves, "half")
    rows, references, distances = [], {}, {}
    for epoch in sorted(frames):
        if not frames[epoch].rows[["image", "class"]].equals(first.rows[["image", "class"]]):
            raise ValueError(f"the regions of epoch {epoch} are not those of the other frames: record one training")
        vectors, places = sample_points(frames[epoch], n, 0).stacked(half)
        remark = describe_collapse(vectors, places["sensor"])
        rows.append({"half": half, "epoch": epoch, "points": 0, "seed": seed, "remark": remark})
        if not remark.startswith(COLLAPSED):
            high = standardise(vectors)
            references[epoch] = EmbeddingReference(high, places)
            distances[epoch] = cosine_distances(principal_components(high))
    if len(distances) < FEWEST_FRAMES:
        collapsed = f"{len(frames) - len(distances)} of {len(frames)} frames"
        raise ValueError(f"the {half} half has collapsed in {collapsed}; a film needs {FEWEST_FRAMES} others")
    points, embeddings = [], dict(zip(distances, align(list(distances.values()), seed), strict=True))
    for row in rows:
        if (epoch := row["epoch"]) in embeddings:
            low = embeddings[epoch]
            row |= references[epoch].quality(low)
            points.append(references[epoch].rows.assign(half=half, epoch=epoch, x=low[:, 0], y=low[:, 1]))
    table = quality_table(rows, "half", "epoch").drop(columns="disparity")
    return Embeddings(pd.concat(points, ignore_index=True)[FILM_COLUMNS], table)


def align(frames: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Embed (n, n) cosine distances of several frames by aligned UMAP; row i of a frame is tied to that of the next."""
    nearest = min(UMAP_NEIGHBOURS, len(frames[0]) - 1)
    seeds = {"random_state": seed, "transform_seed": seed}  # of each frame's own fit, of the aligned layout
    umap = imported("AlignedUMAP")(n_neighbors=nearest, metric="precomputed", n_epochs=STEPS, **seeds)
    same = [{i: i for i in range(len(frames[0]))}] * (len(frames) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_jobs value .* overridden", UserWarning)  # what a fixed seed implies
        warnings.filterwarnings("ignore", "using precomputed metric", UserWarning)  # nothing is to be inverted
        return [low.astype(np.float64) for low in umap.fit_transform(frames, relations=same)]


def read_frames(folder: Path) -> dict[int, Latents]:
    """Read the latents that ``RecordLatents`` saved, by epoch; ValueError where there are fewer than two."""
    files = {int(match[1]): path for path in Path(folder).glob("*.npz") if (match := FRAME.fullmatch(path.name))}
    if len(files) < FEWEST_FRAMES:
        raise ValueError(f"{folder} holds {len(files)} frames (epoch-0000.npz, ...); a film needs 2: {HOW_TO}")
    return {epoch: Latents.load(files[epoch]) for epoch in sorted(files)}

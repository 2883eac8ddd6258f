"""The latent manifolds in two dimensions: UMAP, with the numbers that say how far to believe it.

Shared halves of both sensors are embedded together, private halves together, never shared with private: these have no
common basis, and any joint picture of them, even of an untrained network, shows clean islands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.spatial import procrustes
from sklearn.metrics.pairwise import cosine_distances

from crodino_lib.analysis.embedding import COLLAPSED, condition, embed, principal, standardised
from crodino_lib.analysis.embedding_quality import Space
from crodino_lib.analysis.extraction import Latents
from crodino_lib.config import choose
from crodino_lib.io import atomic_write, bar, load_npz

FEWEST_POINTS = 10
MEASURES = (
    "trustworthiness", "continuity", "rnx_auc", "distance_spearman", "centroid_spearman", "cross_modality_hd",
    "cross_modality_2d", "class_purity_hd", "class_purity_2d", "islands", "disparity",
)  # fmt: skip
POINT_COLUMNS = ["model", "half", "embedding", "sensor", "image", "class", "name", "x", "y"]


@dataclass(frozen=True)
class Manifolds:
    """Embeddings and their fidelity.

    Attributes:
        points: one row per point of the published pictures: ``model``, ``half``, ``embedding`` (``UMAP`` or ``PCA``),
            ``sensor``, ``image``, ``class``, ``name``, ``x``, ``y``. Keep it with the figure: equal seeds give equal
            pictures on one machine only.
        table: one row per model, half and embedding: ``points``, ``seed`` (missing for PCA, which has none), ``seeds``
            (how many were tried), ``k``, the measures of ``Space``, ``disparity`` (mean
            Procrustes disparity between the seeds' pictures: 0 is the same picture, 1 unrelated), ``misleads``, and
            ``says``: empty, or what is wrong with the half. A collapsed half has no points and no measures.
        runs: one row per model, half and seed, published or not, with the same measures.
        counts: one row per class: regions ``available`` and ``taken`` of every sensor.
    """

    points: pd.DataFrame
    table: pd.DataFrame
    runs: pd.DataFrame
    counts: pd.DataFrame

    @classmethod
    def joined(cls, parts: Mapping[str, Self]) -> Self:
        """Pictures of single models of the same regions as those of all, by the names given here."""
        tables = {}
        for name in ("points", "table", "runs"):
            tables[name] = pd.concat(
                [getattr(part, name).assign(model=model) for model, part in parts.items()], ignore_index=True
            )
        return cls(**tables, counts=next(iter(parts.values())).counts)

    def save(self, folder: Path, stem: str) -> Path:
        """Write everything into ``<stem>.npz``, atomically and without pickles."""
        arrays = {}
        for field in fields(self):
            for name, values in getattr(self, field.name).items():
                kept = values.to_numpy(float, na_value=np.nan) if values.dtype == "Int64" else values.to_numpy()
                arrays[f"{field.name}/{name}"] = kept if kept.dtype.kind in "biuf" else kept.astype(str)
        path = Path(folder) / f"{stem}.npz"
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **arrays)
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file was not written by ``save``.
        """
        tables = {field.name: {} for field in fields(cls)}
        with load_npz(path) as file:
            for key in file.files:
                table, _, column = key.partition("/")
                tables.get(table, {})[column] = file[key]
        if missing := [name for name, columns in tables.items() if not columns]:
            raise ValueError(f"{path} has no {', '.join(missing)}: not saved manifolds")
        tables = {name: pd.DataFrame(columns) for name, columns in tables.items()}
        for name in ("table", "runs"):
            tables[name] = tables[name].astype({"seed": "Int64", "k": "Int64"})
        return cls(**tables)


def fit_manifolds(
    models: Mapping[str, Latents],
    seeds: Iterable[int] = range(5),
    n: int = 4000,
    n_neighbors: int = 30,
    min_dist: float = 0.1,
    sample_seed: int = 0,
) -> Manifolds:
    """Pictures of every half of every model, both sensors in each: UMAP, and PCA as a second opinion.

    Of the UMAP runs the one of median trustworthiness is published, never the prettiest.

    Args:
        models: name -> latents of the same regions, such as ``trained`` and ``untrained``; the second is what tells
            structure that was learnt from structure that any network has.
        seeds: of UMAP; of an even number the less trustworthy of the two medians is published.
        n: most points, all sensors together. All regions are taken where they fit, else each is as likely as any
            other; every model shows the same ones.
        n_neighbors: UMAP's; lowered to n - 1 where there are fewer points.
        min_dist: UMAP's.
        sample_seed: of the sample of regions, and of the pairs whose distances are compared.

    Raises:
        ValueError: no seeds, too few points, one sensor only, or models that saw different regions.

    Explained in notebook 07.
    """
    seeds = list(seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one, and five to know how stable the pictures are")
    sampled, counts = same_regions(models, n, sample_seed)
    halves = [(model, half) for model, latents in sampled.items() for half in latents.halves]
    points, table, runs = [], [], []
    for model, half in bar(halves, label="UMAP", unit="half"):
        shown = {"model": model, "half": half}
        vectors, rows = sampled[model].stacked(half)
        says = condition(vectors, rows["sensor"])
        if says.startswith(COLLAPSED):
            table += [shown | {"embedding": name, "points": 0, "says": says} for name in ("UMAP", "PCA")]
            continue
        high = standardised(vectors)
        space, reduced = Space.of(high, rows, np.random.default_rng(sample_seed)), principal(high)
        fits = Fits.of(space, cosine_distances(reduced), seeds, n_neighbors, min_dist)
        found = fits.table.assign(**shown, says=[", ".join(filter(None, (says, more))) for more in fits.table["says"]])
        flat = shown | {"embedding": "PCA"} | space.fidelity(reduced[:, :2]) | {"says": says}
        table += [found.iloc[fits.median].to_dict() | {"embedding": "UMAP"}, flat]
        runs.append(found)
        for embedding, low in {"UMAP": fits.pictures[fits.median], "PCA": reduced[:, :2]}.items():
            named = rows.assign(**shown, embedding=embedding, x=low[:, 0], y=low[:, 1])
            points.append(named[POINT_COLUMNS])
    return Manifolds(
        pd.concat(points, ignore_index=True) if points else pd.DataFrame(columns=POINT_COLUMNS),
        measured(table, "model", "half", "embedding").assign(seeds=len(seeds)),
        measured(pd.concat(runs).to_dict("records") if runs else [], "model", "half"),
        counts,
    )


def sweep(
    latents: Latents,
    half: str,
    seeds: Iterable[int] = range(5),
    n_neighbors: Iterable[int] = (15, 30, 50, 100),
    min_dist: Iterable[float] = (0.1, 0.5),
    n: int = 4000,
    sample_seed: int = 0,
) -> pd.DataFrame:
    """How much of a picture is UMAP's settings and seed rather than the latents.

    Args:
        latents: of one model.
        half: ``shared`` or ``private``.
        seeds: of UMAP, for every setting.
        n_neighbors: UMAP's; those above n - 1 are lowered to it, and equal ones fitted once.
        min_dist: UMAP's.
        n: most points, as in ``fit_manifolds``.
        sample_seed: as in ``fit_manifolds``.

    Returns:
        One row per fit: ``n_neighbors``, ``min_dist``, ``seed``, the measures; ``disparity`` is that of the setting.

    Raises:
        ValueError: an unknown half, or one that has collapsed; too few points, or one sensor only.
    """
    sampled, _ = same_regions({"sweep": latents}, n, sample_seed)
    vectors, rows = sampled["sweep"].stacked(choose(half, latents.halves, "half"))
    if (says := condition(vectors, rows["sensor"])).startswith(COLLAPSED):
        raise ValueError(f"half = {half!r} cannot be swept, it has {says}")
    high = standardised(vectors)
    space, distances = Space.of(high, rows, np.random.default_rng(sample_seed)), cosine_distances(principal(high))
    lowered = dict.fromkeys(min(k, len(high) - 1) for k in n_neighbors)
    tables, seeds = [], list(seeds)
    for k, distance in bar(list(product(lowered, min_dist)), label="sweep", unit="setting"):
        table = Fits.of(space, distances, seeds, k, distance).table
        tables.append(table.assign(half=half, n_neighbors=k, min_dist=distance))
    return measured(pd.concat(tables).to_dict("records"), "half", "n_neighbors", "min_dist")


class Fits(NamedTuple):
    """UMAP's pictures of one space, one per seed.

    Attributes:
        pictures: (n, 2) float64 each.
        table: one row per picture: ``seed``, its fidelity, ``disparity`` (the same for all), and ``says``.
    """

    pictures: list[np.ndarray]
    table: pd.DataFrame

    @classmethod
    def of(cls, space: Space, distances: np.ndarray, seeds: list[int], n_neighbors: int, min_dist: float) -> Fits:
        """Fit every seed; arguments as ``embed``."""
        pictures, table = [], []
        for seed in bar(seeds, label="seeds", unit="fit"):
            low, says = embed(distances, seed, n_neighbors, min_dist)
            pictures.append(low)
            table.append({"seed": seed} | space.fidelity(low) | {"says": says})
        return cls(pictures, pd.DataFrame(table).assign(disparity=disparity(pictures)))

    @property
    def median(self) -> int:
        """Position of the picture of median trustworthiness; of an even number the lower of the two medians."""
        order = np.argsort(self.table["trustworthiness"].to_numpy(), kind="stable")
        return int(order[(len(order) - 1) // 2])


def same_regions(models: Mapping[str, Latents], n: int, seed: int) -> tuple[dict[str, Latents], pd.DataFrame]:
    """The same regions of every model, at most ``n`` points of all sensors, and how many of each class.

    Raises:
        ValueError: models that saw different regions, or too few points.
    """
    (first, reference), *others = models.items()
    for model, latents in others:
        places = [found.rows[["image", "class"]].astype(str).to_numpy() for found in (reference, latents)]
        if not np.array_equal(*places):
            raise ValueError(
                f"{model} saw {len(latents)} {latents.unit}s that are not the {len(reference)} of {first}; pictures "
                "can be compared only of the same ones: extract both from the same scenes"
            )
    most = n // max(len(latents.sensors) for latents in models.values())
    sampled = {model: latents.sample(most, np.random.default_rng(seed)) for model, latents in models.items()}
    for model, latents in sampled.items():
        if (points := len(latents) * len(latents.sensors)) < FEWEST_POINTS:
            raise ValueError(
                f"{model} has {points} points; a picture needs at least {FEWEST_POINTS}: use more scenes, or a larger n"
            )
    by_class = ["class", "name"]
    counts = reference.rows.groupby(by_class).size().rename("available").to_frame()
    counts["taken"] = sampled[first].rows.groupby(by_class).size().reindex(counts.index, fill_value=0)
    return sampled, counts.reset_index()


def disparity(pictures: list[np.ndarray]) -> float:
    """Mean Procrustes disparity between all pairs of pictures of the same points: 0 is the same but for shift, scale,
    rotation and reflection, 1 unrelated; NaN for a single one.
    """
    pairs = list(combinations(pictures, 2))
    return float(np.mean([procrustes(one, other)[2] for one, other in pairs])) if pairs else float("nan")


def measured(rows: list[dict], *first: str) -> pd.DataFrame:
    """Rows as a table: the columns ``first``, then what every picture is told with; NaN where there is none."""
    columns = [*first, "points", "seed", "k", *MEASURES, "misleads", "says"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    table["misleads"] = table["misleads"].eq(True)  # what has no picture misleads nobody
    return table.astype({"points": int, "seed": "Int64", "k": "Int64"} | dict.fromkeys(MEASURES, float))

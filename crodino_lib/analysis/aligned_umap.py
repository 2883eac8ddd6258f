"""Embed the latents of a training's epochs by aligned UMAP: one embedding per epoch, in which regions keep their place.

Embeddings fitted apart cannot be compared: UMAP may turn, mirror or reorder each. An aligned fit holds the embeddings
of neighbouring epochs together, region by region, so that what moves in the film moved in the latent space.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import cosine_distances

from crodino_lib.analysis import umap_embedding
from crodino_lib.analysis.embedding_quality import EmbeddingReference
from crodino_lib.analysis.extraction import Latents
from crodino_lib.settings import choose

FEWEST_FRAMES = 2
HOW_TO = "train with frames = 2 or more, which saves the latents of some epochs"
STEPS = 100  # of the layout; 200 add 0.02 to the area under R_NX and a quarter to the time
FRAME = re.compile(r"epoch-(\d+)\.npz")
POINT_COLUMNS = ["half", "epoch", "image", "class", "name", "sensor", "x", "y"]


def fit_aligned_umap(
    frames: Mapping[int, Latents], half: str, seed: int, n: int = 1000, sample_seed: int = 0
) -> umap_embedding.Embeddings:
    """Embed a half at several epochs, aligned region by region.

    Every epoch is standardised and reduced by itself: an aligned fit takes from each epoch its own graph of cosine
    neighbours, which no rotation changes, and ties epochs by the identity of their rows. One basis for all would be
    that of the late epochs, which vary most, and would cut away what the early ones vary in.

    Args:
        frames: epoch -> latents of the same regions.
        half: ``shared`` or ``private``.
        seed: of the fit.
        n: most points, all sensors together; the same in every epoch.
        sample_seed: of the sample of regions.

    Returns:
        ``points`` with ``POINT_COLUMNS``, in the same order in every epoch; ``table``: ``half``, ``epoch``, ``seed``,
        quality, ``remark``. Collapsed epochs have no points.

    Raises:
        ValueError: fewer than two frames whose half has not collapsed, an unknown half, too few points, one sensor
            only, or frames of different regions.
    """
    if len(frames) < FEWEST_FRAMES:
        raise ValueError(f"a film needs at least {FEWEST_FRAMES} frames, found {len(frames)}: {HOW_TO}")
    first = next(iter(frames.values()))
    choose(half, first.halves, "half")
    rows, references, distances = [], {}, {}
    for epoch in sorted(frames):
        if not frames[epoch].rows[["image", "class"]].equals(first.rows[["image", "class"]]):
            raise ValueError(
                f"the regions of epoch {epoch} are not those of the other frames: record all in one training"
            )
        vectors, places = umap_embedding.sample_points(frames[epoch], n, sample_seed).stacked(half)
        remark = umap_embedding.describe_collapse(vectors, places["sensor"])
        rows.append({"half": half, "epoch": epoch, "points": 0, "seed": seed, "remark": remark})
        if not remark.startswith(umap_embedding.COLLAPSED):
            high = umap_embedding.standardise(vectors)
            references[epoch] = EmbeddingReference(high, places)
            distances[epoch] = cosine_distances(umap_embedding.principal_components(high))
    if len(distances) < FEWEST_FRAMES:
        collapsed = f"{len(frames) - len(distances)} of {len(frames)} frames"
        raise ValueError(f"the {half} half has collapsed in {collapsed}; a film needs {FEWEST_FRAMES} others")
    points, embeddings = [], dict(zip(distances, align(list(distances.values()), seed), strict=True))
    for row in rows:
        if (epoch := row["epoch"]) in embeddings:
            low = embeddings[epoch]
            row |= references[epoch].quality(low)
            points.append(references[epoch].rows.assign(half=half, epoch=epoch, x=low[:, 0], y=low[:, 1]))
    table = umap_embedding.quality_table(rows, "half", "epoch").drop(columns="disparity")
    return umap_embedding.Embeddings(pd.concat(points, ignore_index=True)[POINT_COLUMNS], table)


def align(frames: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Embed (n, n) cosine distances of several frames by aligned UMAP; row i of a frame is tied to that of the next."""
    from umap import AlignedUMAP  # compiles on import and again in its fit: half a minute

    nearest = min(umap_embedding.UMAP_NEIGHBOURS, len(frames[0]) - 1)
    seeds = {"random_state": seed, "transform_seed": seed}  # of each frame's own fit, of the aligned layout
    umap = AlignedUMAP(n_neighbors=nearest, metric="precomputed", n_epochs=STEPS, **seeds)
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

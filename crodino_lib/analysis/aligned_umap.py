"""The latent manifolds while a network trains: one picture per epoch, in which every region keeps its place if it can.

Pictures fitted apart cannot be compared: UMAP may turn, mirror or reorder each. An aligned fit holds the pictures of
neighbouring epochs together, region by region, so that what moves in the film moved in the latent space.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import cosine_distances

from crodino_lib.analysis.embedding import COLLAPSED, condition, principal, standardised
from crodino_lib.analysis.embedding_quality import Space
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.manifold import measured, same_regions
from crodino_lib.config import choose

FEWEST_FRAMES = 2
HOW_TO = "train with frames = 2 or more, which keeps the latents of some moments of the training"
STEPS = 100  # of the layout; 200 add 0.02 to the area under R_NX and a quarter to the time
FRAME = re.compile(r"epoch-(\d+)\.npz")


class Film(NamedTuple):
    """Aligned pictures of one half, and their fidelity.

    Attributes:
        points: one row per epoch and point: ``half``, ``epoch``, ``image``, ``class``, ``name``, ``sensor``, ``x``,
            ``y``; the same points in the same order in every epoch. An epoch whose half collapsed has none.
        table: one row per half and epoch: ``points``, ``seed``, ``k``, the measures of
            ``crodino_lib.analysis.embedding_quality.Space``, ``misleads``, and ``says`` as in ``Manifolds``.
    """

    points: pd.DataFrame
    table: pd.DataFrame


def fit_film(
    frames: Mapping[int, Latents], half: str, seed: int, n: int = 1000, n_neighbors: int = 30, sample_seed: int = 0
) -> Film:
    """Pictures of a half at several epochs, aligned region by region.

    Every epoch is standardised and reduced by itself. Bases then differ from epoch to epoch, and may: an aligned fit
    never compares coordinates of two epochs. It takes from each epoch its own graph of cosine neighbours, which no
    rotation changes, and ties epochs by the identity of their rows. One basis for all would be that of the late
    epochs, which vary most, and would cut away what the early ones vary in.

    Args:
        frames: epoch -> latents of the same regions.
        half: ``shared`` or ``private``.
        seed: of the fit.
        n: most points, all sensors together, each region as likely as any other; the same in every epoch.
        n_neighbors: UMAP's; lowered to n - 1 where there are fewer points.
        sample_seed: of the sample of regions, and of the pairs whose distances are compared.

    Raises:
        ValueError: fewer than two frames whose half has not collapsed, an unknown half, too few points, one sensor
            only, or frames of different regions.

    Explained in notebook 07.
    """
    if len(frames) < FEWEST_FRAMES:
        raise ValueError(f"a film needs at least {FEWEST_FRAMES} frames, not {len(frames)}: {HOW_TO}")
    choose(half, next(iter(frames.values())).halves, "half")
    sampled, _ = same_regions({f"epoch {epoch}": frames[epoch] for epoch in sorted(frames)}, n, sample_seed)
    table, spaces, distances = [], {}, {}
    for epoch, latents in zip(sorted(frames), sampled.values(), strict=True):
        vectors, rows = latents.stacked(half)
        says = condition(vectors, rows["sensor"])
        table.append({"half": half, "epoch": epoch, "points": 0, "seed": seed, "says": says})
        if not says.startswith(COLLAPSED):
            high = standardised(vectors)
            spaces[epoch] = Space.of(high, rows, np.random.default_rng(sample_seed))
            distances[epoch] = cosine_distances(principal(high))
    if len(distances) < FEWEST_FRAMES:
        raise ValueError(
            f"the {half} half has collapsed in {len(frames) - len(distances)} of {len(frames)} frames; a film needs at "
            f"least {FEWEST_FRAMES} others"
        )
    pictures = dict(zip(distances, aligned(list(distances.values()), seed, n_neighbors), strict=True))
    for row in table:
        if row["epoch"] in pictures:
            row |= spaces[row["epoch"]].fidelity(pictures[row["epoch"]])
    points = [
        spaces[epoch].rows.assign(half=half, epoch=epoch, x=low[:, 0], y=low[:, 1]) for epoch, low in pictures.items()
    ]
    columns = ["half", "epoch", "image", "class", "name", "sensor", "x", "y"]
    return Film(
        pd.concat(points, ignore_index=True)[columns], measured(table, "half", "epoch").drop(columns="disparity")
    )


def aligned(frames: list[np.ndarray], seed: int, n_neighbors: int) -> list[np.ndarray]:
    """Aligned UMAP of cosine distances, row i of a frame tied to row i of the frames near it.

    Args:
        frames: (n, n) cosine distances each, of the principal components.
        seed: of the fit.
        n_neighbors: UMAP's; lowered to n - 1 where there are fewer points.

    Returns:
        (n, 2) float64 of every frame.
    """
    from umap import AlignedUMAP  # compiles on import and again in its fit: half a minute

    points = len(frames[0])
    umap = AlignedUMAP(
        n_neighbors=min(n_neighbors, points - 1),
        metric="precomputed",
        n_epochs=STEPS,
        random_state=seed,  # of each frame's own fit
        transform_seed=seed,  # of the aligned layout
    )
    same = [{i: i for i in range(points)}] * (len(frames) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_jobs value .* overridden", UserWarning)  # what a fixed seed implies
        warnings.filterwarnings("ignore", "using precomputed metric", UserWarning)  # nothing is to be inverted
        return [low.astype(np.float64) for low in umap.fit_transform(frames, relations=same)]


def read_frames(folder: Path) -> dict[int, Latents]:
    """Latents that training kept, by epoch.

    Args:
        folder: of ``epoch-0003.npz`` files, 0 being the network before its first step.

    Raises:
        ValueError: the folder holds fewer than two, or does not exist.
    """
    found = {int(match[1]): path for path in Path(folder).glob("*.npz") if (match := FRAME.fullmatch(path.name))}
    if len(found) < FEWEST_FRAMES:
        raise ValueError(f"{folder} holds {len(found)} frames (epoch-0000.npz, ...); a film needs 2: {HOW_TO}")
    return {epoch: Latents.load(found[epoch]) for epoch in sorted(found)}

"""The two-dimensional pictures of a study's models: fitted once, whoever asks for them, and kept with the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from crodino_lib.analysis.latent_analysis import EXTRACTING, Laboratory
from crodino_lib.analysis.manifold import Manifolds, fit_manifolds, sweep
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.config import TRAINING_VERSION
from crodino_lib.io import atomic_write, bar, read_table, say

DRAWING = [  # the source that decides what is drawn
    *EXTRACTING,
    *(f"analysis/{name}.py" for name in ("collapse", "embedding", "embedding_quality", "manifold")),
]


def pictures(
    laboratory: Laboratory,
    models: Mapping[str, tuple[TrainedModel, bool]],
    seeds: Iterable[int] = range(5),
    n: int = 4000,
) -> Manifolds:
    """Pictures of the regions of several models, all of the same ones, by ``latents.manifold.fit_manifolds``.

    Args:
        laboratory: gives latents, and where pictures are kept.
        models: name -> the model, and whether it is meant as trained or as it was before training.
        seeds: of UMAP; the median run is published.
        n: most points of a picture, all sensors together.
    """
    parts, seeds, sample_seed = {}, list(seeds), laboratory.budget.seed
    for name, (subject, trained) in bar(models.items(), label="pictures", unit="model"):
        stem = "picture" if trained else "picture-untrained"
        file = laboratory.kept(subject, f"{stem}.npz", seeds, n, sample_seed, TRAINING_VERSION)
        if not file.exists():
            latents = laboratory.latents(subject, trained)["region"]
            fit_manifolds({name: latents}, seeds, n, sample_seed=sample_seed).save(file.parent, file.stem)
        parts[name] = Manifolds.load(file)
    return Manifolds.joined(parts)


def swept(laboratory: Laboratory, subjects: Iterable[TrainedModel], half: str, n: int) -> pd.DataFrame:
    """UMAP of every model over settings and seeds, by ``latents.manifold.sweep``; what was fitted before is read.

    A model that cannot be swept, such as one whose half has collapsed, is left out, and said so.

    Returns:
        Those of ``sweep``, with ``model`` before them.

    Raises:
        ValueError: no model is left.
    """
    tables = {}
    for subject in subjects:
        file = laboratory.kept(subject, f"sweep-{half}.csv", n, TRAINING_VERSION)
        if not file.exists():
            try:
                found = sweep(laboratory.latents(subject)["region"], half, range(5), n=n)
            except ValueError as error:
                say(f"{subject.name}: {error}")
                continue
            with atomic_write(file) as path:
                found.to_csv(path, index=False)
        tables[subject.name] = read_table(file, ("half", "n_neighbors", "min_dist", "seed"))
    if not tables:
        raise ValueError(f"there is no model whose {half} half can be swept")
    return pd.concat(tables, names=["model"]).reset_index(level=0)

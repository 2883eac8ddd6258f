"""The two-dimensional pictures of a study's models: fitted once, whoever asks for them, and kept with the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crodino_lib.analysis.latent_analysis import Laboratory
from crodino_lib.analysis.manifold import Manifolds, fit_manifolds
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.config import TRAINING_VERSION
from crodino_lib.io import bar


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

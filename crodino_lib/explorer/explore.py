"""A study's models as the explorer shows them: their regions, pictures in two dimensions, probes and predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import nn

from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.latent_analysis import Laboratory
from crodino_lib.analysis.manifold import Manifolds, same_regions
from crodino_lib.analysis.pictures import pictures
from crodino_lib.analysis.probes import class_errors
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.explorer.payload import Cloud, ExploredRun
from crodino_lib.io import bar, say
from crodino_lib.methods.base import upsample

UNTRAINED = "untrained"


def explored(
    laboratory: Laboratory, subjects: Iterable[TrainedModel], seeds: Iterable[int] = range(5), n: int = 4000
) -> tuple[list[ExploredRun], Manifolds]:
    """What the explorer shows of every model, and of the first one's network before training: its null.

    Args:
        laboratory: gives latents.
        subjects: models of a study; all are seen on the same regions.
        seeds: of UMAP; the median run is shown.
        n: most points of a picture, both sensors together.
    """
    subjects = list(subjects)
    networks = {subject.name: laboratory.students(subject) for subject in subjects}
    asked = {subject.name: (subject, True) for subject in subjects}
    asked[f"{subjects[0].name}, {UNTRAINED}"] = (subjects[0], False)
    models = {name: laboratory.latents(*which)["region"] for name, which in asked.items()}
    models, _ = same_regions(models, n, laboratory.budget.seed)
    drawn = pictures(laboratory, asked, seeds, n)
    scenes, card = laboratory.study.scenes[laboratory.split], laboratory.study.card
    runs = []
    for name, latents in bar(models.items(), label="explorer", unit="model"):
        if name not in set(drawn.points["model"]):
            say(f"{name}: both halves have collapsed, there is nothing to explore")
            continue
        said = predictions(networks[name], scenes, card) if name in networks else {}
        runs.append(as_explored(name, latents, drawn, said))
    return runs, drawn


def as_explored(name: str, latents: Latents, pictures: Manifolds, predicted: Mapping[str, np.ndarray]) -> ExploredRun:
    """One model for the explorer; halves that have no picture, having collapsed, are left out.

    Args:
        name: of the model in ``pictures``.
        latents: the regions that ``pictures`` shows.
        pictures: from ``fit_manifolds``.
        predicted: sensor -> (images, H, W) class maps.
    """
    clouds, table = [], pictures.table
    for (half, embedding), points in pictures.points[pictures.points["model"] == name].groupby(
        ["half", "embedding"], sort=False
    ):
        told = table[(table["model"] == name) & (table["half"] == half) & (table["embedding"] == embedding)].iloc[0]
        clouds.append(Cloud(half, embedding, fidelity(told), points[["x", "y"]].to_numpy()))
    errors = {
        half: np.concatenate(
            [
                class_errors(latents.blocks[f"{sensor}/{half}"], latents.classes, latents.images).clip(0, 1)
                for sensor in latents.sensors
            ]
        )
        for half in {cloud.block for cloud in clouds}
    }
    return ExploredRun(name, latents.sensors, latents.rows, clouds, errors, dict(predicted))


def fidelity(told: pd.Series) -> str:
    """How far a picture can be believed, in words."""
    seed = f" (seed {told['seed']}, the median of {told['seeds']})" if told["embedding"] == "UMAP" else ""
    return (
        f"{told['embedding']}{seed}, {told['points']} points: trustworthiness {told['trustworthiness']:.2f}, "
        f"continuity {told['continuity']:.2f}. Neighbours from the other sensor: {told['cross_modality_hd']:.2f} in "
        f"the latent space, {told['cross_modality_2d']:.2f} here; of the own class: {told['class_purity_hd']:.2f} and "
        f"{told['class_purity_2d']:.2f}" + ("; this picture misleads." if told["misleads"] else ".")
    )


@torch.inference_mode()
def predictions(
    students: Mapping[str, nn.Module], scenes: Scenes, card: DatasetCard, batch_size: int = 16
) -> dict[str, np.ndarray]:
    """Class maps (images, H, W) uint8 of every student, for paired, unaugmented scenes."""
    said: dict[str, list[np.ndarray]] = {sensor: [] for sensor in students}
    for start in range(0, len(scenes), batch_size):
        indices = list(range(start, min(start + batch_size, len(scenes))))
        batch = plain(scenes, indices, card, tuple(students), torch.device("cpu"))
        for sensor, student in students.items():
            logits = upsample(student(batch.images[sensor]).logits, batch.images[sensor])
            said[sensor].append(logits.argmax(dim=1).byte().numpy())
    return {sensor: np.concatenate(parts) for sensor, parts in said.items()}

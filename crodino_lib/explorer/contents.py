"""Gather what the explorer shows: points with their measures, embeddings, predictions, nearest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import normalize

from crodino_lib.analysis.embedding_quality import nearest_neighbours
from crodino_lib.analysis.latent_analysis import LatentAnalysis
from crodino_lib.analysis.probes import class_errors
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.analysis.umap_embedding import Embeddings, sample_points, standardise
from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.evaluate import confusion_per_image
from crodino_lib.figures.manifolds import EPOCH, fidelity
from crodino_lib.io import bar, say
from crodino_lib.methods.base import upsample

BLOCKS = ("shared", "private")
ERROR, CORRECT = "probe error", "correct pixels"  # of a model, 0..1; the first is measured in each block
NEAREST = 5  # neighbours of a selected region that are shown

Key = tuple[str, str, str]  # model, block, embedding


@dataclass(frozen=True)
class Contents:
    """What an explorer shows; every model has the same points.

    Args:
        scenes: the split that the models looked at; points can be coloured by its factors.
        points: one row per region and sensor: ``image``, ``name`` (of the class), ``sensor``, ``left``, ``top``,
            ``right``, ``bottom`` (box in pixels) and ``probe error MODEL/BLOCK``, 0..1.
        clouds: (model, block, embedding) -> (points, 2) float; a block that has collapsed has none, and a point that
            the embedding does not have is NaN.
        captions: (model, block, embedding) -> how far the cloud can be believed, or why there is none.
        predictions: (model, sensor) -> (images, H, W) uint8 class maps, in the order of the scenes.
        nearest: (model, block) -> (points, k) int: the nearest points of each in the latent space, both sensors.
    """

    title: str
    card: DatasetCard
    scenes: Scenes
    points: pd.DataFrame
    clouds: dict[Key, np.ndarray]
    captions: dict[Key, str]
    predictions: dict[tuple[str, str], np.ndarray]
    nearest: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Models in the order of the captions."""
        return list(dict.fromkeys(model for model, _, _ in self.captions))

    @property
    def embeddings(self) -> list[str]:
        """Embeddings in the order of the captions."""
        return list(dict.fromkeys(embedding for _, _, embedding in self.captions))

    @property
    def filmed(self) -> str:
        """The model that the film shows, whose embeddings are named ``epoch 3``; empty where there is no film."""
        return next((model for model, _, embedding in self.captions if embedding.startswith(EPOCH)), "")

    @property
    def keys(self) -> list[Key]:
        """Every model, block and embedding, also where there is no cloud: the film shows one model."""
        return list(product(self.models, BLOCKS, self.embeddings))

    def described_points(self) -> pd.DataFrame:
        """Return the points with their scenes, the share of correct pixels of every model, and the scenes' factors."""
        points, scenes, classes = self.points, self.scenes, self.card.classes
        points = points.assign(scene=pd.Index(scenes.ids).get_indexer(points["image"]))
        points = points.assign(**{f"{CORRECT} {model}": np.nan for model in self.models})
        for (model, sensor), predicted in self.predictions.items():
            own, recall = points["sensor"] == sensor, _recalls(predicted, scenes.labels, len(classes))
            label = pd.Index(classes).get_indexer(points["name"][own])
            points.loc[own, f"{CORRECT} {model}"] = recall[points["scene"][own], label]
        for name, values in {} if scenes.factors is None else scenes.factors.iloc[points["scene"]].items():
            text = values.astype(str).where(values.notna(), "no value")
            points[f"factor/{name}"] = (pd.to_numeric(values) if values.dtype.kind in "iuf" else text).to_numpy()
        return points


def collect(analysis: LatentAnalysis, models: Sequence[TrainedModel]) -> Contents:
    """Gather the contents from the analysis of a study: models, and the first one's network before training."""
    study, split, card = analysis.study, analysis.split, analysis.study.card
    wanted = {model.name: (model, True) for model in models} | {f"{models[0].name}, untrained": (models[0], False)}
    fitted, config = analysis.embeddings(wanted), analysis.config
    latents = {name: analysis.latents(*which)["region"] for name, which in wanted.items()}
    latents = {name: sample_points(part, config.points, config.seed) for name, part in latents.items()}
    points = next(iter(latents.values())).stacked(BLOCKS[0])[1]
    keys, scenes, nearest = ["model", "half", "embedding"], study.scenes[split], {}
    clouds = {key: cloud[["x", "y"]].to_numpy() for key, cloud in fitted.points.groupby(keys, sort=False)}
    for name, found in bar(latents.items(), label="explorer", unit="model"):
        for block in BLOCKS:
            vectors = [found.blocks[sensor, block] for sensor in found.sensors]
            errors = [class_errors(part, found.classes, found.images).clip(0, 1) for part in vectors]
            points[f"{ERROR} {name}/{block}"] = np.concatenate(errors)
            if (name, block, "PCA") in clouds:  # the block has not collapsed
                high = normalize(standardise(found.stacked(block)[0]))
                nearest[name, block] = nearest_neighbours(high, min(NEAREST, len(high) - 1))
    captions = {tuple(fit[keys]): _caption(fit) for _, fit in fitted.table.iterrows()}
    for name, film in _film(analysis, models).items():
        places = points[["image", "name", "sensor"]]
        for (block, epoch), frame in film.points.groupby(["half", "epoch"], sort=False):
            cloud = places.merge(frame, how="left", on=list(places))[["x", "y"]].to_numpy()
            clouds[name, block, f"{EPOCH} {epoch}"] = cloud
        for _, fit in film.table.iterrows():
            captions[name, fit["half"], f"{EPOCH} {fit['epoch']}"] = _caption(fit)
    students = {(m.name, sensor): student for m in models for sensor, student in analysis.students(m).items()}
    predictions = {key: _class_maps(student, key[1], scenes, card) for key, student in students.items()}
    return Contents(f"{study.config.name}, {split}", card, scenes, points, clouds, captions, predictions, nearest)


def _film(analysis: LatentAnalysis, models: Sequence[TrainedModel]) -> dict[str, Embeddings]:
    """Return name -> film of the first model that has one; empty, with the reason as a message, where none has."""
    reason = ""
    for model in models:
        try:
            return {model.name: analysis.film(model)}
        except ValueError as error:
            reason = error
    say(f"no slider over epochs: {reason}")
    return {}


def _caption(fit: pd.Series) -> str:
    """Describe how far an embedding can be believed, or why there is none."""
    return f"{fit['points']} points: {fidelity(fit)}".replace("\n", ", ") if fit["points"] else fit["remark"]


@torch.inference_mode()
def _class_maps(student: torch.nn.Module, sensor: str, scenes: Scenes, card: DatasetCard) -> np.ndarray:
    """Return the class maps (images, H, W) uint8 of a student, for unaugmented scenes."""
    maps = []
    for indices in torch.arange(len(scenes)).split(16):
        seen = plain(scenes, indices.tolist(), card, (sensor,), torch.device("cpu")).images[sensor]
        maps.append(upsample(student(seen).logits, seen).argmax(dim=1).byte())
    return torch.cat(maps).numpy()


def _recalls(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return (images, classes): the share of every class's pixels that is predicted right."""
    counts = confusion_per_image(torch.from_numpy(predicted).long(), torch.from_numpy(labels).long(), classes).numpy()
    return np.diagonal(counts, axis1=1, axis2=2) / np.maximum(counts.sum(axis=2), 1)

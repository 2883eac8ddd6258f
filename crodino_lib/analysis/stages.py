"""Measure how alike two sensors' maps are at every stage of their encoders, and whether a map reveals its sensor."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from crodino_lib.analysis.probes import modality_probe
from crodino_lib.analysis.similarity import linear_cka
from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.losses.regions import region_vectors
from crodino_lib.models.csk_net import GatedFusion

BATCH = 16


class Pair(NamedTuple):
    """The two sensors' maps (B, C, h, w) at one stage and place of a network."""

    stage: int
    place: str  # before exchange, after exchange, after gate; alone for independent networks
    first: Tensor
    second: Tensor


Pairs = Callable[..., Iterator[Pair]]  # of the images of both sensors


def pairs_of_fusion(network: GatedFusion) -> Pairs:
    """Return the pairs of a CSK-Net: each stage without and with exchange, and each sensor's part behind the gates."""

    def pairs(*images: Tensor) -> Iterator[Pair]:
        inputs = dict(zip(network.trunk.sensors, images, strict=True))
        for exchanging, place in ((False, "before exchange"), (True, "after exchange")):
            first, second = network.trunk.encode(inputs, exchanging).values()
            for stage, maps in enumerate(zip(first, second, strict=True)):
                yield Pair(stage, place, *maps)
        for level, gate in zip(network.levels, network.gates, strict=True):
            if gate.form != "fourier":
                yield Pair(level, "after gate", *gate.contributions(first[level], second[level]))

    return pairs


def pairs_of_baselines(first: nn.Module, second: nn.Module) -> Pairs:
    """Return the pairs of two networks that were trained apart: the alignment that exists without any method."""

    def pairs(*images: Tensor) -> Iterator[Pair]:
        for stage, maps in enumerate(zip(first.encoder(images[0]), second.encoder(images[1]), strict=True)):
            yield Pair(stage, "alone", *maps)

    return pairs


@torch.inference_mode()
def stage_alignment(
    pairs: Pairs, scenes: Scenes, card: DatasetCard, sensors: tuple[str, str], seed: int, n: int = 1000
) -> pd.DataFrame:
    """Compute the debiased CKA of the two sensors' region vectors, and the accuracy of a fresh probe of the sensor.

    ``pairs`` are of networks in evaluation mode, ``sensors`` in the networks' order; ``seed`` is of the sample of at
    most ``n`` regions. Returns a row per stage and place: ``cka`` (1: the same up to rotation and scale; 0: unrelated),
    ``probe`` (balanced, 0.5: the map does not reveal its sensor), ``regions``.
    """
    vectors: dict[tuple[int, str], list[tuple[np.ndarray, ...]]] = {}
    for indices in torch.arange(len(scenes)).split(BATCH):
        batch = plain(scenes, indices.tolist(), card, sensors, torch.device("cpu"))
        labels = batch.labels[sensors[0]]
        for pair in pairs(*[batch.images[sensor] for sensor in sensors]):
            one, other = (region_vectors(maps, labels, len(card.classes)) for maps in (pair.first, pair.second))
            part = (one.vectors.numpy(), other.vectors.numpy(), indices[one.images].numpy())
            vectors.setdefault((pair.stage, pair.place), []).append(part)
    rows = []
    for (stage, place), parts in vectors.items():
        chosen = np.random.default_rng(seed).permutation(sum(len(images) for *_, images in parts))[:n]
        chosen.sort()  # the same regions at every place of a stage
        first, second, images = (np.concatenate(side)[chosen] for side in zip(*parts, strict=True))
        alignment = {"cka": linear_cka(first, second), "probe": modality_probe(first, second, images)}
        rows.append({"stage": stage, "place": place} | alignment | {"regions": len(chosen)})
    return pd.DataFrame(rows)

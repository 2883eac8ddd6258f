"""How alike two sensors' maps are at every stage of their encoders, and how easily a map tells its sensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from crodino_lib.analysis.probes import modality_probe
from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.losses import debiased_cka, region_vectors
from crodino_lib.models.csk_net import GatedFusion


class Pair(NamedTuple):
    """The two sensors' maps (B, C, h, w) at one place of a network.

    Attributes:
        stage: number of the encoder's map.
        place: ``before exchange``, ``after exchange``, ``after gate``, or ``alone`` for networks that never meet.
    """

    stage: int
    place: str
    first: Tensor
    second: Tensor


def pairs_of_fusion(network: GatedFusion) -> Callable[..., Iterator[Pair]]:
    """Pairs of a CSK-Net: each stage without and with exchange, and what each sensor gives through the gates."""

    def pairs(*images: Tensor) -> Iterator[Pair]:
        given = dict(zip(network.trunk.sensors, images, strict=True))
        for exchanging, place in ((False, "before exchange"), (True, "after exchange")):
            first, second = network.trunk.encode(given, exchanging).values()
            for stage, (a, b) in enumerate(zip(first, second, strict=True)):
                yield Pair(stage, place, a, b)
        for level, gate in zip(network.levels, network.gates, strict=True):
            if gate.form != "fourier":
                yield Pair(level, "after gate", *gate.contributions(first[level], second[level]))

    return pairs


def pairs_of_strangers(first: nn.Module, second: nn.Module) -> Callable[..., Iterator[Pair]]:
    """Pairs of two networks that were trained apart: what alignment is there without any method."""

    def pairs(*images: Tensor) -> Iterator[Pair]:
        maps = zip(first.encoder(images[0]), second.encoder(images[1]), strict=True)
        for stage, (a, b) in enumerate(maps):
            yield Pair(stage, "alone", a, b)

    return pairs


@torch.inference_mode()
def stage_alignment(
    pairs: Callable[..., Iterator[Pair]],
    scenes: Scenes,
    card: DatasetCard,
    sensors: tuple[str, str],
    seed: int,
    n: int = 1000,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Debiased CKA of the two sensors' region vectors, and accuracy of a fresh linear probe that tells the sensor.

    Args:
        pairs: from ``pairs_of_fusion`` or ``pairs_of_strangers``; networks in evaluation mode.
        scenes: one split, paired and unaugmented.
        card: of its dataset.
        sensors: the two, in the networks' order.
        seed: of the sample.
        n: most regions that count.
        batch_size: scenes a step.

    Returns:
        One row per stage and place: ``cka`` (1: the same up to rotation and scale; 0: unrelated), ``probe`` (balanced,
        0.5: the map does not tell its sensor), ``regions``.
    """
    found: dict[tuple[int, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    owners = {}
    for start in range(0, len(scenes), batch_size):
        indices = list(range(start, min(start + batch_size, len(scenes))))
        batch = plain(scenes, indices, card, sensors, torch.device("cpu"))
        labels = batch.labels[sensors[0]]
        for pair in pairs(*[batch.images[sensor] for sensor in sensors]):
            regions = [region_vectors(maps, labels, len(card.classes)) for maps in (pair.first, pair.second)]
            key = (pair.stage, pair.place)
            found.setdefault(key, []).append(tuple(region.vectors.numpy() for region in regions))
            owners.setdefault(key, []).append(start + regions[0].images.numpy())
    rows = []
    for (stage, place), parts in found.items():
        first, second = (np.concatenate(side) for side in zip(*parts, strict=True))
        chosen = np.sort(np.random.default_rng(seed).permutation(len(first))[:n])  # the same at every place of a stage
        first, second, images = first[chosen], second[chosen], np.concatenate(owners[stage, place])[chosen]
        cka = debiased_cka(torch.from_numpy(first).double(), torch.from_numpy(second).double()).item()
        probe = modality_probe(first, second, images)
        rows.append({"stage": stage, "place": place, "cka": cka, "probe": probe, "regions": len(chosen)})
    return pd.DataFrame(rows)

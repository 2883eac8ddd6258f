"""Region vectors of a whole split: what every latent metric and picture is computed from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.files import replacing
from crodino_lib.losses.regions import region_vectors, region_weights
from crodino_lib.methods.base import Method

ROW_COLUMNS = ("image", "class", "name", "cells")


@dataclass(frozen=True)
class Latents:
    """Region vectors of every block; row i of every block is the same class of the same image.

    Attributes:
        blocks: ``<sensor>/shared`` or ``<sensor>/private`` -> (n, d) float32.
        rows: n rows: ``image`` (scene id), ``class`` (index), ``name`` (of the class), ``cells`` (its area there).

    Raises:
        ValueError: a block and ``rows`` differ in length.
    """

    blocks: dict[str, np.ndarray]
    rows: pd.DataFrame

    def __post_init__(self):
        for name, block in self.blocks.items():
            if len(block) != len(self.rows):
                raise ValueError(f"block {name} has {len(block)} rows, but there are {len(self.rows)} regions")

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that have blocks, in order."""
        return tuple(dict.fromkeys(name.split("/")[0] for name in self.blocks))

    @property
    def halves(self) -> tuple[str, ...]:
        """``shared``, ``private``: the halves that every sensor has."""
        return tuple(dict.fromkeys(name.split("/")[1] for name in self.blocks))

    def take(self, rows: np.ndarray) -> Latents:
        """The regions at positions ``rows``, in that order."""
        blocks = {name: block[rows] for name, block in self.blocks.items()}
        return Latents(blocks, self.rows.iloc[rows].reset_index(drop=True))

    def save(self, path: Path) -> None:
        """Write everything into one ``.npz`` file, atomically."""
        columns = {f"rows/{name}": self.rows[name].to_numpy() for name in ROW_COLUMNS}
        for text in ("rows/image", "rows/name"):
            columns[text] = columns[text].astype(str)  # an object array would be pickled
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **self.blocks, **columns)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file was not written by ``save``.
        """
        with np.load(path) as file:
            missing = [name for name in ROW_COLUMNS if f"rows/{name}" not in file.files]
            if missing:
                raise ValueError(f"{path} holds {', '.join(file.files)}, but no rows/{missing[0]}: not saved latents")
            blocks = {name: file[name] for name in file.files if not name.startswith("rows/")}
            return cls(blocks, pd.DataFrame({name: file[f"rows/{name}"] for name in ROW_COLUMNS}))


@torch.inference_mode()
def extract_regions(
    method: Method, scenes: Scenes, card: DatasetCard, sensors: Iterable[str], batch_size: int, device: torch.device
) -> Latents:
    """Mean latent vector of every class in every image, from paired, unaugmented inputs.

    Args:
        method: on ``device``; set to evaluation mode.
        scenes: one split.
        card: of its dataset.
        sensors: sensors to look at; the method has a student for each.
        batch_size: scenes per step.
        device: where the networks run.

    Returns:
        The regions of at least one bottleneck cell's area, ordered by image, then class, the same for every block.

    Raises:
        ValueError: no class covers a whole cell anywhere.
    """
    method.eval()
    sensors = tuple(sensors)
    blocks: dict[str, list[np.ndarray]] = {}
    rows = []
    for start in range(0, len(scenes), batch_size):
        batch = plain(scenes, list(range(start, min(start + batch_size, len(scenes)))), card, sensors, device)
        labels = batch.labels[sensors[0]]  # unaugmented: the same for every sensor
        for name, features in method.latents(batch.images).items():
            regions = region_vectors(features, labels, len(card.classes))
            blocks.setdefault(name, []).append(regions.vectors.cpu().numpy())
        area = region_weights(labels, len(card.classes), features.shape[-2:]).sum(dim=(2, 3))
        rows += [
            (batch.ids[image], index, card.classes[index], area[image, index].item())
            for image, index in zip(regions.images.tolist(), regions.classes.tolist(), strict=True)
        ]
    if not rows:
        raise ValueError(
            f"no class covers one bottleneck cell in any of the {len(scenes)} scenes; use more or larger images"
        )
    return Latents(
        {name: np.concatenate(parts) for name, parts in blocks.items()}, pd.DataFrame(rows, columns=ROW_COLUMNS)
    )


def balanced(latents: Latents, seed: int, n: int = 4000) -> tuple[Latents, pd.DataFrame]:
    """A sample with the same number of regions of every class, and of every sensor.

    Args:
        latents: all regions.
        seed: equal seeds choose equal regions, so that two models are seen on the same ones.
        n: most points, all sensors together.

    Returns:
        The sample, and one row per class: regions ``available`` and ``taken`` per sensor. Every class gives the same
        number; one that has fewer gives all it has, and the others share what it leaves.

    Raises:
        ValueError: ``n`` leaves no room for one region of every class and sensor.
    """
    counts = latents.rows.groupby(["class", "name"]).size().rename("available").reset_index()
    quota = _quota(counts["available"].to_numpy(), n // len(latents.sensors))
    if not quota:
        least = len(counts) * len(latents.sensors)
        raise ValueError(
            f"n = {n} is too few for {len(counts)} classes of {len(latents.sensors)} sensors: at least {least}"
        )
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(latents.rows))
    rank = latents.rows["class"].iloc[shuffled].groupby(latents.rows["class"]).cumcount()
    chosen = np.sort(rank.index[rank < quota].to_numpy())
    return latents.take(chosen), counts.assign(taken=counts["available"].clip(upper=quota))


def _quota(available: np.ndarray, total: int) -> int:
    """The largest q with ``sum(min(available, q)) <= total``."""
    quotas = np.arange(available.max() + 1)
    fits = np.minimum(available[None], quotas[:, None]).sum(axis=1) <= total
    return int(quotas[fits][-1])

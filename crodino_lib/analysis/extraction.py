"""Latent vectors of a whole split, per image, region or pixel: what every metric and picture is computed from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crodino_lib.augment import plain
from crodino_lib.config import choose
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes
from crodino_lib.io import atomic_write, load_npz
from crodino_lib.losses import nearest_labels, region_vectors, region_weights
from crodino_lib.methods.base import Method

Unit = Literal["image", "region", "pixel"]
ROW_COLUMNS = ("image", "class", "name", "cells")
FACTOR = "factor/"
MOST_PIXELS = 64


@dataclass(frozen=True)
class Latents:
    """Vectors of every block; row i of every block is the same place of the same scene, seen by each sensor.

    Attributes:
        blocks: ``<sensor>/shared`` or ``<sensor>/private`` -> (n, d) float32.
        rows: n rows: ``image`` (scene id), ``class`` (index, 255 for whole images), ``name`` (of the class), ``cells``
            (its area in cells of the bottleneck), ``x`` and ``y`` (centre, 0..1 of width and height), ``left``,
            ``top``, ``right``, ``bottom`` (box in pixels), and ``factor/<name>`` where the dataset records factors.
        unit: what a row is.

    Raises:
        ValueError: a block and ``rows`` differ in length.
    """

    blocks: dict[str, np.ndarray]
    rows: pd.DataFrame
    unit: Unit = "region"

    def __post_init__(self):
        for name, block in self.blocks.items():
            if len(block) != len(self.rows):
                raise ValueError(f"block {name} has {len(block)} rows, but there are {len(self.rows)} {self.unit}s")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that have blocks, in order."""
        return tuple(dict.fromkeys(name.split("/")[0] for name in self.blocks))

    @property
    def halves(self) -> tuple[str, ...]:
        """``shared``, ``private``: the halves that every sensor has."""
        return tuple(dict.fromkeys(name.split("/")[1] for name in self.blocks))

    @property
    def images(self) -> np.ndarray:
        """(n,) int: number of every row's image, in order of appearance."""
        return pd.factorize(self.rows["image"])[0]

    @property
    def classes(self) -> np.ndarray:
        """(n,) int: class of every row."""
        return self.rows["class"].to_numpy()

    @property
    def factors(self) -> pd.DataFrame:
        """(n, F): the factors of every row's scene; no columns where the dataset records none."""
        columns = [name for name in self.rows if name.startswith(FACTOR)]
        return self.rows[columns].rename(columns=lambda name: name.removeprefix(FACTOR))

    def take(self, rows: np.ndarray) -> Latents:
        """The rows at positions ``rows``, in that order."""
        blocks = {name: block[rows] for name, block in self.blocks.items()}
        return replace(self, blocks=blocks, rows=self.rows.iloc[rows].reset_index(drop=True))

    def of(self, sensors: Iterable[str]) -> Latents:
        """The blocks of ``sensors`` alone, without those of networks that see several."""
        wanted = [f"{sensor}/{half}" for sensor in sensors for half in self.halves]
        return replace(self, blocks={name: self.blocks[name] for name in wanted})

    def sample(self, n: int, generator: np.random.Generator) -> Latents:
        """At most ``n`` rows, each as likely as any other, in their order."""
        if len(self) <= n:
            return self
        return self.take(np.sort(generator.permutation(len(self))[:n]))

    def stacked(self, half: str) -> tuple[np.ndarray, pd.DataFrame]:
        """Vectors of a half, one sensor after the other, and their rows with ``sensor``."""
        vectors = np.concatenate([self.blocks[f"{sensor}/{half}"] for sensor in self.sensors])
        rows = pd.concat([self.rows.assign(sensor=sensor) for sensor in self.sensors], ignore_index=True)
        return vectors, rows

    def save(self, path: Path) -> None:
        """Write everything into one ``.npz`` file, atomically."""
        columns = {f"rows/{name}": self.rows[name].to_numpy() for name in self.rows}
        for name, values in columns.items():
            if values.dtype.kind not in "biuf":
                columns[name] = values.astype(str)  # an object array would be pickled
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, unit=np.array(self.unit), **self.blocks, **columns)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file was not written by ``save``, or is damaged.
        """
        with load_npz(path) as file:
            missing = [name for name in ROW_COLUMNS if f"rows/{name}" not in file.files]
            if missing:
                raise ValueError(f"{path} holds {', '.join(file.files)}, but no rows/{missing[0]}: not saved latents")
            rows = {name.removeprefix("rows/"): file[name] for name in file.files if name.startswith("rows/")}
            blocks = {name: file[name] for name in file.files if not name.startswith("rows/") and name != "unit"}
            unit = str(file["unit"]) if "unit" in file.files else "region"
        return cls(blocks, pd.DataFrame(rows), unit)


def extract_regions(
    method: Method, scenes: Scenes, card: DatasetCard, sensors: Iterable[str], batch_size: int, device: torch.device
) -> Latents:
    """Mean latent vector of every class in every image; see ``extract``.

    Raises:
        ValueError: no class covers a whole cell anywhere.
    """
    latents = extract(method, scenes, card, sensors, batch_size, device, ("region",))["region"]
    if not len(latents):
        raise ValueError(
            f"no class covers one bottleneck cell in any of the {len(scenes)} scenes; use more or larger images"
        )
    return latents


@torch.inference_mode()
def extract(
    method: Method,
    scenes: Scenes,
    card: DatasetCard,
    sensors: Iterable[str],
    batch_size: int,
    device: torch.device,
    units: Iterable[Unit] = get_args(Unit),
    seed: int = 0,
) -> dict[Unit, Latents]:
    """Latent vectors of every scene, from paired, unaugmented inputs.

    A method without a split is cut in two halves that mean nothing: that is a null model.

    Args:
        method: on ``device``; set to evaluation mode.
        scenes: one split.
        card: of its dataset.
        sensors: sensors to look at; the method has a student for each.
        batch_size: scenes per step.
        device: where the networks run.
        units: ``image``: mean over a scene. ``region``: mean over a class in a scene, where it covers a cell of the
            bottleneck or more. ``pixel``: single cells, at most 64 a scene, as many of each class as there are.
        seed: of the choice of pixels.

    Returns:
        Unit -> latents, whose rows are ordered by image, then class or position, and the same for every block.

    Raises:
        ValueError: an unknown unit, or a method without a network of any of the sensors alone.
    """
    sensors = tuple(sensors)
    units = [choose(unit, get_args(Unit), "unit") for unit in units]
    method.eval()
    parts: dict[Unit, list[Latents]] = {unit: [] for unit in units}
    for start in range(0, len(scenes), batch_size):
        batch = plain(scenes, list(range(start, min(start + batch_size, len(scenes)))), card, sensors, device)
        maps: dict[str, Tensor] = {}
        for sensor, image in batch.images.items():  # one at a time: networks of several are not asked
            maps |= method.latents({sensor: image})
        if not maps:
            raise ValueError(f"{type(method).__name__} has no network of {' or '.join(sensors)} alone")
        labels = next(iter(batch.labels.values()))  # unaugmented: the same for every sensor
        size = next(iter(maps.values())).shape[-2:]
        for unit in units:
            places = PLACES[unit](labels, card, size, (seed, start))
            blocks = {name: pooled(block, labels, places, unit, len(card.classes)) for name, block in maps.items()}
            places.insert(0, "image", [batch.ids[position] for position in places.pop("position")])
            parts[unit].append(Latents(blocks, places.drop(columns="cell", errors="ignore"), unit))
    return {unit: _joined(batches, scenes) for unit, batches in parts.items()}


def _joined(parts: list[Latents], scenes: Scenes) -> Latents:
    """The batches one after the other, with the factors of every row's scene."""
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    if scenes.factors is not None:
        scene = pd.Index(scenes.ids).get_indexer(rows["image"])
        known = scenes.factors.iloc[scene].reset_index(drop=True)
        rows = pd.concat([rows, known.add_prefix(FACTOR)], axis=1)
    blocks = {name: np.concatenate([part.blocks[name] for part in parts]) for name in parts[0].blocks}
    return Latents(blocks, rows, parts[0].unit)


def pooled(features: Tensor, labels: Tensor, places: pd.DataFrame, unit: Unit, classes: int) -> np.ndarray:
    """(n, C) float32 vectors of the places of a batch of maps (B, C, h, w)."""
    if unit == "region":
        return region_vectors(features, labels, classes).vectors.float().cpu().numpy()
    if unit == "image":
        return features.float().mean(dim=(2, 3)).cpu().numpy()
    flat = features.float().flatten(2).cpu().numpy()
    return flat[places["position"], :, places["cell"]]


def whole_images(labels: Tensor, card: DatasetCard, size: tuple[int, int], _: tuple[int, int]) -> pd.DataFrame:
    """One row per image."""
    height, width = labels.shape[-2:]
    one = {"class": IGNORE, "name": "", "cells": float(size[0] * size[1]), "x": 0.5, "y": 0.5}
    box = {"left": 0, "top": 0, "right": width, "bottom": height}
    return pd.DataFrame({"position": range(len(labels))} | one | box)


def regions(labels: Tensor, card: DatasetCard, size: tuple[int, int], _: tuple[int, int]) -> pd.DataFrame:
    """One row per image and class that covers at least a cell, in the order of ``region_vectors``."""
    area = region_weights(labels, len(card.classes), size).sum(dim=(2, 3))
    positions, classes = (index.tolist() for index in torch.nonzero(area >= 1.0, as_tuple=True))
    rows = []
    for position, index in zip(positions, classes, strict=True):
        y, x = torch.nonzero(labels[position] == index, as_tuple=True)
        height, width = labels.shape[-2:]
        centre = {"x": (x.float().mean().item() + 0.5) / width, "y": (y.float().mean().item() + 0.5) / height}
        box = {"left": x.min().item(), "top": y.min().item(), "right": x.max().item() + 1, "bottom": y.max().item() + 1}
        named = {"position": position, "class": index, "name": card.classes[index]}
        rows.append(named | {"cells": area[position, index].item()} | centre | box)
    columns = ["position", "class", "name", "cells", "x", "y", "left", "top", "right", "bottom"]
    return pd.DataFrame(rows, columns=columns)


def pixels(
    labels: Tensor, card: DatasetCard, size: tuple[int, int], drawn: tuple[int, int], most: int = MOST_PIXELS
) -> pd.DataFrame:
    """One row per chosen cell of the bottleneck; its class is the one at its centre, unlabelled cells are left out.

    ``drawn``: the seed, and the number of the batch's first scene, so that a scene's cells do not depend on its batch.
    """
    height, width = labels.shape[-2:]
    nearest = nearest_labels(labels, size).flatten(1).cpu().numpy()
    tables = []
    for position, classes in enumerate(nearest):
        cells = np.flatnonzero(classes != IGNORE)
        generator = np.random.default_rng([drawn[0], drawn[1] + position])
        cells = np.sort(cells[stratified(classes[cells], most, generator)])
        y, x = np.divmod(cells, size[1])
        table = pd.DataFrame({"position": position, "cell": cells, "class": classes[cells]})
        table = table.assign(name=[card.classes[index] for index in classes[cells]], cells=1.0)
        table = table.assign(x=(x + 0.5) / size[1], y=(y + 0.5) / size[0])
        for low, high, cell, cells_across, across in (
            ("left", "right", x, size[1], width),
            ("top", "bottom", y, size[0], height),
        ):
            table[low], table[high] = cell * across // cells_across, (cell + 1) * across // cells_across
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def stratified(classes: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of at most ``most`` of ``classes``, as many of each class; a rare one gives all it has."""
    if not len(classes):
        return np.zeros(0, int)
    names, which, counts = np.unique(classes, return_inverse=True, return_counts=True)
    quota = _quota(counts, max(most, len(names)))
    shuffled = generator.permutation(len(classes))
    rank = pd.Series(which[shuffled]).groupby(which[shuffled]).cumcount().to_numpy()
    return np.sort(shuffled[rank < quota])


PLACES = {"image": whole_images, "region": regions, "pixel": pixels}


def _quota(available: np.ndarray, total: int) -> int:
    """The largest q with ``sum(min(available, q)) <= total``."""
    quotas = np.arange(available.max() + 1)
    fits = np.minimum(available[None], quotas[:, None]).sum(axis=1) <= total
    return int(quotas[fits][-1])

"""Extract the latent vectors of a split, per image or region: the input of every metric and embedding."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crodino_lib.augment import plain
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes
from crodino_lib.io import atomic_write, load_npz, say
from crodino_lib.losses import region_vectors, region_weights
from crodino_lib.methods.base import Method
from crodino_lib.settings import choose
from crodino_lib.training import Callback, Training

Unit = Literal["image", "region"]
UNITS: tuple[Unit, ...] = get_args(Unit)
ROW_COLUMNS = ["image", "class", "name", "cells"]


class Block(NamedTuple):
    """One half of one sensor's bottleneck, written ``rgb/shared``."""

    sensor: str
    half: str

    def __str__(self) -> str:
        return f"{self.sensor}/{self.half}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the block that ``text`` names."""
        return cls(*text.rsplit("/", 1))


@dataclass(frozen=True)
class Latents:
    """Vectors of every block; row i of every block is the same place of the same scene, seen by each sensor.

    ``blocks["rgb", "shared"]`` is (n, d) float32. ``rows`` has n times ``image`` (scene id), ``class`` (index, 255 for
    whole images), ``name`` (of the class), ``cells`` (its area in cells of the bottleneck), ``x`` and ``y`` (centre,
    0..1 of width and height), ``left``, ``top``, ``right``, ``bottom`` (box in pixels).
    """

    blocks: dict[Block, np.ndarray]
    rows: pd.DataFrame
    unit: Unit = "region"

    def __post_init__(self):
        for block, vectors in self.blocks.items():
            if len(vectors) != len(self.rows):
                raise ValueError(f"block {block} has {len(vectors)} rows, but there are {len(self.rows)} {self.unit}s")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that have blocks, in order."""
        return tuple(dict.fromkeys(sensor for sensor, _ in self.blocks))

    @property
    def halves(self) -> tuple[str, ...]:
        """``shared``, ``private``: the halves that every sensor has."""
        return tuple(dict.fromkeys(half for _, half in self.blocks))

    @property
    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Half -> the blocks of the first and of the second sensor; ValueError without two sensors of both halves."""
        if len(self.sensors) != 2:
            raise ValueError(f"latents must have blocks of exactly two sensors, found {', '.join(self.sensors)}")
        for name in product(self.sensors, ("shared", "private")):
            if name not in self.blocks:
                raise ValueError(f"latents have no block {'/'.join(name)}, only {', '.join(map(str, self.blocks))}")
        return {half: tuple(self.blocks[sensor, half] for sensor in self.sensors) for half in self.halves}

    @property
    def images(self) -> np.ndarray:
        """(n,) int: number of every row's image, in order of appearance."""
        return pd.factorize(self.rows["image"])[0]

    @property
    def classes(self) -> np.ndarray:
        """(n,) int: class of every row."""
        return self.rows["class"].to_numpy()

    def take(self, rows: np.ndarray) -> "Latents":
        """Return the rows at positions ``rows``, in that order."""
        blocks = {block: vectors[rows] for block, vectors in self.blocks.items()}
        return Latents(blocks, self.rows.iloc[rows].reset_index(drop=True), self.unit)

    def sample(self, n: int, generator: np.random.Generator) -> "Latents":
        """Draw at most ``n`` rows, each as likely as any other, in their order."""
        return self if len(self) <= n else self.take(np.sort(generator.permutation(len(self))[:n]))

    def stacked(self, half: str) -> tuple[np.ndarray, pd.DataFrame]:
        """Return the vectors of a half, one sensor after the other, and their rows with the column ``sensor``."""
        vectors = np.concatenate([self.blocks[sensor, half] for sensor in self.sensors])
        rows = pd.concat([self.rows.assign(sensor=sensor) for sensor in self.sensors], ignore_index=True)
        return vectors, rows

    def save(self, path: Path) -> None:
        """Write everything into one ``.npz`` file, atomically."""
        arrays = {str(block): vectors for block, vectors in self.blocks.items()} | table_arrays("rows", self.rows)
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, unit=np.array(self.unit), **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote; ValueError for any other or a damaged file."""
        with load_npz(path) as file:
            if missing := [name for name in ROW_COLUMNS if f"rows/{name}" not in file.files]:
                raise ValueError(f"{path} holds {', '.join(file.files)}, but no rows/{missing[0]}: not saved latents")
            names = [name for name in file.files if not name.startswith("rows/") and name != "unit"]
            blocks = {Block.parse(name): file[name] for name in names}
            return cls(blocks, read_arrays("rows", file), str(file["unit"]))


def table_arrays(name: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return ``name/column`` -> the column as an array of numbers or of text, which can be saved without pickles."""
    arrays = {f"{name}/{column}": values.to_numpy() for column, values in table.items()}
    return {key: array if array.dtype.kind in "biuf" else array.astype(str) for key, array in arrays.items()}


def read_arrays(name: str, file: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the table whose columns a file holds under ``name/column``."""
    return pd.DataFrame({key.removeprefix(f"{name}/"): file[key] for key in file if key.startswith(f"{name}/")})


@torch.inference_mode()
def extract(method: Method, scenes: Scenes, units: Iterable[Unit] = UNITS, batch_size: int = 16) -> dict[Unit, Latents]:
    """Extract the latent vectors of every scene of a split, from paired, unaugmented inputs.

    The method, on its device, is set to evaluation mode; every network of a single sensor is used, ValueError for none.
    A method without a split is cut in two halves that mean nothing: that is a null model. An ``image`` is the mean over
    a scene, a ``region`` that over a class in a scene, where it covers a cell of the bottleneck or more; ordered by
    image, then class.
    """
    units = [choose(unit, UNITS, "unit") for unit in units]
    sensors = single_sensors(method)
    if not sensors:
        raise ValueError(f"{type(method).__name__} has no network of a single sensor, so no latents to extract")
    card, device = method.card, next(method.parameters()).device
    method.eval()
    parts: dict[Unit, list[Latents]] = {unit: [] for unit in units}
    for indices in torch.arange(len(scenes)).split(batch_size):
        batch = plain(scenes, indices.tolist(), card, sensors, device)
        maps: dict[str, Tensor] = {}
        for sensor, image in batch.images.items():  # one at a time, which leaves out networks of several sensors
            maps |= method.latents({sensor: image})
        for unit in units:
            parts[unit].append(_pooled(maps, batch.ids, batch.labels[sensors[0]], card, unit))  # unaugmented: one label
    latents = {}
    for unit, batches in parts.items():
        rows = pd.concat([part.rows for part in batches], ignore_index=True)
        blocks = {name: np.concatenate([part.blocks[name] for part in batches]) for name in batches[0].blocks}
        latents[unit] = Latents(blocks, rows, unit)
    return latents


def single_sensors(method: Method) -> tuple[str, ...]:
    """Return the sensors for which the method has a network of that sensor alone."""
    return tuple(served[0] for served in method.serves if len(served) == 1)


def _pooled(maps: dict[str, Tensor], ids: list[str], labels: Tensor, card: DatasetCard, unit: Unit) -> Latents:
    """Return the means of maps (B, C, h, w) over whole images, or over each class that covers a cell of an image."""
    height, width, size = *labels.shape[-2:], next(iter(maps.values())).shape[-2:]
    if unit == "image":
        rows = [(name, IGNORE, "", float(size[0] * size[1]), 0.5, 0.5, 0, 0, width, height) for name in ids]
        vectors = {name: block.float().mean(dim=(2, 3)) for name, block in maps.items()}
    else:
        area, rows = region_weights(labels, len(card.classes), size).sum(dim=(2, 3)), []
        for position, index in torch.nonzero(area >= 1.0).tolist():  # in the order of region_vectors
            y, x = torch.nonzero(labels[position] == index, as_tuple=True)
            centre = (x.float().mean().item() + 0.5) / width, (y.float().mean().item() + 0.5) / height
            box = x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1
            rows.append((ids[position], index, card.classes[index], area[position, index].item(), *centre, *box))
        vectors = {name: region_vectors(block, labels, len(card.classes)).vectors for name, block in maps.items()}
    table = pd.DataFrame(rows, columns=[*ROW_COLUMNS, "x", "y", "left", "top", "right", "bottom"])
    return Latents({Block.parse(name): block.float().cpu().numpy() for name, block in vectors.items()}, table, unit)


class RecordLatents(Callback):
    """Save region latents of the validation scenes at ``count`` evenly spaced epochs of a training, for the film.

    ``folder`` receives ``epoch-0003.npz`` and so on; 0 is the network before its first step. No random number is drawn
    from the global generators. Methods without a network of each sensor alone are not recorded.
    """

    def __init__(self, folder: Path, count: int):
        super().__init__()
        self.folder, self.count = Path(folder), count

    def epochs(self, last: int) -> set[int]:
        """Return the epochs to record in a training of ``last`` epochs."""
        return {round(last * part / max(self.count - 1, 1)) for part in range(self.count)}

    def on_start(self, training: Training) -> None:
        """Record the network before its first step, unless a resumed training recorded it before."""
        if training.epoch == 0 and not self._file(0).exists():
            self.on_epoch_end(training)

    def on_epoch_end(self, training: Training) -> dict[str, float]:
        """Record the network after ``training.epoch`` epochs, if they are among the evenly spaced ones."""
        method, epoch, settings = training.method, training.epoch, training.config.train
        both = len(method.sensors) > 1 and set(method.sensors) <= set(single_sensors(method))
        if not both or epoch not in self.epochs(training.epochs):
            return {}
        method.eval().export()
        latents = extract(method, training.validation, ["region"], settings.batch_size)["region"]
        if len(latents):
            latents.save(self._file(epoch))
        else:
            say(f"no latents of epoch {epoch}: no class covers a bottleneck cell; use more or larger validation images")
        return {}

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04}.npz"

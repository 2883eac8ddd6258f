"""Define scenes, batches, sensors and datasets: the types that everything else passes around."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from torch import Tensor

from crodino_lib.settings import choose, nearest

IGNORE = 255
METRES = ("m", "metres", "meters")

Sample = dict[str, np.ndarray | str]
"""One scene, read from disk.

``rgb`` uint8 (3, H, W) in R, G, B order; every other sensor float32 (C, H, W) in its stated unit; ``<sensor>_valid``
bool (1, H, W) for every sensor but rgb; ``label`` int64 (H, W) in ``0..K-1`` or 255 = ignore; ``id`` str.
"""


class SensorSet(tuple):
    """Names of the sensors that a student is given; ``rgb+depth`` in file names, records and tables."""

    def __str__(self) -> str:
        return "+".join(self)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the set that ``str`` wrote."""
        return cls(name.split("+"))


@dataclass(frozen=True)
class Sensor:
    """One sensor of a dataset; networks see ``(value - mean) / std`` per channel, and 0 where no value is valid."""

    channels: int
    unit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    focal: float = 1.0  # focal length in widths of the picture, which surface normals need; 1 where none is stated
    smooth: ClassVar[bool] = False  # whether photometric noise would drown what networks see

    @property
    def measured(self) -> "Sensor":
        """The sensor as measured; another one where ``datasets/encodings.py`` has encoded it for networks."""
        return self

    @property
    def metric(self) -> bool:
        """Return whether it measures distances; values between two distances, across an edge, do not exist."""
        return self.measured.unit in METRES and self.measured.channels == 1

    def encode(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return values (B, C, H, W) as networks see them, and (B, 1, H, W) bool: where they see them."""
        return values, valid

    def mirror(self, values: Tensor, warp: Tensor) -> Tensor:
        """Return encoded values of pictures that the warp may have mirrored."""
        return values


RGB = Sensor(3, "0..255", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))  # ImageNet statistics, x 255


@dataclass(frozen=True)
class DatasetCard:
    """Description of a dataset: enough to train on it, draw it and cite it."""

    name: str  # as it is asked for
    title: str  # as it is printed
    sensors: dict[str, Sensor]
    classes: tuple[str, ...]  # in the order of the label's ids
    palette: tuple[tuple[int, int, int], ...]  # one (r, g, b) in 0..255 per class
    splits: tuple[str, ...]  # train, val and test among them
    native_size: tuple[int, int]  # (width, height) in pixels that the files have
    homepage: str = ""
    citation: str = ""
    notes: str = ""
    licensed: bool = True  # its images must not be redistributed

    def entries(self, height: int, width: int) -> dict[str, tuple[type, tuple[int, int, int]]]:
        """Return the type and shape of each sensor in a sample, and of where it is valid."""
        entries = {}
        for name, sensor in self.sensors.items():
            entries[name] = (np.uint8 if name == "rgb" else np.float32, (sensor.channels, height, width))
            if name != "rgb":
                entries[f"{name}_valid"] = (np.bool_, (1, height, width))
        return entries


class SceneDataset(abc.ABC):
    """A dataset on disk. Every file is resolved when it is opened; a missing one is an error that names it."""

    card: DatasetCard
    splits: dict[str, list[str]]  # split -> scene ids, in a fixed order

    def ids(self, split: str) -> list[str]:
        """Return the scene ids of a split; ValueError proposes the nearest name where there is no such split."""
        return list(self.splits[choose(split, self.splits, f"split of {self.card.name}")])

    def entry(self, entries: Mapping[str, Any], scene_id: str) -> Any:
        """Return the entry of a scene; ValueError proposes the nearest id where there is no such scene."""
        if scene_id not in entries:
            raise ValueError(f"{self.card.name} has no scene {scene_id!r}.{nearest(scene_id, entries)}")
        return entries[scene_id]

    @abc.abstractmethod
    def read(self, scene_id: str) -> Sample:
        """Read one scene at its native size.

        FileNotFoundError where a file is missing; ValueError where one is unreadable or not as the dataset promises.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return a hash that changes when the files or their meaning change, not with the place of the copy."""

    def factors(self, split: str) -> pd.DataFrame | None:
        """Return the recorded factors, one row per scene indexed by id; None where a dataset records none."""
        return None


@dataclass
class Scenes:
    """One split held in memory at the size that networks see."""

    images: dict[str, np.ndarray]  # sensor -> (N, C, H, W); uint8 for rgb, float32 in the sensor's unit for the others
    valid: dict[str, np.ndarray]  # sensor -> (N, 1, H, W) bool, for every sensor but rgb
    labels: np.ndarray  # (N, H, W) uint8 in 0..K-1 or 255
    ids: list[str]
    factors: pd.DataFrame | None = field(default=None, repr=False)  # one row per scene, where they are recorded

    def __len__(self) -> int:
        return len(self.ids)

    def hide_labels(self, labelled: Sequence[int]) -> "Scenes":
        """Return these scenes with every label 255 but in those at the positions ``labelled``."""
        hidden = np.full_like(self.labels, IGNORE)
        hidden[labelled] = self.labels[labelled]
        return replace(self, labels=hidden)


@dataclass
class Batch:
    """Input of networks: sensor -> tensor, as every sensor has its own geometry, so its own labels."""

    images: dict[str, Tensor]  # (B, C, H, W) float32, normalised as the card states, 0 where invalid
    valid: dict[str, Tensor]  # (B, 1, H, W) bool: inside the scene, and measured or filled
    labels: dict[str, Tensor]  # (B, H, W) int64 in [0, K) or 255: no label is known, or outside the scene
    inside: dict[str, Tensor]  # (B, H, W) bool: inside the scene, whether or not a label is known
    warps: dict[str, Tensor]  # (B, 2, 3), output to scene coordinates (x, y in [-1, 1]): affine_grid, no align_corners
    ids: list[str]


def check_sample(sample: Sample, card: DatasetCard) -> Sample:
    """Return one scene that fits the contract and its card; else ValueError names scene, entry, found and expected."""
    label, where = sample["label"], f"scene {sample['id']!r} of {card.name}"
    if label.dtype != np.int64 or label.ndim != 2:
        raise ValueError(f"{where}: label is {label.dtype} {label.shape}, expected int64 (H, W)")
    for name, (dtype, shape) in card.entries(*label.shape).items():
        found = sample[name]
        if found.dtype != dtype or found.shape != shape:
            needs = f"aligned and as large as its label, which has {label.shape[1]}x{label.shape[0]} pixels"
            expected = f"expected {np.dtype(dtype)} {shape}; all sensors of a scene must be {needs}"
            raise ValueError(f"{where}: {name} is {found.dtype} {found.shape}, {expected}")
        if not np.isfinite(found).all():
            raise ValueError(f"{where}: {name} holds values that are not finite outside its holes")
    count = len(card.classes)
    if label.min() < 0 or label.max() > IGNORE or np.bincount(label.ravel())[count:IGNORE].any():
        wrong = np.setdiff1d(label, [*range(count), IGNORE])[:8].tolist()
        raise ValueError(f"{where}: the label holds {wrong}, outside the classes 0..{count - 1} and {IGNORE} (ignore)")
    return sample

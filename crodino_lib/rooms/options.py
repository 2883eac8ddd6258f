"""Dials of the built-in dataset: which classes are told, how well a sensor sees, and what labels are worth.

Each changes what is read of scenes that are rendered once; notebook 08 turns them.
"""

import hashlib
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from crodino_lib.data.sample import IGNORE, DatasetCard, Sample, Sensor
from crodino_lib.rooms.scene import CLASSES, PAIRS, SENSORS
from crodino_lib.rooms.sensors import FULL_WELL, READ_NOISE
from crodino_lib.settings import Strict

NIGHT = 0.01  # light of the degraded quality "night", as a part of what there is
COARSE = 4  # pixels of a side that become one
ORACLE = Sensor(3, "0..255 of a colour per class", mean=(180.0, 160.0, 165.0), std=(55.0, 55.0, 65.0))
ORACLE_COLOURS = np.frombuffer(  # of CLASSES: networks were trained on them, so they stay whatever the palette becomes
    bytes.fromhex("aec7e898785ac7e9c017becf8c564be377c2c5b0d5ffbb78bcbd222c64a0d62728ffeb3bff7f0e5a5a5a2ca02c9467bd"),
    np.uint8,
).reshape(-1, 3)


class RoomsOptions(Strict):
    """Options of ``rooms``; the defaults show the scenes as they are rendered."""

    evidence: float | None = Field(
        None, ge=0, le=1, description="share of the classes that no one sensor is needed for; none: all 16 as rendered"
    )
    private_to: Literal["rgb", "depth", "thermal"] = Field(
        "rgb", description="sensor that alone can tell the other classes, where evidence is below 1"
    )
    student: Literal["rgb", "depth", "thermal"] = Field("rgb", description="sensor that student_quality changes")
    student_quality: Literal["clean", "night", "coarse", "noisy", "blank"] = Field(
        "clean", description="a hundredth of the light, a quarter of the resolution, noise added, or noise alone"
    )
    label_noise: float = Field(0.0, ge=0, lt=1, description="share of regions of training scenes of a wrong class")
    oracle: bool = Field(False, description="add the sensor oracle, which shows the true class: the positive control")

    @model_validator(mode="before")
    @classmethod
    def _private_below_one(cls, values: dict) -> dict:
        if values.get("evidence", 1) in (None, 1) and values.get("private_to") in SENSORS:
            return {name: value for name, value in values.items() if name != "private_to"}  # it decides nothing
        return values

    @model_validator(mode="after")
    def _night_is_dark_for_rgb(self) -> Self:
        if self.student_quality == "night" and self.student != "rgb":
            needs = "takes light away, which only rgb sees: give student 'rgb', or another student_quality"
            raise ValueError(f"student_quality 'night' {needs}, given student {self.student!r}")
        return self


def told_classes(evidence: float | None, private_to: str) -> list[tuple[str, ...]]:
    """Return the classes that are told, each as the rendered classes that it joins; all others are ignored.

    At 1 each of ``PAIRS``, which only one sensor can tell apart, is one class, so that no class needs a certain sensor.
    Below 1 two classes are what ``private_to`` alone can tell, the first of its pairs and the second, joined by *or*;
    beside them stand as many of the rest, from the first on, as make the share of the rest nearest to it; none at 0.
    """
    if evidence is None:
        return [(name,) for name in CLASSES]
    joined = {name: tuple(pair) for _, *pair in PAIRS.values() for name in pair}
    merged = list(dict.fromkeys(joined.get(name, (name,)) for name in CLASSES))
    private = [tuple(pair) for sensor, *pair in PAIRS.values() if sensor == private_to]
    rest = [group for group in merged if group not in private]
    levels = {1.0: merged}
    for count in reversed(range(len(rest) + 1)):
        levels[count / (count + 2)] = [*rest[:count], *zip(*private, strict=True)]
    return levels[min(levels, key=lambda share: abs(share - evidence))]


class Dials:
    """What ``RoomsOptions`` change of a rendered scene, always in the same way for the same scene."""

    def __init__(self, options: RoomsOptions):
        self.options = options
        self.groups = told_classes(options.evidence, options.private_to)
        self.classes = tuple(" or ".join(group) for group in self.groups)
        self.lookup = np.full(256, IGNORE)
        for index, group in enumerate(self.groups):
            self.lookup[[CLASSES.index(name) for name in group]] = index

    def card_changes(self, card: DatasetCard) -> dict:
        """Return the fields of the card of the rendered scenes that are others."""
        palette = tuple(card.palette[CLASSES.index(group[0])] for group in self.groups)
        sensors = card.sensors | ({"oracle": ORACLE} if self.options.oracle else {})
        return {"classes": self.classes, "palette": palette, "sensors": sensors}

    def apply(self, sample: Sample, card: DatasetCard) -> Sample:
        """Return a rendered scene as the options show it; ``card`` is the changed one."""
        scene_id, options = sample["id"], self.options
        label = self.lookup[sample["label"]]
        if options.student_quality != "clean":
            sensor = card.sensors[options.student]
            sample |= degraded(sample, options.student, options.student_quality, sensor, drawn(scene_id))
        if options.oracle:
            colours = np.zeros((256, 3), np.float32)
            colours[: len(self.groups)] = [ORACLE_COLOURS[CLASSES.index(group[0])] for group in self.groups]
            sample |= {"oracle": colours[label].transpose(2, 0, 1), "oracle_valid": np.ones((1, *label.shape), bool)}
        if options.label_noise and scene_id.startswith("train-"):
            label = noisy_labels(label, options.label_noise, len(self.classes), drawn(scene_id))
        return sample | {"label": label}


def drawn(scene_id: str) -> np.random.Generator:
    """Return a generator that depends on the scene alone, anew for each use, so that no option changes another's."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(scene_id.encode()).digest()[:8]))


def noisy_labels(label: np.ndarray, share: float, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return labels (H, W) in which a ``share`` of the classes present has become one other class each, at random."""
    shift = np.where(rng.random(256) < share, rng.integers(1, classes, 256), 0)
    return np.where(label == IGNORE, IGNORE, (label + shift[label]) % classes)


def degraded(sample: Sample, name: str, quality: str, sensor: Sensor, rng: np.random.Generator) -> Sample:
    """Return the entries of a sensor that ``quality`` degrades, see ``RoomsOptions``; night is for rgb alone."""
    values = sample[name].astype(np.float64)
    valid = sample.get(f"{name}_valid", np.ones((1, *values.shape[1:]), bool))
    mean, std = (np.reshape(moment, (-1, 1, 1)) for moment in (sensor.mean, sensor.std))
    noise = rng.normal(size=values.shape)
    if quality == "night":
        electrons = (values / 255) ** 2.2 * FULL_WELL * NIGHT  # 2.2: about sRGB
        linear = np.maximum(electrons + noise * np.sqrt(electrons + READ_NOISE**2), 0) / FULL_WELL / NIGHT**0.6
        values = 255 * np.minimum(linear, 1) ** (1 / 2.2)  # exposure makes up for a part of the light, as by day
    elif quality == "coarse":
        values, valid = coarse(values, valid)
    elif quality == "noisy":
        values = values + std * noise
    else:
        values, valid = mean + std * noise, np.ones_like(valid)
    if name == "rgb":
        return {name: np.clip(np.round(values), 0, 255).astype(np.uint8)}
    return {name: np.where(valid, values, 0).astype(np.float32), f"{name}_valid": valid}


def coarse(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values (C, H, W) and validity (1, H, W) in which blocks of pixels have the mean of their valid ones."""

    def block_sums(array: np.ndarray) -> np.ndarray:
        count, height, width = array.shape
        return array.reshape(count, height // COARSE, COARSE, width // COARSE, COARSE).sum(axis=(2, 4))

    known = block_sums(valid.astype(np.float64))
    means = block_sums(values * valid) / np.maximum(known, 1)
    return tuple(part.repeat(COARSE, axis=1).repeat(COARSE, axis=2) for part in (means, known > 0))

"""Scenes of any dataset written as a folder of pictures with its ``dataset.toml``: an example of what to bring."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from crodino_lib.data.sample import DatasetCard, Sample, SceneDataset, Sensor
from crodino_lib.io import atomic_write, bar

MILLIMETRES, FARTHEST_M = 0.001, 65.5  # what 16 bits hold


def write_folder(dataset: SceneDataset, root: Path, counts: tuple[int, int, int]) -> Path:
    """Write the first scenes of train, val and test as the dataset ``folder`` reads them.

    Colour and labels become PNGs; depth in metres a PNG of 16 bits in millimetres, 0 where invalid, as depth cameras
    write it; every other sensor an array of floats, not a number where invalid.

    Args:
        dataset: where scenes come from.
        root: the new folder; one that is complete is left as it is.
        counts: scenes for train, val and test.

    Returns:
        The path of its ``dataset.toml``, which is written last.

    Raises:
        ValueError: a sensor cannot be written so.
    """
    toml = root / "dataset.toml"
    if toml.exists():
        return toml
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        ids = dataset.ids(split)[:count]
        for scene_id in bar(ids, label=f"writing {split}", unit="scene"):
            _write_scene(dataset.read(scene_id), dataset.card, root)
        with atomic_write(root / f"{split}.txt") as path:
            path.write_text("".join(f"{scene_id}\n" for scene_id in ids))
    with atomic_write(toml) as path:
        path.write_text(describe(dataset.card))
    return toml


def describe(card: DatasetCard) -> str:
    """The ``dataset.toml`` of a folder that ``write_folder`` writes."""
    lines = [
        f"name = {json.dumps(card.name + '-folder')}",
        f"title = {json.dumps(card.title + ', as a folder of pictures')}",
        f"classes = {json.dumps(card.classes)}",
        f"palette = {json.dumps(['#{:02x}{:02x}{:02x}'.format(*colour) for colour in card.palette])}",
        *(['rgb = { dir = "rgb", ext = ".png" }'] if "rgb" in card.sensors else []),
        'label = { dir = "label", ext = ".png" }',
        'splits = { train = "train.txt", val = "val.txt", test = "test.txt" }',
        f"licensed = {json.dumps(card.licensed)}",
        f"citation = {json.dumps(card.citation)}",
    ]
    for name, sensor in card.sensors.items():
        if name != "rgb":
            lines += [
                f"\n[sensors.{name}]",
                f'dir = "{name}"',
                f"kind = {json.dumps('u16' if _in_millimetres(sensor) else 'float')}",
                f"scale = {MILLIMETRES if _in_millimetres(sensor) else 1.0}",
                f"unit = {json.dumps(sensor.unit)}",
                f"invalid = {json.dumps([0] if _in_millimetres(sensor) else [])}",
                f"mean = {json.dumps(sensor.mean)}",
                f"std = {json.dumps(sensor.std)}",
                f"focal = {sensor.focal}",
            ]
    return "\n".join(lines) + "\n"


def _in_millimetres(sensor: Sensor) -> bool:
    return sensor.unit == "m" and sensor.channels == 1


def _write_scene(sample: Sample, card: DatasetCard, root: Path) -> None:
    pictures = {"label": sample["label"].astype(np.uint8)}
    for name, sensor in card.sensors.items():
        if name == "rgb":
            pictures[name] = sample[name].transpose(1, 2, 0)
        elif sensor.channels > 1 or (_in_millimetres(sensor) and sample[name].max() >= FARTHEST_M):
            raise ValueError(
                f"{name} of scene {sample['id']!r} has {sensor.channels} channel(s) up to {sample[name].max():g} "
                f"{sensor.unit}; only one channel, and metres below {FARTHEST_M:g}, can be written"
            )
        elif _in_millimetres(sensor):
            pictures[name] = (sample[name][0] / MILLIMETRES).round().astype(np.uint16)
        else:
            with atomic_write(root / name / f"{sample['id']}.npy") as path:
                np.save(path, np.where(sample[f"{name}_valid"], sample[name], np.nan)[0])
    for name, pixels in pictures.items():
        with atomic_write(root / name / f"{sample['id']}.png") as path:
            Image.fromarray(pixels).save(path)

"""A split in memory at the size that networks see, decoded once and kept on disk."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from crodino_lib.config import DataConfig, cache_dir, choose
from crodino_lib.data.cache import Layout, fill_arrays, open_arrays
from crodino_lib.data.sample import Sample, SceneDataset, Scenes, check_sample
from crodino_lib.io import bar, file_lock, say

LARGEST_HALF = float(np.finfo(np.float16).max)
MEASURED_SPLITS = ("train", "val", "test")


def load_scenes(
    dataset: SceneDataset, split: str, config: DataConfig, sensors: tuple[str, ...], progress: bool = True
) -> Scenes:
    """Read one split, resized to ``config.size``; the second time from the cache.

    Pictures are resized with antialiasing; other sensors take the mean of the valid pixels under a new one, which is
    valid where those are at least half of its area; labels take the nearest pixel. With ``config.limit`` the split is
    thinned evenly to its count in ``config.scenes``.

    Args:
        dataset: where scenes come from.
        split: one of its splits.
        config: size and limit.
        sensors: which sensors to hold.
        progress: show a bar while decoding.

    Returns:
        Arrays mapped from the cache: writing to them changes the copy in memory, never the file.

    Raises:
        ValueError: an unknown split or sensor, or a scene breaks the contract.
        FileNotFoundError: a file is missing.
        OSError: the disk does not suffice.
    """
    choose(split, dataset.card.splits, f"split of {dataset.card.name}")
    for sensor in sensors:
        choose(sensor, dataset.card.sensors, f"sensor of {dataset.card.name}")
    ids = dataset.ids(split)
    if config.limit:
        ids = _thinned(ids, dict(zip(MEASURED_SPLITS, config.scenes, strict=True)).get(split, config.scenes[-1]))
    size = config.pixels(dataset.card.native_size)
    key = hashlib.sha256(repr((dataset.fingerprint(), ids, size)).encode() + Path(__file__).read_bytes()).hexdigest()
    folder = cache_dir() / "decoded" / f"{dataset.card.name}-{split}-{size[0]}x{size[1]}-{key[:16]}"
    layout = _layout(dataset, len(ids), size)
    with file_lock(folder):
        arrays = open_arrays(folder, layout)
        if arrays is None:
            _decode(dataset, ids, size, folder, layout, f"{dataset.card.name} {split}" if progress else "")
            arrays = open_arrays(folder, layout)
    factors = dataset.factors(split)
    return Scenes(
        images={sensor: arrays[sensor] for sensor in sensors},
        valid={sensor: arrays[f"{sensor}_valid"] for sensor in sensors if sensor != "rgb"},
        labels=arrays["label"],
        ids=ids,
        factors=None if factors is None else factors.loc[ids],
    )


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """The scene at another (width, height), all sensors still aligned; the scene itself where it has that size."""
    if sample["label"].shape == size[::-1]:
        return sample
    small: Sample = {"id": sample["id"]}
    for name, value in sample.items():
        if name == "rgb":
            picture = Image.fromarray(value.transpose(1, 2, 0)).resize(size, Image.Resampling.BILINEAR)  # antialiased
            small[name] = np.asarray(picture).transpose(2, 0, 1)
        elif name == "label":
            nearest = Image.fromarray(value.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
            small[name] = np.asarray(nearest).astype(np.int64)
        elif f"{name}_valid" in sample:
            small[name], small[f"{name}_valid"] = _mean_of_valid(value, sample[f"{name}_valid"], size)
    return small


def _mean_of_valid(image: np.ndarray, valid: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    weight = _area_mean(valid[0].astype(np.float32), size)
    total = np.stack([_area_mean(np.where(valid[0], channel, 0), size) for channel in image])
    kept = (weight >= 0.5)[None]
    return np.where(kept, total / np.maximum(weight, 0.5), 0).astype(np.float32), kept


def _area_mean(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX))


def _thinned(ids: list[str], count: int) -> list[str]:
    """At most ``count`` of ``ids``, evenly spaced from first to last."""
    if len(ids) <= count:
        return ids
    return [ids[index] for index in np.linspace(0, len(ids) - 1, count).round().astype(int)]


def _layout(dataset: SceneDataset, count: int, size: tuple[int, int]) -> Layout:
    """Entry -> shape and type of its array. All sensors are kept, so that rows with one sensor or two share a cache."""
    width, height = size
    layout: Layout = {"label": ((count, height, width), np.dtype(np.uint8))}
    for name, sensor in dataset.card.sensors.items():
        dtype = np.dtype(np.uint8 if name == "rgb" else np.float16)
        layout[name] = ((count, sensor.channels, height, width), dtype)
        if name != "rgb":
            layout[f"{name}_valid"] = ((count, 1, height, width), np.dtype(bool))
    return layout


def _decode(dataset: SceneDataset, ids: list[str], size: tuple[int, int], folder: Path, layout: Layout, label: str):
    """Decode the scenes of ``ids`` that are not decoded yet."""
    start = time.monotonic()

    def read(indices: Sequence[int]) -> Iterator[Sample]:
        samples = _read_all(dataset, [ids[index] for index in indices], size)
        yield from bar(samples, total=len(indices), label=label, unit="scene") if label else samples

    count = fill_arrays(folder, layout, read)
    if label:
        say(f"{label}: decoded {count} scenes at {size[0]}x{size[1]} in {time.monotonic() - start:.0f} s")


def _read_all(dataset: SceneDataset, ids: Iterable[str], size: tuple[int, int]) -> Iterator[Sample]:
    """Scenes in order, read by a few threads a little ahead of where they are taken."""

    def read(scene_id: str) -> Sample:
        sample = dataset.read(scene_id)
        check_sample(sample, dataset.card)
        return checked_range(resize_sample(sample, size))

    threads = os.cpu_count() or 1
    pending: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for scene_id in ids:
                pending.append(pool.submit(read, scene_id))
                if len(pending) > 4 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def checked_range(sample: Sample) -> Sample:
    """The sample, whose values must fit the half precision they are kept in."""
    checked = dict(sample)
    for name, value in sample.items():
        if not isinstance(value, np.ndarray) or value.dtype != np.float32:
            continue
        largest = np.abs(value).max()
        if not largest < 1 << 16:
            raise ValueError(
                f"scene {sample['id']!r}: {name} holds {largest}, expected finite values below 65536; give the sensor "
                "a scale to a unit such as m or degrees C"
            )
        if largest > LARGEST_HALF:  # as near to it as other values are to theirs: counts of 16 bits fit
            checked[name] = value.clip(-LARGEST_HALF, LARGEST_HALF)
    return checked

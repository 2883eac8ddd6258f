"""Load a split into memory at the size that networks see; it is decoded once and kept on disk."""

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crodino_lib.config import TRAINING_VERSION, DataConfig, cache_dir
from crodino_lib.data.checks import SplitStatistics
from crodino_lib.data.sample import Sample, SceneDataset, Scenes, check_sample
from crodino_lib.io import bar, file_lock, say
from crodino_lib.settings import choose

SCENES_AHEAD = 32  # a whole dataset at its native size does not fit in memory
BLOCK_BYTES, BLOCKS = 1 << 18, 64  # what is checked of a file: all of a small one, 16 MB spread over a large one


def load_scenes(dataset: SceneDataset, split: str, config: DataConfig, sensors: tuple[str, ...]) -> Scenes:
    """Read one split, resized to ``config.size``; the second time from the cache.

    Pictures are resized with antialiasing; other sensors take the mean of the valid pixels under a new one, which is
    valid where those are at least half of its area; labels take the nearest pixel. With ``config.limit`` the split is
    thinned evenly to its count in ``config.scenes``. Writing to the arrays changes the copy in memory, never the cache.

    Raises:
        ValueError: an unknown split or sensor, a scene that breaks the contract, or a split that nothing can be learnt
            from, such as with depth in the wrong unit.
        OSError: a file is missing, or the disk does not suffice.
    """
    card, ids = dataset.card, dataset.ids(split)
    for sensor in sensors:
        choose(sensor, card.sensors, f"sensor of {card.name}")
    if config.limit:
        count = dict(zip(("train", "val", "test"), config.scenes, strict=True)).get(split, config.scenes[-1])
        ids = [ids[place] for place in np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)]
    size = config.pixels(card.native_size)
    key = hashlib.sha256(repr((TRAINING_VERSION, dataset.fingerprint(), ids, size)).encode()).hexdigest()
    folder = cache_dir() / "decoded" / f"{card.name}-{split}-{size[0]}x{size[1]}-{key[:16]}"
    with file_lock(folder):
        if (arrays := _open_arrays(folder / "arrays")) is None:
            _decode(dataset, split, ids, size, folder)
            arrays = _open_arrays(folder / "arrays")
    factors = dataset.factors(split)
    return Scenes(
        images={sensor: arrays[sensor] for sensor in sensors},
        valid={sensor: arrays[f"{sensor}_valid"] for sensor in sensors if sensor != "rgb"},
        labels=arrays["label"],
        ids=ids,
        factors=None if factors is None else factors.loc[ids],
    )


def _open_arrays(folder: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays by entry of a sample, mapped copy-on-write; None where one is missing or has changed."""
    try:
        checksums = json.loads((folder / "checksums.json").read_text())
        if any(_checksum(folder / f"{name}.npy") != expected for name, expected in checksums.items()):
            return None
        return {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in checksums}
    except (OSError, ValueError):
        return None


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file's size and of blocks spread evenly over it, its ends among them."""
    size = path.stat().st_size
    total = zlib.crc32(str(size).encode())
    starts = range(0, size, BLOCK_BYTES)
    if len(starts) > BLOCKS:
        starts = np.linspace(0, size - BLOCK_BYTES, BLOCKS).astype(int).tolist()
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            total = zlib.crc32(file.read(BLOCK_BYTES), total)
    return total


def _decode(dataset: SceneDataset, split: str, ids: list[str], size: tuple[int, int], folder: Path) -> None:
    """Decode and check the scenes of a split, with all sensors; only then do arrays appear in ``folder / "arrays"``."""
    start, (width, height) = time.monotonic(), size
    layout = {"label": (np.uint8, (height, width))} | dataset.card.entries(height, width)
    unfinished, finished = folder / "unfinished", folder / "arrays"
    for old in (unfinished, finished):
        shutil.rmtree(old, ignore_errors=True)
    need = len(ids) * sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in layout.values())
    if need > (free := shutil.disk_usage(folder).free):
        found = f"the decoded scenes need {need / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free"
        raise OSError(f"{found}; choose a smaller size, fewer scenes (limit, scenes) or another folder (CRODINO_CACHE)")

    def read(scene_id: str) -> tuple[Sample, Sample]:
        sample = check_sample(dataset.read(scene_id), dataset.card)
        return sample, resize_sample(sample, size)

    unfinished.mkdir()
    try:
        statistics = SplitStatistics(dataset.card)
        with ExitStack() as stack:
            files = {name: stack.enter_context((unfinished / f"{name}.npy").open("wb")) for name in layout}
            for name, (dtype, shape) in layout.items():
                header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (len(ids), *shape)}
                np.lib.format.write_array_header_1_0(files[name], header)
            for sample, small in bar(read_ahead(read, ids), total=len(ids), label=f"decoding {split}", unit="scene"):
                statistics.add(sample)
                for name, (dtype, _) in layout.items():
                    files[name].write(small[name].astype(dtype).tobytes())
        if problems := statistics.problems(split):
            raise ValueError("\n".join(problems))
        checksums = {name: _checksum(unfinished / f"{name}.npy") for name in layout}
        (unfinished / "checksums.json").write_text(json.dumps(checksums))
        unfinished.rename(finished)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    done = f"decoded {len(ids)} scenes at {width}x{height} in {time.monotonic() - start:.0f} s"
    say(f"{dataset.card.name} {split}: {done}")


def read_ahead(read: Callable[[str], Any], ids: list[str]) -> Iterator[Any]:
    """Yield ``read(id)`` of all ids in order; a few threads read ahead."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(ids), SCENES_AHEAD):
            yield from pool.map(read, ids[start : start + SCENES_AHEAD])


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """Return the scene at another (width, height), all sensors still aligned; itself where it has that size."""
    if sample["label"].shape == size[::-1]:
        return sample
    small: Sample = {"id": sample["id"]}
    for name, value in sample.items():
        if name == "rgb":
            small[name] = _resized(value.transpose(1, 2, 0), size, "BILINEAR").transpose(2, 0, 1)  # antialiased
        elif name == "label":
            small[name] = _resized(value.astype(np.uint8), size, "NEAREST").astype(np.int64)
        elif f"{name}_valid" in sample:  # the mean of valid pixels
            valid = sample[f"{name}_valid"][0]
            weight = _resized(valid.astype(np.float32), size, "BOX")
            total = np.stack([_resized(np.where(valid, channel, 0), size, "BOX") for channel in value])
            kept = (weight >= 0.5)[None]
            mean = np.where(kept, total / np.maximum(weight, 0.5), 0).astype(np.float32)
            small |= {name: mean, f"{name}_valid": kept}
    return small


def _resized(pixels: np.ndarray, size: tuple[int, int], filter_name: str) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[filter_name]))

"""Read NYU Depth v2 as published: ``nyu_depth_v2_labeled.mat``, 1449 scenes in one HDF5 file of MATLAB 7.3, 2.8 GB.

Homepage: https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html

HDF5 shows MATLAB's arrays with their axes reversed:

==============  =====================  ========================================================================
``images``      uint8 (N, 3, W, H)     R, G, B
``depths``      float32 (N, W, H)      metres, 0.71 to 10, holes in-painted
``rawDepths``   float32 (N, W, H)      metres, up to 10; 0 = no measurement
``labels``      uint16 (N, W, H)       0 = unlabelled, 1..894 = name, which ``nyu.toml`` maps to 40 or 13 classes
==============  =====================  ========================================================================

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012.
"""

import dataclasses
import hashlib
import os
import threading
import tomllib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from crodino_lib.data.decode import needed
from crodino_lib.data.layouts import warn
from crodino_lib.data.sample import IGNORE, DatasetCard, Sample, SceneDataset
from crodino_lib.data.splits import disjoint, with_val
from crodino_lib.settings import Strict, nearest

TABLES = tomllib.loads(Path(__file__).with_name("nyu.toml").read_text(encoding="utf-8"))
SCENES = TABLES["split"]["scenes"]
DEPTH_KEYS = {"refined": "depths", "raw": "rawDepths"}
NAMES = 894
VAL_FRACTION = 0.12  # that of a folder, so that all layouts have the same val scenes
FARTHEST_M = 10.5  # the toolbox clips at 10 m; more is another unit
FULL_SIZE = (640, 480)
INSIDE = (slice(44, 471), slice(40, 601))  # rows and columns in which the toolbox projects depth onto rgb
LOOKED_AT = 16  # scenes whose labels are read when the file is opened
DIGEST_BYTES = 1 << 16
CHUNK_CACHE_BYTES = 1 << 26  # MATLAB's chunks may span scenes; those read before are then not decompressed again


class NyuOptions(Strict):
    """Options of NYU Depth v2; the tree of 8 bits has the defaults only."""

    depth: Literal["refined", "raw"] = Field("refined", description="refined: holes in-painted; raw: as projected")
    crop_border: bool = Field(False, description="leave out the white border: keep rows 44..470 and columns 40..600")


def expand(runs: Iterable[str]) -> list[int]:
    """Return the numbers of ``["1-2,9"]``: 1, 2 and 9."""
    ends = [run.split("-") for part in runs for run in part.split(",")]
    return [number for first, *last in ends for number in range(int(first), int((last or [first])[0]) + 1)]


def official_split(count: int = SCENES, first: int = 1) -> dict[str, list[str]]:
    """Return the ids, of four digits, of the official ``train`` and ``test``, as far as a copy has ``count`` scenes.

    ``first`` is the number of the first scene: 1 as in MATLAB, or 0 as in copies made with Python.
    """
    numbers = range(1, min(count, SCENES) + 1)
    test = set(expand(TABLES["split"]["test"])).intersection(numbers)
    parts = {"train": sorted(set(numbers) - test), "test": sorted(test)}
    return {split: [f"{number - 1 + first:04d}" for number in part] for split, part in parts.items()}


def forty_of_894() -> np.ndarray:
    """Return (895,) uint8: number of a name -> class in ``1..40``; 0, unlabelled, stays 0."""
    forty = np.full(NAMES + 1, 40, np.uint8)  # otherprop: every name that no other class takes
    forty[0] = 0
    forty[expand(TABLES["forty"]["otherstructure"])] = 38
    forty[expand(TABLES["forty"]["otherfurniture"])] = 39
    forty[TABLES["forty"]["names"]] = range(1, 38)
    return forty


def classes_of_894(count: Literal[13, 40]) -> np.ndarray:
    """Return (895,) int64: number of a name -> class in ``0..count-1``, 255 = unlabelled."""
    raw = forty_of_894()
    if count == 13:
        raw = np.array([0, *TABLES["thirteen"]["of_forty"]])[raw]
    return np.where(raw == 0, IGNORE, raw.astype(np.int64) - 1)


def cropped_size(size: tuple[int, int], crop_border: bool, where: str) -> tuple[int, int]:
    """Return (width, height) after ``crop_border``; ValueError where the border of this size is not known."""
    if not crop_border:
        return size
    if size != FULL_SIZE:
        raise ValueError(f"{where} has {size[0]}x{size[1]} pixels; crop_border knows the border of 640x480 only")
    rows, columns = INSIDE
    return columns.stop - columns.start, rows.stop - rows.start


def checked_scene(sample: Sample, crop_border: bool, where: str) -> Sample:
    """Return the scene, without its border where that is asked for; ValueError where depth cannot be in metres."""
    low, high = sample["depth"].min(), sample["depth"].max()
    if low < 0 or high > FARTHEST_M:
        raise ValueError(f"{where}: depth is {low:g} to {high:g} m, expected 0 to 10; the file holds another unit")
    cropped_size(sample["label"].shape[::-1], crop_border, where)
    arrays = {name: value for name, value in sample.items() if name != "id" and crop_border}
    return sample | {name: np.ascontiguousarray(value[..., *INSIDE]) for name, value in arrays.items()}


class NyuMatDataset(SceneDataset):
    """The original file, read scene by scene; ids are MATLAB's numbers, ``0001`` to ``1449``.

    Splits and size of the ``card`` come from the file; ``classes`` are those of ``classes_of_894``. A ValueError names
    the array of a damaged or another file, what was found and what was expected.
    """

    def __init__(self, path: Path, card: DatasetCard, classes: np.ndarray, options: NyuOptions):
        self.path, self.options, self._classes = path, options, classes
        self._depth = DEPTH_KEYS[options.depth]
        self._local = threading.local()
        count, size = self._check_arrays()
        official = official_split(count)
        if not all(official.values()):
            raise ValueError(f"{path} holds {count} scene(s), expected {SCENES}; none of them is one of train")
        if count != SCENES:
            cut = "the official split is cut to those that are there and scenes beyond it are not read"
            warn(f"{path} holds {count} scenes, published {SCENES}: {cut}; results do not compare with published ones")
        self._refuse_mapped_labels(count)
        self.splits = disjoint(with_val(official, VAL_FRACTION), path)
        self._places = {scene_id: int(scene_id) - 1 for ids in self.splits.values() for scene_id in ids}
        size = cropped_size(size, options.crop_border, str(path))
        self.card = dataclasses.replace(card, splits=tuple(self.splits), native_size=size)

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        index, where = self.entry(self._places, scene_id), f"{self.path}, scene {scene_id}"
        try:  # MATLAB's (H, W, ...) arrives as (..., W, H)
            image, depth, raw = (entry[index].swapaxes(-1, -2) for entry in self._entries.values())
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from error
        if raw.max() > NAMES:
            raise ValueError(f"{where}: labels holds {raw.max()}, expected 0..{NAMES}")
        valid = (np.isfinite(depth) & (depth != 0))[None]
        sample: Sample = {
            "id": scene_id,
            "rgb": np.ascontiguousarray(image),
            "depth": np.where(valid, depth[None], np.float32(0)),
            "depth_valid": valid,
            "label": self._classes[raw],
        }
        return checked_scene(sample, self.options.crop_border, where)

    def fingerprint(self) -> str:
        """Return a hash of parts of the file and of the options."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        """Hash 64 kB in each of 1024 places: hashing 2.8 GB takes longer than a run's decoded scenes to open."""
        total, size = hashlib.sha256(self._classes.tobytes()), self.path.stat().st_size
        total.update(repr((self.splits, self.options, self.card, size)).encode())
        with self.path.open("rb") as file:
            for place in range(0, size, max(DIGEST_BYTES, size // 1024)):
                file.seek(place)
                total.update(file.read(DIGEST_BYTES))
        return total.hexdigest()

    @property
    def _entries(self) -> dict[str, Any]:
        """Key -> array in the file: rgb, depth, label. A handle of HDF5 belongs to one thread of one process."""
        if getattr(self._local, "process", None) != os.getpid():
            self._local.entries = open_entries(self.path, ("images", self._depth, "labels"))
            self._local.process = os.getpid()
        return self._local.entries

    def _check_arrays(self) -> tuple[int, tuple[int, int]]:
        """Return the number of scenes and their (width, height)."""
        shape = self._entries["images"].shape
        if len(shape) != 4 or shape[1] != 3 or shape[2] <= shape[3]:
            raise ValueError(
                f"{self.path}: images is of shape {shape}, expected scenes, colours, columns, rows, as "
                f"{(SCENES, 3, *FULL_SIZE)}; a file that was saved again often has other axes"
            )
        count, _, width, height = shape
        for (key, entry), dtype in zip(self._entries.items(), (np.uint8, np.float32, np.uint16), strict=True):
            expected = shape if key == "images" else (count, width, height)
            if entry.dtype != dtype or entry.shape != expected:
                wanted = f"expected {np.dtype(dtype)} {expected}, as images has that size"
                raise ValueError(f"{self.path}: {key} is {entry.dtype} {entry.shape}, {wanted}")
        return count, (width, height)

    def _refuse_mapped_labels(self, count: int) -> None:
        """Look at some labels for names that only the original has; ValueError where they hold classes 1..40 or 1..13.

        These would be mapped a second time.
        """
        try:
            scenes = [np.unique(self._entries["labels"][i]).tolist() for i in range(0, count, -(-count // LOOKED_AT))]
        except (OSError, RuntimeError):  # damaged: reported with the scene when it is read
            return
        largest = max(set().union(*scenes) - {IGNORE}, default=0)
        labelled = sum(any(ids) for ids in scenes)  # a few scenes may happen to hold small numbers only
        if labelled > LOOKED_AT // 2 and largest <= 40:
            raise ValueError(
                f"{self.path}: labels holds ids up to {largest} in the {len(scenes)} scenes looked at, expected the "
                f"original's 1..{NAMES}: somebody mapped them to 40 or 13 classes, and they would be mapped a second "
                "time; take the original file"
            )


def open_entries(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return arrays of the file by their key, opened and not read; ValueError where it is damaged or lacks a key."""
    h5py = needed("h5py", "nyu", path)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
        entries, there = {key: file.get(key) for key in keys}, sorted(file)
    except (OSError, RuntimeError) as error:
        with path.open("rb") as damaged:
            start = damaged.read(19)
        old = "; it was saved again in MATLAB's older format, take the original" * start.startswith(b"MATLAB 5.0")
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes, starting with {start!r}) cannot be read as the HDF5 file of 2.8 GB "
            f"that nyu_depth_v2_labeled.mat is: {error}{old}"
        ) from error
    for key, entry in entries.items():
        if not isinstance(entry, h5py.Dataset):
            raise ValueError(f"{path} has no array {key!r}; it holds {', '.join(there[:20])}.{nearest(key, there)}")
    return entries

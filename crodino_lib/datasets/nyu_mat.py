"""NYU Depth v2 as it is published: ``nyu_depth_v2_labeled.mat``, 1449 scenes in one HDF5 file of MATLAB 7.3, 2.8 GB.

Homepage: https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html

HDF5 shows MATLAB's arrays with their axes reversed:

==============  =====================  ========================================================================
``images``      uint8 (N, 3, W, H)     R, G, B
``depths``      float32 (N, W, H)      metres, 0.71 to 10, holes in-painted
``rawDepths``   float32 (N, W, H)      metres, up to 10; 0 = no measurement
``labels``      uint16 (N, W, H)       0 = unlabelled, 1..894 = name, which ``nyu_tables`` makes into 40 or 13 classes
==============  =====================  ========================================================================

Source: N. Silberman, D. Hoiem, P. Kohli, R. Fergus, "Indoor Segmentation and Support Inference from RGBD Images",
ECCV 2012.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from crodino_lib.config import DataConfig, Strict, choose, nearest
from crodino_lib.data.image_files import needed
from crodino_lib.data.layouts import ARCHIVES, existing_root, warn
from crodino_lib.data.sample import DatasetCard, Sample, SceneDataset
from crodino_lib.data.splits import disjoint, with_val
from crodino_lib.datasets.nyu_tables import SCENES, official_split

MAT_NAME = "nyu_depth_v2_labeled.mat"
DEPTH_KEYS = {"refined": "depths", "raw": "rawDepths"}
VAL_FRACTION = 0.12  # that of a folder, so that all layouts have the same val scenes
FARTHEST_M = 10.5  # the toolbox clips at 10 m; more is another unit
FULL_SIZE = (640, 480)
INSIDE = (slice(44, 471), slice(40, 601))  # rows and columns in which the toolbox projects depth onto rgb
DIGEST_BYTES = 1 << 16
CHUNK_CACHE_BYTES = 1 << 26  # MATLAB's chunks may span scenes; those read before are then not decompressed again


class NyuOptions(Strict):
    """What can be chosen of NYU Depth v2; the tree of 8 bits has the defaults only."""

    depth: Literal["refined", "raw"] = Field("refined", description="refined: holes in-painted; raw: as projected")
    crop_border: bool = Field(False, description="leave out the white border: keep rows 44..470 and columns 40..600")


def find_mat(config: DataConfig) -> Path | None:
    """The original file that ``config.root`` is, or holds up to two folders deep; None where it holds none.

    Raises:
        FileNotFoundError: the root does not exist; proposes a neighbour.
        ValueError: no root is given, it is an archive, or holds several such files.
    """
    root = Path(config.root).expanduser().resolve()
    if root.is_file() and root.suffix.lower() not in ARCHIVES:
        return root
    if root.suffix.lower() == ".mat" and not root.exists():
        there = sorted(path.name for path in root.parent.glob("*.mat"))
        raise FileNotFoundError(
            f"the file {root} does not exist; beside it: {', '.join(there[:10]) or 'no .mat file'}."
            f"{nearest(root.name, there)}"
        )
    root = existing_root(config)
    found = [
        path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}*.mat") if path.name.lower() == MAT_NAME
    ]
    if len(found) > 1:
        raise ValueError(f"{root} holds {len(found)} files {MAT_NAME}; give one as root: {', '.join(map(str, found))}")
    return found[0] if found else None


def framed(size: tuple[int, int], crop_border: bool, where: str) -> tuple[int, int]:
    """(width, height) of pictures of ``size`` after ``crop_border``.

    Raises:
        ValueError: the border is known for another size only.
    """
    if not crop_border:
        return size
    if size != FULL_SIZE:
        raise ValueError(f"{where} has {size[0]}x{size[1]} pixels; crop_border knows the border of 640x480 only")
    rows, columns = INSIDE
    return columns.stop - columns.start, rows.stop - rows.start


def finished(sample: Sample, crop_border: bool, where: str) -> Sample:
    """The scene without its border where that is asked for, its depth known to be in metres.

    Raises:
        ValueError: its depth cannot be in metres, or the border is not known.
    """
    low, high = sample["depth"].min(), sample["depth"].max()
    if low < 0 or high > FARTHEST_M:
        raise ValueError(f"{where}: depth is {low:g} to {high:g} m, expected 0 to 10; the file holds another unit")
    framed(sample["label"].shape[::-1], crop_border, where)
    if not crop_border:
        return sample
    return {
        name: np.ascontiguousarray(value[..., *INSIDE]) if isinstance(value, np.ndarray) else value
        for name, value in sample.items()
    }


class NyuMatDataset(SceneDataset):
    """The original file, read scene by scene; ids are MATLAB's numbers, ``0001`` to ``1449``.

    Args:
        path: the file.
        card: what is said of the dataset; its splits and size come from the file.
        classes: (895,) number of a name -> class or 255, from ``classes_of_894``.
        options: which depth, and whether the border is left out.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file is damaged or another one; names the array, what was found and what was expected.
    """

    def __init__(self, path: Path, card: DatasetCard, classes: np.ndarray, options: NyuOptions):
        self.path, self.options, self._classes = path, options, classes
        self._depth = DEPTH_KEYS[options.depth]
        self._local = threading.local()
        count, size = self._check()
        official = official_split(count)
        if not all(official.values()):
            raise ValueError(f"{path} holds {count} scene(s), expected {SCENES}; none of them is one of train")
        if count != SCENES:
            warn(
                f"{path} holds {count} scenes, published {SCENES}: the official split is cut to those that are there "
                "and scenes beyond it are not read; results do not compare with published ones"
            )
        self._splits = disjoint(with_val(official, VAL_FRACTION), path)
        self._scenes = {scene_id for ids in self._splits.values() for scene_id in ids}
        self.card = dataclasses.replace(
            card, splits=tuple(self._splits), native_size=framed(size, options.crop_border, str(path))
        )

    def ids(self, split: str) -> list[str]:
        """Scene ids of a split, ascending."""
        return list(self._splits[choose(split, self._splits, f"split of {self.card.name}")])

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        if scene_id not in self._scenes:
            raise ValueError(f"{self.card.name} has no scene {scene_id!r}.{nearest(scene_id, self._scenes)}")
        where, index = f"{self.path}, scene {scene_id}", int(scene_id) - 1
        try:  # MATLAB's (H, W, ...) arrives as (..., W, H)
            image, depth, raw = (entry[index].swapaxes(-1, -2) for entry in self._entries.values())
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from error
        if raw.max() >= len(self._classes):
            raise ValueError(f"{where}: labels holds {raw.max()}, expected 0..{len(self._classes) - 1}")
        valid = (np.isfinite(depth) & (depth != 0))[None]
        sample: Sample = {
            "id": scene_id,
            "rgb": np.ascontiguousarray(image),
            "depth": np.where(valid, depth[None], np.float32(0)),
            "depth_valid": valid,
            "label": self._classes[raw],
        }
        return finished(sample, self.options.crop_border, where)

    def fingerprint(self) -> str:
        """A hash of the file, what was chosen and the code that reads it; the same wherever the copy lies."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        """Of the file 64 kB in each of 1024 places: hashing 2.8 GB takes longer than a run's decoded scenes to open."""
        total = hashlib.sha256(Path(__file__).read_bytes() + self._classes.tobytes())
        size = self.path.stat().st_size
        total.update(repr((self._splits, self.options, self.card, size)).encode())
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

    def _check(self) -> tuple[int, tuple[int, int]]:
        """How many scenes there are, and their (width, height)."""
        shape = self._entries["images"].shape
        if len(shape) != 4 or shape[1] != 3 or shape[2] <= shape[3]:
            raise ValueError(
                f"{self.path}: images is of shape {shape}, expected scenes, colours, columns, rows, as "
                f"{(SCENES, 3, *FULL_SIZE)}; a file that was saved again often has other axes"
            )
        count, _, width, height = shape
        plane = (count, width, height)
        expected = {"images": (np.uint8, shape), self._depth: (np.float32, plane), "labels": (np.uint16, plane)}
        for key, (dtype, shape) in expected.items():
            entry = self._entries[key]
            if entry.dtype != dtype or entry.shape != shape:
                raise ValueError(
                    f"{self.path}: {key} is {entry.dtype} {entry.shape}, expected {np.dtype(dtype)} {shape}, as images "
                    "has that size"
                )
        return count, (width, height)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())


def open_entries(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Arrays of the file by their key, opened and not read.

    Raises:
        ImportError: h5py is not installed.
        ValueError: it is not an HDF5 file, is damaged, or lacks a key.
    """
    h5py = needed("h5py", "nyu", path)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
        entries = {key: file.get(key) for key in keys}
        there = sorted(file)
    except (OSError, RuntimeError) as error:
        with path.open("rb") as damaged:
            start = damaged.read(19)
        old = "; MATLAB's older format is what it was saved in again, take the original" * start.startswith(
            b"MATLAB 5.0"
        )
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes, starting with {start!r}) cannot be read as the HDF5 file of 2.8 GB "
            f"that {MAT_NAME} is: {error}{old}"
        ) from error
    for key, entry in entries.items():
        if not isinstance(entry, h5py.Dataset):
            raise ValueError(f"{path} has no array {key!r}; it holds {', '.join(there[:20])}.{nearest(key, there)}")
    return entries

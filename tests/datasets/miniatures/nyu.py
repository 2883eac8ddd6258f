"""NYU Depth v2 in small: the original .mat file with its keys, axes and types, nicr's export, the tree of 8 bits."""

from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from crodino_lib.datasets.nyu_mat import TABLES, forty_of_894, official_split
from miniatures import Reader

SIZE = (8, 6)  # width, height
HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Fri Aug 17 16:29:09 2012 HDF5 schema 1.00 ."
Arrays = dict[str, np.ndarray]


def gradient(number: int, size: tuple[int, int]) -> Arrays:
    """One scene as MATLAB sees it, (H, W, ...): red counts rows, green columns, blue scenes."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    depth = (0.8 + 0.01 * (rows % 300) + 0.02 * (columns % 200) + 0.001 * (number % 1000)).astype(np.float32)
    labels = ((number * 48 + rows * size[0] + columns) % 895).astype(np.uint16)
    return {
        "images": np.stack([rows % 256, columns % 256, np.full_like(rows, number % 256)], axis=-1).astype(np.uint8),
        "depths": depth,
        "rawDepths": np.where((rows + columns + number) % 3 == 0, np.float32(0), depth),
        "labels": labels,
        "instances": (labels % 3).astype(np.uint8),
    }


def write(
    root: Path,
    count: int = 27,
    size: tuple[int, int] = SIZE,
    numbers: Iterable[int] | None = None,
    scene: Callable[[int, tuple[int, int]], Arrays] = gradient,
) -> Path:
    """``root/nyu_depth_v2_labeled.mat``; 27 is the smallest round number of scenes that has train, val and test.

    Args:
        root: a folder, which is made.
        count: scenes of the file.
        size: width and height.
        numbers: scenes that are filled, counted from 1; the others stay empty and take no room. None fills all.
        scene: (number, size) -> key -> array (H, W, ...).
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in gradient(1, (2, 1)).items():
            shape = (3, *size)[-value.ndim :]
            chunks = (1 if numbers else min(64, count), *shape)
            entry = file.create_dataset(key, (count, *shape), value.dtype, chunks=chunks, compression="gzip")
            entry.attrs["MATLAB_class"] = np.bytes_({"float32": "single"}.get(value.dtype.name, value.dtype.name))
        if numbers is None:
            scenes = [scene(number, size) for number in range(1, count + 1)]
            for key in scenes[0]:
                file[key][:] = np.stack([arrays[key].T for arrays in scenes])  # HDF5 reverses MATLAB's axes
        for number in numbers or ():
            for key, value in scene(number, size).items():
                file[key][number - 1] = value.T
        file["accelData"] = np.zeros((4, count), np.float32)
        name = file.create_dataset("#refs#/b", data=np.array([[ord(letter)] for letter in "book"], np.uint16))
        file["names"] = np.full((1, 894), name.ref, dtype=h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(HEADER.ljust(124) + b"\x00\x02IM")
    return path


def write_export(root: Path, count: int = 27, size: tuple[int, int] = SIZE) -> Path:
    """The tree that nicr-scene-analysis-datasets makes of the first ``count`` scenes."""
    for split, ids in official_split(count, first=0).items():
        for scene_id in ids:
            arrays = gradient(int(scene_id) + 1, size)
            forty = forty_of_894()[arrays["labels"]]
            pictures = {
                "rgb": arrays["images"],
                "depth": (arrays["depths"] * 1e3).astype(np.uint16),
                "depth_raw": (arrays["rawDepths"] * 1e3).astype(np.uint16),
                "semantic_40": forty,
                "semantic_13": np.array([0, *TABLES["thirteen"]["of_forty"]], np.uint8)[forty],
            }
            for folder, picture in pictures.items():
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(root / split / folder / f"{scene_id}.png")
        (root / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def write_tree(root: Path) -> Path:
    """The tree of 8 bits, ten scenes of 48x40 pixels."""
    generator = np.random.default_rng(0)
    ids = [f"{number:04d}" for number in (1, 2, 3, 4, 5, 7, 8, 10, 11, 13)]
    for scene_id in ids:
        pictures = {
            f"rgb/{scene_id}.jpg": generator.integers(0, 256, (40, 48, 3), dtype=np.uint8),
            f"depth/{scene_id}.png": generator.integers(18, 256, (40, 48), dtype=np.uint8),
            f"label13/{scene_id}.png": generator.integers(0, 13, (40, 48), dtype=np.uint8),
            f"label40/{scene_id}.png": generator.integers(0, 40, (40, 48), dtype=np.uint8),
        }
        for name, picture in pictures.items():
            if name.startswith("label"):
                picture[:3] = 255
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / name)
    (root / "train.txt").write_text("\n".join(ids[:8]) + "\n")
    (root / "test.txt").write_text("\n".join(ids[8:]) + "\n")
    return root


READERS = {
    "nyu13": Reader(
        lambda root: write_export(root, size=(80, 60)),
        "0002",
        ("train/rgb/0002.png", "train/depth/0002.png", "train/semantic_13/0002.png"),
    ),
    "nyu40": Reader(write_tree, "0004", ("rgb/0004.jpg", "depth/0004.png", "label40/0004.png")),
}

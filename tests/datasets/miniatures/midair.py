"""Mid-Air in miniature: the tree after unpacking, some frames of short flights, depth and disparity as float16 bits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from miniatures import Reader

WIDTH, HEIGHT = 40, 24
CLIMATES = ("sunny", "sunset", "foggy", "cloudy", "fall", "spring", "winter")
NUMBERS = (0, 1, 2, 6, 1001, 1002, 1009, 4001, 4006)  # trajectories of sunny, sunset and fall
FRAMES = (0, 1, 4, 8)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def climate_of(number: int) -> str:
    """Folder of a trajectory's climate below the root."""
    return f"{'Kite' if number < 4000 else 'PLE'}_training/{CLIMATES[number // 1000]}"


def rgb(number: int, frame: int) -> np.ndarray:
    """Red grows downwards, green to the right, blue tells the frame."""
    blue = np.full(ROWS.shape, 10 * (number % 10) + frame)
    return np.stack([10 * ROWS, 6 * COLUMNS, blue], axis=-1).astype(np.uint8)


def depth(number: int, frame: int) -> np.ndarray:
    """Metres, float16: grow downwards and to the right from 1 m, differ between frames."""
    return (1 + 5 * ROWS + 0.25 * COLUMNS + number % 7 + 0.1 * frame).astype(np.float16)


def segmentation(number: int, frame: int) -> np.ndarray:
    """Ids 0..13 in diagonals."""
    return ((ROWS + 2 * COLUMNS + number + frame) % 14).astype(np.uint8)


def save_half(path: Path, values: np.ndarray) -> None:
    """Write float16 values as the bits of a 16-bit PNG."""
    Image.fromarray(values.astype(np.float16).view(np.uint16)).save(path)


def write(root: Path, numbers: Iterable[int] = NUMBERS) -> Path:
    """Write trajectories below ``root``, which is what MidAir/ is."""
    for number in numbers:
        folders = {}
        for what in ("color_left", "depth", "stereo_disparity", "segmentation"):
            folders[what] = root / climate_of(number) / what / f"trajectory_{number:04d}"
            folders[what].mkdir(parents=True)
        for frame in FRAMES:
            metres = depth(number, frame)
            picture = Image.fromarray(rgb(number, frame))
            picture.save(folders["color_left"] / f"{frame:06d}.JPEG", quality=98, subsampling=0)
            save_half(folders["depth"] / f"{frame:06d}.PNG", metres)
            save_half(folders["stereo_disparity"] / f"{frame:06d}.PNG", 512 / metres.astype(np.float32))
            Image.fromarray(segmentation(number, frame)).save(folders["segmentation"] / f"{frame:06d}.PNG")
    return root


READERS = {
    "midair": Reader(
        write,
        "sunset/trajectory_1002/000004",
        tuple(
            f"Kite_training/sunset/{folder}/trajectory_1002/000004.{ext}"
            for folder, ext in (("color_left", "JPEG"), ("depth", "PNG"), ("segmentation", "PNG"))
        ),
    ),
}

"""Miniatures of datasets on disk, written with real names, trees and types."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 48, 40  # unequal, so that a missed transpose shows
TOML = """
name = "mini"
classes = ["wall", "floor", "ball"]
rgb = { dir = "RGB" }
label = { dir = "Label", offset = -1 }
splits = { train = "train.txt", test = "test.txt" }
val_fraction = 0.25
[sensors.depth]
dir = "Depth"
kind = "u16"
scale = 0.001
unit = "m"
invalid = [0]
mean = [2.5]
std = [1.0]
"""
TRAIN = [f"{i:04d}" for i in (*range(1, 5), *range(11, 14), *range(21, 24), 31, 32, 41, 42)]
TEST = ["0005", "0006", "0043"]


@pytest.fixture
def save() -> Callable:
    """``save(path, array)`` writes a picture whose type and channels are the array's."""

    def save(path: Path, array: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
        return path

    return save


@pytest.fixture
def mini(tmp_path, save) -> Path:
    """A folder dataset: 14 training and 3 test scenes, 16-bit depth in mm with holes, labels 1..3 and 0 = ignore."""
    root, generator = tmp_path / "mini", np.random.default_rng(0)
    for scene_id in TRAIN + TEST:
        depth = generator.integers(500, 4500, (HEIGHT, WIDTH), dtype=np.uint16)
        depth[generator.random(depth.shape) < 0.3] = 0
        save(root / f"RGB/{scene_id}.jpg", generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        save(root / f"Depth/{scene_id}.png", depth)
        save(root / f"Label/{scene_id}.png", generator.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8))
    (root / "train.txt").write_text("\n".join(TRAIN))
    (root / "test.txt").write_text("\n".join(TEST))
    (root / "dataset.toml").write_text(TOML)
    return root


@pytest.fixture
def mini_nyu(tmp_path, save) -> Path:
    """The tree of the 8-bit NYU Depth v2 copy, ten scenes small."""
    root, generator = tmp_path / "nyuv2", np.random.default_rng(0)
    ids = [f"{i:04d}" for i in (1, 2, 3, 4, 5, 7, 8, 10, 11, 13)]
    for scene_id in ids:
        save(root / f"rgb/{scene_id}.jpg", generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        save(root / f"depth/{scene_id}.png", generator.integers(18, 256, (HEIGHT, WIDTH), dtype=np.uint8))
        for count in (13, 40):
            label = generator.integers(0, count, (HEIGHT, WIDTH), dtype=np.uint8)
            label[:3] = 255
            save(root / f"label{count}/{scene_id}.png", label)
    (root / "train.txt").write_text("\n".join(ids[:8]) + "\n")
    (root / "test.txt").write_text("\n".join(ids[8:]) + "\n")
    return root

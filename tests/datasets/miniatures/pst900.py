"""PST900 in miniature: the published tree, or one of the flat ones that others hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from miniatures import Reader

WIDTH, HEIGHT = 36, 20
BAGS = ("31_bag1a", "32_bag2a", "33_bag2b", "34_bag3", "35_bag4", "36_bag5", "37_bag6", "38_bag7")
TRAIN = tuple(f"{bag}_rect_rgb_frame{frame:010d}" for bag in BAGS for frame in (7, 29))
TEST = tuple(f"{bag}_rect_rgb_frame{frame:010d}" for bag in ("57_bag20", "58_bag21") for frame in (69, 93))
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
PICTURES = {
    "rgb": np.stack([12 * ROWS, 7 * COLUMNS, 255 - 12 * ROWS], axis=-1).astype(np.uint8),
    "thermal": (5 * ROWS + 2 * COLUMNS).astype(np.uint8),  # 0 in the corner: a hole of the projection
    "thermal_raw": (1801 * (ROWS + COLUMNS) % 65536).astype(np.uint16),
    "depth": (2560 * (ROWS % 20) + 64 * COLUMNS).astype(np.uint16),
    "labels": ((ROWS // 2 + COLUMNS) % 5).astype(np.uint8),
}


def write(root: Path, layout: Literal["published", "flat", "resized"] = "published") -> Path:
    """Write 16 training and 4 test scenes below ``root``, which is what PST900_RGBT_Dataset/ is."""
    for split, names in (("train", TRAIN), ("test", TEST)):
        for folder, picture in PICTURES.items():
            place = f"{split}/{folder}" if layout == "published" else folder + "_resize" * (layout == "resized")
            (root / place).mkdir(parents=True, exist_ok=True)
            for name in names:
                Image.fromarray(picture).save(root / place / f"{name}.png")
        if layout != "published":
            (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


READERS = {
    "pst900": Reader(
        write,
        TEST[0],
        tuple(f"test/{folder}/{TEST[0]}.png" for folder in ("rgb", "thermal", "depth", "labels")),
        {"depth": True},
    ),
}

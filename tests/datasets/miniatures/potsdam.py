"""The tree of ISPRS Potsdam with all 38 tiles, 48x40 pixels each, with the published names, types and bands."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from miniatures import Reader

WIDTH, HEIGHT = 48, 40
# fmt: off
PARTICIPANTS = [
    "2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11", "5_12",
    "6_7", "6_8", "6_9", "6_10", "6_11", "6_12", "7_7", "7_8", "7_9", "7_10", "7_11", "7_12",
]
WITHHELD = [
    "2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13",
]
# fmt: on
TILES = [*PARTICIPANTS, *WITHHELD]
PALETTE = np.array(
    [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0), (0, 0, 0)], np.uint8
)  # impervious, building, low vegetation, tree, car, clutter, border
LAYERS = ("rgb", "irrg", "rgbir", "dsm", "ndsm", "full", "eroded")
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def bands(tile: str) -> np.ndarray:
    """(40, 48, 4): red grows with the row, green with the column, blue is the tile's, infrared falls with the row."""
    blue = np.full(ROWS.shape, 3 * TILES.index(tile))
    return np.stack([5 * ROWS, 4 * COLUMNS, blue, 255 - 3 * ROWS - COLUMNS], axis=2).astype(np.uint8)


def heights(tile: str) -> np.ndarray:
    """(40, 48) metres, which grow with the row and, less, with the column."""
    return (30 + 0.25 * ROWS + 0.01 * COLUMNS + TILES.index(tile) / 8).astype(np.float32)


def codes(tile: str) -> np.ndarray:
    """(40, 48) smooth 8-bit heights, which survive JPEG to a step or two."""
    return (40 + 2 * ROWS + COLUMNS).astype(np.uint8)


def classes(tile: str) -> np.ndarray:
    """(40, 48) ids 0..5 in slanting bands."""
    return (ROWS // 3 + COLUMNS // 5 + TILES.index(tile)) % 6


def eroded(tile: str) -> np.ndarray:
    """``classes``, 6 where another class is to the left or above."""
    label = classes(tile)
    border = (label != np.roll(label, 1, axis=0)) | (label != np.roll(label, 1, axis=1))
    return np.where(border, 6, label)


def padded(tile: str) -> str:
    """The tile as height models are named."""
    return "_".join(f"{int(number):02d}" for number in tile.split("_"))


def tiff(path: Path, pixels: np.ndarray, **how) -> Path:
    """Write a TIFF, uncompressed in one strip where ``how`` says nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = pixels.ndim == 3 or None
    tifffile.imwrite(path, pixels, photometric="rgb" if colour else "minisblack", **how)
    return path


def jpeg(path: Path, pixels: np.ndarray) -> Path:
    """Write a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def write(root: Path, layers: Iterable[str] = ("rgb", "dsm", "full"), tiles: Iterable[str] = TILES) -> Path:
    """Write the files of some layers and tiles, labels of all tiles as in the complete archive.

    Compression differs from layer to layer, so that each way to read is taken.
    """
    for tile in tiles:
        short = WIDTH - (tile == "3_13")  # as published
        red, green, blue, infrared = np.moveaxis(bands(tile), -1, 0)
        top, dsm = f"top_potsdam_{tile}", f"dsm_potsdam_{padded(tile)}"
        for layer in layers:
            if layer == "rgb":
                path = tiff(root / f"2_Ortho_RGB/{top}_RGB.tif", np.dstack([red, green, blue]))
                path.with_suffix(".tfw").write_text("0.05\n0\n0\n-0.05\n366976.5\n5808499.9\n")
            elif layer == "irrg":
                pixels = np.dstack([infrared, red, green])
                how = {"compression": "zlib", "predictor": True, "rowsperstrip": 7}
                tiff(root / f"3_Ortho_IRRG/{top}_IRRG.tif", pixels, **how)
            elif layer == "rgbir":
                tiff(root / f"4_Ortho_RGBIR/{top}_RGBIR.tif", bands(tile), extrasamples=["unspecified"])
            elif layer == "dsm":
                tiff(root / f"1_DSM/{dsm}.tif", heights(tile)[:, :short])
            elif layer == "ndsm":
                jpeg(root / f"1_DSM_normalisation/{dsm}_normalized_lastools.jpg", codes(tile)[:, :short])
                (root / f"1_DSM_normalisation/{dsm}_normalized_ownapproach.jpg").touch()  # some are empty
            elif layer == "full":
                how = {"compression": "lzw", "rowsperstrip": 9}
                tiff(root / f"5_Labels_all/{top}_label.tif", PALETTE[classes(tile)], **how)
            elif layer == "eroded":
                path = root / f"5_Labels_all_noBoundary/{top}_label_noBoundary.tif"
                tiff(path, PALETTE[eroded(tile)], compression="zlib")
    return root


READERS = {
    "potsdam": Reader(
        lambda root: write(root, tiles=TILES),
        "6_9/r8_c16",
        (
            "2_Ortho_RGB/top_potsdam_6_9_RGB.tif",
            "1_DSM/dsm_potsdam_06_09.tif",
            "5_Labels_all/top_potsdam_6_9_label.tif",
        ),
        {"tile_px": 32},
        of_a_tile=True,
    ),
}

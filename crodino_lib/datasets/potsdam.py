"""ISPRS Potsdam: true orthophotos of a city at 5 cm, with infrared and a surface model of heights; 38 tiles.

Homepage: https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx

Format: a tile has 6000x6000 pixels and is called ROW_COLUMN, such as 2_10. Published names are read as they are::

    2_Ortho_RGB/top_potsdam_2_10_RGB.tif        8 bits: red, green, blue
    3_Ortho_IRRG/top_potsdam_2_10_IRRG.tif      8 bits: infrared, red, green
    4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif    8 bits: red, green, blue, infrared
    1_DSM/dsm_potsdam_02_10.tif                 float32: metres above the datum of the survey, not above the ground
    1_DSM_normalisation/dsm_potsdam_02_10_normalized_lastools.jpg    8 bits: height above ground, scale unpublished
    5_Labels_all/top_potsdam_2_10_label.tif     colours; 5_Labels_for_participants has the same for 24 tiles
    5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif    with the borders of objects in black = ignored;
                                                5_Labels_for_participants_no_Boundary has the same for 24 tiles

Each lies in its folder, in a folder of that name within it, or in the root, with or without zeros before numbers. The
participants' labels come first: that of 4_12 in the complete archive is a photograph. Of the two normalised models the
one by LAStools is read, as files of the other are empty.

Classes: 0 impervious surface, 1 building, 2 low vegetation, 3 tree, 4 car, 5 clutter; or clutter first. Black is 255.

Source: Rottensteiner et al., "The ISPRS Benchmark on Urban Object Classification and 3D Building Reconstruction", ISPRS
Annals I-3, 2012.
"""

from __future__ import annotations

import hashlib
import re
import sys
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from crodino_lib.config import DataConfig, Strict, choose, nearest
from crodino_lib.data import image_files
from crodino_lib.data.layouts import LayoutError, existing_root, warn
from crodino_lib.data.sample import IGNORE, RGB, DatasetCard, Sample, SceneDataset, Sensor
from crodino_lib.data.splits import disjoint, with_val
from crodino_lib.datasets import tiff
from crodino_lib.datasets.tiff import decode_blocks, read_header, read_in_place

LAST_COLUMNS = {2: 14, 3: 14, 4: 15, 5: 15, 6: 15, 7: 13}  # row -> last column; participants had all up to 12
PARTICIPANTS = [f"{row}_{column}" for row in LAST_COLUMNS for column in range(10 if row < 6 else 7, 13)]
WITHHELD = [f"{row}_{column}" for row, last in LAST_COLUMNS.items() for column in range(13, last + 1)]
FTRANSUNET_TEST = ["4_10", "5_11", "2_11", "3_10", "6_11", "7_12"]
GEOSEG_VAL = ["2_10"]
PROTOCOLS = {
    "isprs": {"train": PARTICIPANTS, "test": WITHHELD},
    "ftransunet": {"train": [tile for tile in PARTICIPANTS if tile not in FTRANSUNET_TEST], "test": FTRANSUNET_TEST},
    "geoseg": {
        "train": [tile for tile in PARTICIPANTS if tile not in (*GEOSEG_VAL, "7_10")],  # labels of 7_10 have errors
        "val": GEOSEG_VAL,
        "test": WITHHELD,
    },
}
VAL_FRACTION = 0.12
TILE_SIZE = (6000, 6000)  # width, height
SHORT_TILE, SHORT_PX = "3_13", 2  # its height model lacks a column; those that others wrote anew may lack another
WARN_SHARE, ERROR_SHARE = 0.001, 0.01  # of a tile's pixels that have no colour of a class
HEIGHTS = (-500, 9000)  # metres; no ground on Earth is beyond
DIGEST_BYTES = 64 * 1024
CACHED_PARTS = 8  # of compressed files: three layers of two rows of crops, as threads cross from one to the next

COLOURS = {  # in the order of most code; that of torchgeo has clutter first
    "impervious surface": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
BLACK, MAGENTA = 0, 5  # codes of the corners of the colour cube that are no class: ignored, and never there

# one more band of the same camera: the mean of what the others have
IR = Sensor(1, "0..255", mean=(sum(RGB.mean) / 3,), std=(sum(RGB.std) / 3,))
HEIGHT = {
    # Not measured: wide enough for ground 30-40 m above the sea with buildings on it, and for heights above the
    # ellipsoid, which are 40 m more; constant, so that one height is one value in all tiles
    "dsm": Sensor(1, "m", mean=(50.0,), std=(20.0,)),
    "ndsm": Sensor(1, "0..255", mean=(0.0,), std=(255.0,)),  # 0..1, as is usual for it
}
NOTES = (
    "Heights of the surface model are above the datum of the survey: nothing is subtracted, so that they hold the "
    "terrain. The codes of the normalised model are not metres. The height model of 3_13 is one column short: there it "
    "is invalid. Val is taken from train in whole tiles where a protocol has none. Crops at the right and lower edge "
    "of a tile are shifted inwards: pixels that they share with others count more than once."
)


class Layer(NamedTuple):
    """One kind of files: folders, the first that has a tile counts; names around the tile's; what they hold."""

    folders: tuple[str, ...]
    name: str
    channels: int
    dtype: str = "uint8"

    def find(self, root: Path) -> dict[str, Path]:
        """Tile -> file.

        Raises:
            ValueError: two files of one folder are of one tile.
        """
        before, after = map(re.escape, self.name.split("*"))
        found: dict[str, Path] = {}
        for places in (*([root / name, root / name / name] for name in self.folders), [root]):
            here: dict[str, Path] = {}
            for path in (path for place in places if place.is_dir() for path in sorted(place.iterdir())):
                if fits := re.fullmatch(rf"{before}0?(\d+)_0?(\d+){after}", path.name, re.IGNORECASE):
                    tile = "_".join(fits.groups())
                    if tile in here:
                        raise ValueError(f"{path} and {here[tile]} are both of tile {tile}; keep one")
                    here[tile] = path
            found = here | found
        return found


LAYERS = {
    "rgb": Layer(("2_Ortho_RGB",), "top_potsdam_*_RGB.tif", 3),
    "irrg": Layer(("3_Ortho_IRRG",), "top_potsdam_*_IRRG.tif", 3),
    "rgbir": Layer(("4_Ortho_RGBIR",), "top_potsdam_*_RGBIR.tif", 4),
    "dsm": Layer(("1_DSM",), "dsm_potsdam_*.tif", 1, "float32"),
    "ndsm": Layer(("1_DSM_normalisation",), "dsm_potsdam_*_normalized_lastools.jpg", 1),
    "full": Layer(("5_Labels_for_participants", "5_Labels_all"), "top_potsdam_*_label.tif", 3),
    "eroded": Layer(
        ("5_Labels_for_participants_no_Boundary", "5_Labels_all_noBoundary"), "top_potsdam_*_label_noBoundary.tif", 3
    ),
}


class PotsdamOptions(Strict):
    """What can be chosen of Potsdam."""

    bands: Literal["rgb", "irrg", "rgbir"] = Field(
        "rgb",
        description="what rgb holds: red, green, blue; or infrared, red, green; rgbir adds a sensor ir to the first",
    )
    height: Literal["dsm", "ndsm"] = Field(
        "dsm", description="the sensor height: dsm in metres above the datum, ndsm above ground in 8 bits of no unit"
    )
    truth: Literal["full", "eroded"] = Field("full", description="labels, or those that ignore the borders of objects")
    order: Literal["impervious-first", "clutter-first"] = Field(
        "impervious-first", description="order of the classes: as mmsegmentation, or as torchgeo"
    )
    clutter: Literal["class", "ignore"] = Field("class", description="whether clutter is the sixth class or ignored")
    split: Literal["isprs", "ftransunet", "geoseg"] = Field(
        "isprs", description="24 tiles and 14 for test; 18 and 6 of those 24; 22, 1 for val and 14, without 7_10"
    )
    tile_px: int = Field(512, ge=16, description="width and height of a crop, which is a scene, in pixels")
    stride_px: int | None = Field(
        None,
        ge=1,
        description="pixels from one crop of train to the next, at most tile_px, which it is where not given",
    )

    @field_validator("stride_px")
    @classmethod
    def _stride(cls, stride: int | None, info: ValidationInfo) -> int | None:
        if stride and stride > info.data.get("tile_px", stride):
            raise ValueError(f"must be at most tile_px = {info.data['tile_px']}, or pixels between crops are lost")
        return stride


def crop_starts(length: int, crop: int, stride: int) -> list[int]:
    """First pixels of crops that cover ``length`` pixels; the last crop is shifted inwards to fit."""
    starts = list(range(0, length - crop + 1, stride))
    return starts if starts[-1] == length - crop else [*starts, length - crop]


def colour_codes(pixels: np.ndarray) -> np.ndarray:
    """(h, w) uint8 codes 4 R + 2 G + B, each 0 or 1, of (h, w, 3) colours; 5 where a colour is none of a label's."""
    red, green, blue = np.moveaxis(pixels > 127, -1, 0).astype(np.uint8)
    between = ((pixels + np.uint8(1)) > 1).any(axis=2)  # 255 + 1 is 0 in 8 bits
    return np.where(between, np.uint8(MAGENTA), red << 2 | green << 1 | blue)


def open_potsdam(config: DataConfig, progress: bool = True) -> SceneDataset:
    """Open the copy of ISPRS Potsdam in ``config.root``; the module says which files are read.

    Args:
        config: names the folder; its options are ``PotsdamOptions``.
        progress: as for every dataset; opening reads headers only.

    Raises:
        FileNotFoundError: the folder or a file is missing; all missing ones are named.
        ValueError: no root is given, an option is not allowed, or a file does not hold what it should.
    """
    return PotsdamDataset(existing_root(config), PotsdamOptions(**config.options))


class PotsdamDataset(SceneDataset):
    """Crops of the tiles of ISPRS Potsdam; ``2_10/r0_c512`` is that of tile 2_10 from row 0 and column 512 on.

    A crop is read without the rest of its tile where the file allows: uncompressed files are mapped, of compressed ones
    the strips or tiles that the crop touches are decoded, and the last few are kept. Labels are looked through whole
    when their tile is first read: colours that are no class are ignored, told of above 0.1 % and refused above 1 %.

    Args:
        root: the folder of the copy.
        options: what of it is meant.

    Raises:
        FileNotFoundError: a file is missing; all missing ones are named.
        ValueError: a file is damaged, of another type, or not as large as the others of its tile.
    """

    def __init__(self, root: Path, options: PotsdamOptions):
        self.root, self.options = root, options
        self._tiles = disjoint(with_val(PROTOCOLS[options.split], VAL_FRACTION), root)
        self._layers = {"rgb": options.bands, "height": options.height, "label": options.truth}
        self._files = self._find_files()
        self._headers = {path: read_header(path) for files in self._files.values() for path in files.values()}
        self._check_headers()
        self._locks = {key: Lock() for key in (*self._files, *self._headers)}
        self._checked: set[str] = set()
        self._decoded = lru_cache(CACHED_PARTS)(self._decode)
        self._crops = {split: self._cut(split) for split in self._tiles}
        self._scenes = {scene_id: crop for crops in self._crops.values() for scene_id, crop in crops.items()}
        names = [name for name in COLOURS if name != "clutter"]
        if options.clutter == "class":
            names.insert(0 if options.order == "clutter-first" else len(names), "clutter")
        self._classes = np.full(8, IGNORE)
        self._classes[[colour_codes(np.uint8([[COLOURS[name]]])).item() for name in names]] = range(len(names))
        self.card = DatasetCard(
            name="potsdam",
            title="ISPRS Potsdam",
            sensors={"rgb": RGB}
            | ({"ir": IR} if options.bands == "rgbir" else {})
            | {"height": HEIGHT[options.height]},
            classes=tuple(names),
            palette=tuple(COLOURS[name] for name in names),
            splits=tuple(self._tiles),
            native_size=(options.tile_px, options.tile_px),
            homepage="https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx",
            citation="F. Rottensteiner et al., The ISPRS Benchmark on Urban Object Classification and 3D Building "
            "Reconstruction, ISPRS Annals I-3, 2012",
            notes=NOTES,
        )

    def ids(self, split: str) -> list[str]:
        """Crops of a split, tile by tile, row by row."""
        return list(self._crops[choose(split, self._crops, "split of potsdam")])

    def read(self, scene_id: str) -> Sample:
        """Read one crop; see ``SceneDataset.read``."""
        if scene_id not in self._scenes:
            raise ValueError(f"potsdam has no scene {scene_id!r}.{nearest(scene_id, self._scenes)}")
        tile, rows, columns = self._scenes[scene_id]
        self._check_label(tile)
        colours = self._window(tile, "rgb", rows, columns)
        derived = (self.options.bands, self._layers["rgb"]) == ("irrg", "rgbir")
        chosen = (3, 0, 1) if derived else (0, 1, 2)
        sample: Sample = {"id": scene_id, "rgb": np.stack([colours[..., band] for band in chosen])}
        if self.options.bands == "rgbir":
            sample["ir"] = colours[None, ..., 3].astype(np.float32)
            sample["ir_valid"] = np.ones(sample["ir"].shape, bool)
        sample["height"], sample["height_valid"] = self._read_height(tile, rows, columns)
        sample["label"] = self._classes[colour_codes(self._window(tile, "label", rows, columns))]
        return sample

    def fingerprint(self) -> str:
        """A hash of the options, the code that reads, and the name, size, first and last 64 KiB of every file.

        Files of 100 MB and more are not read whole for it: an edit that keeps all of these is not seen.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        code = b"".join(Path(module.__file__).read_bytes() for module in (sys.modules[__name__], image_files, tiff))
        total = hashlib.sha256(code + self.options.model_dump_json().encode() + repr(self._tiles).encode())
        for path in self._headers:
            size = path.stat().st_size
            total.update(f"{path.relative_to(self.root).as_posix()} {size} ".encode())
            with path.open("rb") as file:
                total.update(file.read(DIGEST_BYTES))
                file.seek(max(0, size - DIGEST_BYTES))
                total.update(file.read())
        return total.hexdigest()

    def _find_files(self) -> dict[str, dict[str, Path]]:
        """Tile -> entry of a sample -> file; colours come from files of all bands where none of their own exists."""
        found = {entry: LAYERS[name].find(self.root) for entry, name in self._layers.items()}
        if not found["rgb"] and (all_bands := LAYERS["rgbir"].find(self.root)):
            self._layers["rgb"], found["rgb"] = "rgbir", all_bands
        tiles = [tile for tiles in self._tiles.values() for tile in tiles]
        missing = {entry: [tile for tile in tiles if tile not in files] for entry, files in found.items()}
        if any(missing.values()):
            there = sorted(path.name for path in self.root.iterdir() if path.is_dir())
            lines = [
                f"{self.root} lacks {sum(map(len, missing.values()))} file(s) of the {len(tiles)} tiles of "
                f"{self.options.split!r}; its folders are {', '.join(there[:12]) or 'none'}"
            ]
            for entry, lacking in missing.items():
                folders, name, *_ = LAYERS[self._layers[entry]]
                if lacking:
                    same = [other for other in there if other.lower() in {folder.lower() for folder in folders}]
                    hint = f" Did you mean {same[0]!r}?" if same else nearest(folders[-1], there)
                    lines.append(
                        f"{' or '.join(folders)}: {name}, * being {', '.join(lacking)}."
                        + ("" if set(folders) & set(there) else hint)
                    )
            raise (FileNotFoundError if any(found.values()) else LayoutError)("\n".join(lines))
        return {tile: {entry: files[tile] for entry, files in found.items()} for tile in tiles}

    def _check_headers(self) -> None:
        """Every file holds what its kind promises, and those of a tile are equally large."""
        others = []
        for tile, files in self._files.items():
            first = self._headers[files["rgb"]]
            if (first.width, first.height) != TILE_SIZE:
                others.append(f"{tile} {first.width}x{first.height}")
            if min(first.width, first.height) < self.options.tile_px:
                raise ValueError(
                    f"{files['rgb']} has {first.width}x{first.height} pixels, which is less than tile_px = "
                    f"{self.options.tile_px}"
                )
            for entry, path in files.items():
                header, layer = self._headers[path], LAYERS[self._layers[entry]]
                if (header.channels, header.dtype) != (layer.channels, layer.dtype):
                    raise ValueError(
                        f"{path} holds {header.dtype} with {header.channels} channel(s), expected {layer.dtype} with "
                        f"{layer.channels}"
                    )
                short = first.height - header.height, first.width - header.width
                allowed = SHORT_PX if (tile, entry) == (SHORT_TILE, "height") else 0
                if not all(0 <= pixels <= allowed for pixels in short):
                    raise ValueError(
                        f"{path} has {header.width}x{header.height} pixels but {files['rgb']} has "
                        f"{first.width}x{first.height}; all files of a tile must be aligned and equally large"
                    )
        if others:
            warn(
                f"{self.root}: {len(others)} tile(s) have other sizes than {TILE_SIZE[0]}x{TILE_SIZE[1]}, which "
                f"are published: {', '.join(others[:5])}; results do not compare with published ones"
            )

    def _cut(self, split: str) -> dict[str, tuple[str, slice, slice]]:
        """Id -> tile and window of the crops of a split; only train overlaps by choice: scores stay as they are."""
        size = self.options.tile_px
        stride = (self.options.stride_px if split == "train" else None) or size
        crops = {}
        for tile in self._tiles[split]:
            header = self._headers[self._files[tile]["rgb"]]
            for top, left in product(*(crop_starts(side, size, stride) for side in (header.height, header.width))):
                crops[f"{tile}/r{top}_c{left}"] = (tile, slice(top, top + size), slice(left, left + size))
        return crops

    def _window(self, tile: str, entry: str, rows: slice, columns: slice) -> np.ndarray:
        """(h, w, C) pixels of one file, which has all of the rows and columns."""
        path = self._files[tile][entry]
        header = self._headers[path]
        height, width = header.block
        if not height:
            return read_in_place(path, rows, columns)
        top, left = rows.start // height * height, columns.start // width * width
        bottom = min(-(-rows.stop // height) * height, header.height)
        right = min(-(-columns.stop // width) * width, header.width)
        with self._locks[path]:  # so that one thread decodes what the others wait for
            part = self._decoded(path, top, bottom, left, right)
        return part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def _decode(self, path: Path, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        if path.suffix.lower() == ".jpg":
            return np.moveaxis(image_files.read_pixels(path, "u8"), 0, -1)
        return decode_blocks(path, slice(top, bottom), slice(left, right))

    def _read_height(self, tile: str, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """(1, h, w) float32, 0 where invalid, and bool: where it is valid, which what the file is short of is not."""
        path = self._files[tile]["height"]
        header = self._headers[path]
        there = [
            slice(part.start, min(part.stop, side)) for part, side in ((rows, header.height), (columns, header.width))
        ]
        found = self._window(tile, "height", *there)[..., 0].astype(np.float32)
        measured = np.isfinite(found)
        if not ((found >= HEIGHTS[0]) & (found <= HEIGHTS[1]))[measured].all():
            raise ValueError(
                f"{path} holds {found[measured].min()} to {found[measured].max()}, expected metres, and NaN where "
                "there is no measurement"
            )
        height = np.zeros((1, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        valid = np.zeros(height.shape, bool)
        height[0, : found.shape[0], : found.shape[1]] = np.where(measured, found, 0)
        valid[0, : found.shape[0], : found.shape[1]] = measured
        return height, valid

    def _check_label(self, tile: str) -> None:
        """Count, once, the pixels of a label that have no colour of one.

        Raises:
            ValueError: they are so many that the file is a picture of something else.
        """
        with self._locks[tile]:
            if tile in self._checked:
                return
            path = self._files[tile]["label"]
            header, step = self._headers[path], self.options.tile_px
            bands = [slice(top, min(top + step, header.height)) for top in range(0, header.height, step)]
            everything = slice(0, header.width)
            wrong = sum(
                np.count_nonzero(colour_codes(self._window(tile, "label", rows, everything)) == MAGENTA)
                for rows in bands
            )
            share = wrong / (header.height * header.width)
            found = f"{path}: {wrong} pixels ({share:.2%}) have colours that mean no class"
            if share > ERROR_SHARE:
                raise ValueError(
                    f"{found}, so that it is no label; that of 4_12 in 5_Labels_all is a photograph, the one in "
                    "5_Labels_for_participants is right"
                )
            if share > WARN_SHARE:
                warn(f"{found}; they are ignored")
            self._checked.add(tile)

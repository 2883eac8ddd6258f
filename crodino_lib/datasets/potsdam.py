"""Read ISPRS Potsdam: true orthophotos of a city at 5 cm, with infrared and a surface model of heights; 38 tiles.

Homepage: https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx

Format: a tile has 6000x6000 pixels and is called ROW_COLUMN, such as 2_10; ``[layers]`` of ``potsdam.toml`` lists its
files by their published names, which are read as they are. Each lies in its folder, in a folder of that name within it,
or in the root, with or without zeros before numbers. The participants' labels come first: that of 4_12 in the complete
archive is a photograph. Of the two normalised models that by LAStools is read, as files of the other are empty.

Classes: 0 impervious surface, 1 building, 2 low vegetation, 3 tree, 4 car, 5 clutter; or clutter first. Black is 255.

Source: Rottensteiner et al., "The ISPRS Benchmark on Urban Object Classification", ISPRS Annals I-3, 2012.
"""

import hashlib
import tomllib
from collections import ChainMap
from functools import lru_cache
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field, ValidationInfo, field_validator

from crodino_lib.config import DataConfig
from crodino_lib.data.decode import decode, needed, readable
from crodino_lib.data.image_files import ImageFiles, SensorFiles, read_sensor
from crodino_lib.data.layouts import LayoutError, existing_root, warn
from crodino_lib.data.sample import IGNORE, RGB, DatasetCard, Sample, SceneDataset, Sensor
from crodino_lib.data.splits import disjoint, with_val
from crodino_lib.settings import Strict, nearest

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
COLOURS = {name: tuple(colour) for name, colour in TABLES["classes"].items()}
VAL_FRACTION = 0.12
TILE_SIZE = (6000, 6000)  # width, height
SHORT_TILE, SHORT_PX = "3_13", 2  # its height model lacks a column; those that others wrote anew may lack another
WARN_SHARE, ERROR_SHARE = 0.001, 0.01  # of a tile's pixels that have no colour of a class
HEIGHTS = (-500, 9000)  # metres; no ground on Earth is beyond
DIGEST_BYTES = 64 * 1024
TILES_KEPT = 2  # decoded tiles, about 300 MB each: threads cross from one to the next
PARTS = 12  # of a label, so that comparing its colours takes little memory
MAGENTA = 5  # code of a corner of the colour cube that is not a class; black, 0, is the other

IR = Sensor(1, "0..255", (sum(RGB.mean) / 3,), (sum(RGB.std) / 3,))  # the mean of the other bands


class PotsdamOptions(Strict):
    """Options of Potsdam."""

    bands: Literal["rgb", "irrg", "rgbir"] = Field(
        "rgb", description="irrg: infrared, red and green take the place of rgb; rgbir: rgb, and a sensor ir"
    )
    height: Literal["dsm", "ndsm"] = Field("dsm", description="metres above the datum, or 8 bits above ground, no unit")
    truth: Literal["full", "eroded"] = Field("full", description="labels, or those that ignore the borders of objects")
    order: Literal["impervious-first", "clutter-first"] = Field("impervious-first", description="order of the classes")
    clutter: Literal["class", "ignore"] = Field("class", description="whether clutter is the sixth class or ignored")
    split: Literal["isprs", "ftransunet", "geoseg"] = Field(
        "isprs", description="24 tiles and 14 for test; 18 and 6 of those 24; 22, 1 for val and 14, without 7_10"
    )
    tile_px: int = Field(512, ge=16, description="width and height of a crop, which is a scene, in pixels")
    stride_px: int | None = Field(None, ge=1, description="pixels between crops of train, at most tile_px; its default")

    @field_validator("stride_px")
    @classmethod
    def _stride(cls, stride: int | None, info: ValidationInfo) -> int | None:
        if stride and stride > info.data.get("tile_px", stride):
            raise ValueError(f"must be at most tile_px = {info.data['tile_px']}, or pixels between crops are lost")
        return stride


def find_layer(name: str, root: Path) -> dict[str, Path]:
    """Return tile -> file of one kind, from its folder, a folder of that name within it, or the root."""
    stem, ext = TABLES["layers"][name]["name"].split(".")
    tiles = stem.replace("*", r"0?(\d+)_0?(\d+)")
    found: dict[str, Path] = {}
    for folder in (*TABLES["layers"][name]["folders"], "."):
        if (root / folder).is_dir():
            files = ImageFiles(dir=folder, ext=f".{ext}", pattern=f"(?i)(?:{folder}/)?{tiles}")
            found = {tile.replace("/", "_"): path for tile, path in files.index(root).items()} | found
    return found


def crop_starts(length: int, crop: int, stride: int) -> list[int]:
    """Return the first pixels of crops that cover ``length`` pixels; the last crop is shifted inwards to fit."""
    return sorted({*range(0, length - crop, stride), length - crop})


def colour_codes(pixels: np.ndarray) -> np.ndarray:
    """Return (h, w) uint8 codes 4 R + 2 G + B, each 0 or 1, of (h, w, 3) colours; 5 for a colour between corners."""
    red, green, blue = np.moveaxis(pixels > 127, -1, 0).astype(np.uint8)
    between = ((pixels + np.uint8(1)) > 1).any(axis=2)  # 255 + 1 is 0 in 8 bits
    return np.where(between, np.uint8(MAGENTA), red << 2 | green << 1 | blue)


def stored_size(path: Path) -> tuple[int, int]:
    """Read (width, height) of a TIFF or JPEG; ValueError where it is damaged or truncated. No pixel is decoded."""
    if path.suffix.lower() == ".jpg":
        with readable(path), Image.open(path) as image:
            return image.size
    tifffile = needed("tifffile", "potsdam", path)
    with readable(path), tifffile.TiffFile(path) as file:
        page = file.pages[0]
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        end = max(offset + count for offset, count in parts)
        if end > path.stat().st_size or not all(map(all, parts)):
            raise ValueError(f"it is truncated: its pixels end at byte {end}, or some were never written")
        return page.imagewidth, page.imagelength


def open_potsdam(config: DataConfig) -> SceneDataset:
    """Open a copy of ISPRS Potsdam; the options are ``PotsdamOptions``.

    Raises:
        FileNotFoundError: the folder or a file is missing; all missing ones are named.
        ValueError: no root is given, or a file is truncated, twice there, or of another size than its tile.
    """
    return PotsdamDataset(existing_root(config), PotsdamOptions(**config.options))


class PotsdamDataset(SceneDataset):
    """Crops of the tiles of ISPRS Potsdam; ``2_10/r0_c512`` is that of tile 2_10 from row 0 and column 512 on.

    Tiles are decoded whole, and the last two are kept: crops are read tile by tile. Colours of labels that are not a
    class are ignored, with a warning above 0.1 % of a tile and an error above 1 %.
    """

    def __init__(self, root: Path, options: PotsdamOptions):
        self.root, self.options = root, options
        self._tiles = disjoint(with_val(TABLES["protocols"][options.split], VAL_FRACTION), root)
        self._layers = {"rgb": options.bands, "height": options.height, "label": options.truth}
        self._files = self._find_files()
        self._sizes = self._checked_sizes()
        self._lock, self._tile = Lock(), lru_cache(TILES_KEPT)(self._read_tile)
        crops = {split: self._cut(split) for split in self._tiles}
        self.splits = {split: list(some) for split, some in crops.items()}
        self._crops = dict(ChainMap(*crops.values()))
        names = [name for name in COLOURS if name != "clutter"]
        if options.clutter == "class":
            names.insert(0 if options.order == "clutter-first" else len(names), "clutter")
        self._classes = np.full(8, IGNORE, np.uint8)
        self._classes[[colour_codes(np.uint8([[COLOURS[name]]])).item() for name in names]] = range(len(names))
        self._height = SensorFiles(**TABLES["heights"][options.height])
        infrared = {"ir": IR} if options.bands == "rgbir" else {}
        self.card = DatasetCard(
            **{"name": "potsdam"} | TABLES["about"],
            sensors={"rgb": RGB} | infrared | {"height": self._height.sensor},
            classes=tuple(names),
            palette=tuple(COLOURS[name] for name in names),
            splits=tuple(self._tiles),
            native_size=(options.tile_px, options.tile_px),
        )

    def read(self, scene_id: str) -> Sample:
        """Read one crop; see ``SceneDataset.read``."""
        tile, rows, columns = self.entry(self._crops, scene_id)
        with self._lock:  # so that one thread decodes the tile that others wait for
            pixels = self._tile(tile)
        sample: Sample = {"id": scene_id} | {name: value[..., rows, columns].copy() for name, value in pixels.items()}
        if "ir" in sample:
            sample |= {"ir": sample["ir"].astype(np.float32), "ir_valid": np.ones(sample["ir"].shape, bool)}
        return sample | {"label": sample["label"].astype(np.int64)}

    def fingerprint(self) -> str:
        """Return a hash of the options and of each file's name, size, first and last 64 KiB; other edits go unseen."""
        total = hashlib.sha256(self.options.model_dump_json().encode() + repr(self._tiles).encode())
        for path in (path for files in self._files.values() for path in files.values()):
            size = path.stat().st_size
            total.update(f"{path.relative_to(self.root).as_posix()} {size} ".encode())
            with path.open("rb") as file:
                total.update(file.read(DIGEST_BYTES))
                file.seek(max(0, size - DIGEST_BYTES))
                total.update(file.read())
        return total.hexdigest()

    def _find_files(self) -> dict[str, dict[str, Path]]:
        """Return tile -> entry -> file; colours come from files of all bands where none of their own exists."""
        found = {entry: find_layer(name, self.root) for entry, name in self._layers.items()}
        if not found["rgb"] and (all_bands := find_layer("rgbir", self.root)):
            self._layers["rgb"], found["rgb"] = "rgbir", all_bands
        tiles = [tile for tiles in self._tiles.values() for tile in tiles]
        missing = {entry: [tile for tile in tiles if tile not in files] for entry, files in found.items()}
        if any(missing.values()):
            there, count = sorted(path.name for path in self.root.glob("*/")), sum(map(len, missing.values()))
            lines = [
                f"{self.root} lacks {count} file(s) of the {len(tiles)} tiles of {self.options.split!r}; its folders "
                f"are {', '.join(there[:12]) or 'none'}"
            ]
            for entry, lacking in missing.items():
                layer = TABLES["layers"][self._layers[entry]]
                folders = layer["folders"]
                hint = "" if set(folders) & set(there) else nearest(folders[-1].lower(), [x.lower() for x in there])
                if lacking:
                    lines.append(f"{' or '.join(folders)}: {layer['name']}, * being {', '.join(lacking)}.{hint}")
            raise (FileNotFoundError if any(found.values()) else LayoutError)("\n".join(lines))
        return {tile: {entry: files[tile] for entry, files in found.items()} for tile in tiles}

    def _checked_sizes(self) -> dict[str, tuple[int, int]]:
        """Return tile -> (width, height), which all files of a tile must have."""
        sizes: dict[str, tuple[int, int]] = {}
        for tile, files in self._files.items():
            found = {entry: stored_size(path) for entry, path in files.items()}
            width, height = sizes[tile] = found["rgb"]
            where = f"{files['rgb']} has {width}x{height} pixels"
            if min(width, height) < self.options.tile_px:
                raise ValueError(f"{where}, which is less than tile_px = {self.options.tile_px}")
            for entry, (across, down) in found.items():
                allowed = SHORT_PX if (tile, entry) == (SHORT_TILE, "height") else 0
                if not (0 <= width - across <= allowed and 0 <= height - down <= allowed):
                    other = f"{files[entry]} has {across}x{down} pixels"
                    raise ValueError(f"{other} but {where}; all files of a tile must be aligned and equally large")
        if others := [f"{tile} {size[0]}x{size[1]}" for tile, size in sizes.items() if size != TILE_SIZE]:
            told = f"{len(others)} tile(s) have other sizes than {TILE_SIZE[0]}x{TILE_SIZE[1]}, which is published"
            warn(f"{self.root}: {told}: {', '.join(others[:5])}")
        return sizes

    def _cut(self, split: str) -> dict[str, tuple[str, slice, slice]]:
        """Return id -> tile and window of the crops of a split; only train overlaps by choice: scores do not change."""
        size = self.options.tile_px
        stride = (self.options.stride_px if split == "train" else None) or size
        crops = {}
        for tile in self._tiles[split]:
            width, height = self._sizes[tile]
            for top, left in product(*(crop_starts(side, size, stride) for side in (height, width))):
                crops[f"{tile}/r{top}_c{left}"] = (tile, slice(top, top + size), slice(left, left + size))
        return crops

    def _read_tile(self, tile: str) -> dict[str, np.ndarray]:
        """Read the entries of a sample for a whole tile; ``ir`` and ``label`` in 8 bits."""
        bands = self._read_bands(tile, "rgb").transpose(2, 0, 1)
        derived = (self.options.bands, self._layers["rgb"]) == ("irrg", "rgbir")
        height, measured = self._read_height(tile)
        infrared = {"ir": bands[3:]} if self.options.bands == "rgbir" else {}
        rgb = bands[[3, 0, 1]] if derived else bands[:3]
        return {"rgb": rgb, "height": height, "height_valid": measured, "label": self._read_label(tile)} | infrared

    def _read_bands(self, tile: str, entry: str) -> np.ndarray:
        """Read (H, W, C) uint8 of colours or a label."""
        path, (width, height) = self._files[tile][entry], self._sizes[tile]
        pixels, expected = decode(path), (height, width, TABLES["layers"][self._layers[entry]]["channels"])
        if pixels.dtype != np.uint8 or pixels.shape != expected:
            raise ValueError(f"{path} holds {pixels.dtype} {pixels.shape}, expected uint8 {expected}")
        return pixels

    def _read_height(self, tile: str) -> tuple[np.ndarray, np.ndarray]:
        """Read (1, H, W) float32, 0 where invalid, and bool; the part that the file is short of is invalid."""
        path = self._files[tile]["height"]
        found, measured = read_sensor(path, self._height)
        low, high = found.min(), found.max()
        if low < HEIGHTS[0] or high > HEIGHTS[1]:
            raise ValueError(f"{path} holds {low} to {high}, expected metres, and NaN where there is no measurement")
        width, height = self._sizes[tile]
        short = [(0, 0), (0, height - found.shape[1]), (0, width - found.shape[2])]
        return (np.pad(found, short), np.pad(measured, short)) if tile == SHORT_TILE else (found, measured)

    def _read_label(self, tile: str) -> np.ndarray:
        """Read (H, W) uint8 classes; ValueError where too many pixels have no colour of a class for a label."""
        path, colours = self._files[tile]["label"], self._read_bands(tile, "label")
        codes = np.concatenate([colour_codes(part) for part in np.array_split(colours, PARTS)])
        wrong = np.count_nonzero(codes == MAGENTA)
        message = f"{path}: {wrong} pixels ({wrong / codes.size:.2%}) have colours that are not a class"
        if wrong > ERROR_SHARE * codes.size:
            right = "that of 4_12 in 5_Labels_all is a photograph, the one in 5_Labels_for_participants is right"
            raise ValueError(f"{message}, so it is not a label; {right}")
        if wrong > WARN_SHARE * codes.size:
            warn(f"{message}; they are ignored")
        return self._classes[codes]

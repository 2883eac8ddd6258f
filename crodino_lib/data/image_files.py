"""Describe and find the files of a dataset folder, and read them as sensor values and class ids."""

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, FiniteFloat, field_validator

from crodino_lib.data.decode import SUFFIXES, Picture, decode, open_picture, readable
from crodino_lib.data.sample import IGNORE, Sensor
from crodino_lib.settings import Strict, nearest

KINDS = {  # kind -> type in the file, channels, in words
    "rgb": ("uint8", 3, "8 bits, three channels"),
    "u8": ("uint8", 1, "8 bits, one channel or three equal ones"),
    "u16": ("uint16", 1, "16 bits, one channel"),
    "i16": ("int16", 1, "16 bits with a sign, one channel"),
    "f16": ("uint16", 1, "16 bits, one channel, which are those of a half-precision number"),
    "float": ("float", 1, "floating point, one channel (.npy or TIFF)"),
}

Numbers = Annotated[tuple[FiniteFloat, ...], Field(strict=False)]  # TOML has lists only
Bands = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)]
RawId = Annotated[int, Field(ge=-1, lt=1 << 16)]
RawIds = Annotated[tuple[RawId, ...], Field(strict=False)]
Digits = Annotated[str, Field(pattern="^[0-9]{1,4}$")]
Colour = Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]


class ImageFiles(Strict):
    """A folder of files, one per scene."""

    dir: str  # folder below the root
    ext: str = ""  # how names end after the id, such as '.png'; empty takes any known suffix
    pattern: str = "(.+)"  # of the path below dir without its ending; its groups, joined by /, are the id
    bands: Bands = ()  # channels of the file that are meant, counted from 0; empty means all

    @field_validator("ext")
    @classmethod
    def _ext(cls, ext: str) -> str:
        return f".{ext}" if f".{ext.lower()}" in SUFFIXES else ext

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        try:
            if re.compile(pattern).groups:
                return pattern
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        raise ValueError("has no group (...) that could be the id")

    def stem(self, name: str, *endings: str) -> str | None:
        """Return ``name`` without its ending, whatever its case; None where it has none of ours or of ``endings``."""
        ours = (self.ext.lower(),) if self.ext else SUFFIXES
        ending = next((ending for ending in (*ours, *endings) if name.lower().endswith(ending)), None)
        return None if ending is None else name[: -len(ending)]

    def index(self, root: Path) -> dict[str, Path]:
        """Return id -> file, sub-folders included; hidden files and those that the pattern does not fit are left out.

        FileNotFoundError where the folder does not exist, ValueError where two files fit one id.
        """
        folder = existing(root / Path(self.dir).expanduser())
        files: dict[str, Path] = {}
        for parent, folders, names in os.walk(folder, followlinks=True):
            here, own = Path(parent), [name for name in folders if not name.startswith((".", "__MACOSX"))]
            folders[:] = [name for name in own if not here.resolve().is_relative_to((here / name).resolve())]  # loops
            for path in (here / name for name in names if not name.startswith((".", "~"))):
                stem = self.stem(path.relative_to(folder).as_posix())
                if stem is not None and (fits := re.fullmatch(self.pattern, stem)):
                    scene_id = "/".join(fits.groups())
                    if other := files.get(scene_id):
                        raise ValueError(f"{path} and {other} both fit the id {scene_id!r}; choose with ext")
                    files[scene_id] = path
        return files


class SensorFiles(ImageFiles):
    """The files of one sensor besides rgb: its value in ``unit`` is ``scale * raw + offset``."""

    kind: Literal["u8", "u16", "i16", "f16", "float", "rgb"]  # what files hold; never converted
    unit: str  # unit of the scaled value, such as m or degrees C
    invalid: Numbers  # raw values that mean no measurement; [] where every value is one
    scale: FiniteFloat = 1.0  # units per raw step
    offset: FiniteFloat = 0.0  # value of raw 0, in the unit
    mean: Numbers = ()  # of the scaled values, per channel
    std: Numbers = ()  # standard deviation of the scaled values, per channel
    focal: float = Field(1.0, gt=0)  # focal length in widths of the picture, which surface normals need

    @field_validator("scale", "std")
    @classmethod
    def _divisor(cls, value: Any) -> Any:
        if value == 0 or (isinstance(value, tuple) and min(value, default=1) <= 0):
            raise ValueError("must not be 0, and std above 0, as values are divided by it")
        return value

    @property
    def sensor(self) -> Sensor:
        """The sensor as a card describes it."""
        return Sensor(KINDS[self.kind][1], self.unit, self.mean, self.std, self.focal)


class LabelFiles(ImageFiles):
    """The label files: single-channel ids, made into ``0..K-1`` or 255 = ignore."""

    bands: Annotated[Bands, Field(max_length=1)] = ()  # the one channel that holds ids
    offset: Literal[0, -1] = 0  # -1 where files hold 1..K and 0 is ignored, as CMX's gt_transform
    ignore: RawIds = (IGNORE,)  # ids that are ignored; [] where 255 would mean converted labels
    map: dict[Digits, int] = Field({})  # id in the file -> class or 255, after offset and ignore
    colours: dict[Colour, RawId] = Field({})  # '#rrggbb' in small letters -> id, of pictures of colours

    def classes(self, count: int) -> np.ndarray:
        """Return (65536,) int64: id in a file (-1 is the last) -> class 0..count-1, 255 = ignore, -1 = not allowed."""
        classes = np.full(1 << 16, -1)
        classes[[*self.ignore, *([0] if self.offset else [])]] = IGNORE
        own = np.setdiff1d(np.arange(count) - self.offset, self.ignore)
        classes[own] = own + self.offset
        for raw, value in self.map.items():
            classes[int(raw)] = value
        return classes


def existing(path: Path, what: str = "folder", pattern: str = "*/") -> Path:
    """Return ``path``; where it does not exist, FileNotFoundError proposes the most similar that fits ``pattern``."""
    if path.is_dir() if what == "folder" else path.exists():
        return path
    if path.exists():
        raise FileNotFoundError(f"{path} is a file, expected a folder; unpack it if it is an archive")
    there = sorted(other.name for other in path.parent.glob(pattern))
    beside = f"beside it: {', '.join(there[:10]) or 'none'}" if path.parent.is_dir() else f"nor does {path.parent}"
    raise FileNotFoundError(f"the {what} {path} does not exist; {beside}.{nearest(path.name, there)}")


def read_picture(path: Path, kind: str, bands: tuple[int, ...] = ()) -> Picture:
    """Return one picture with its raw values as (C, H, W), in ``bands`` or all; ValueError where not of ``kind``."""
    picture = open_picture(path, kind in ("rgb", "u8"))
    stored, channels, words = KINDS[kind]
    pixels = _chosen(path, picture.pixels, bands)
    if kind == "u8" and pixels.shape[2:] == (3,) and not np.ptp(pixels, axis=2).any():
        pixels = pixels[..., :1]
    if pixels.shape[2:] != (channels,) or not pixels.dtype.name.startswith(stored):
        found = f"{pixels.dtype} of shape {pixels.shape}" + f" in bands {list(bands)}" * bool(bands)
        hint = "; bands = [0, 0, 0] reads grey as colour" * (kind == "rgb" and pixels.shape[2:] == (1,))
        raise ValueError(f"{path} holds {found}, expected kind {kind!r}: {words}{hint}")
    return picture._replace(pixels=(pixels.view(np.float16) if kind == "f16" else pixels).transpose(2, 0, 1))


def _chosen(path: Path, pixels: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """Return the bands that are meant, (H, W, C); without a choice all but an opaque alpha, as plt.imsave writes."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if bands and (pixels.ndim != 3 or pixels.shape[2] <= max(bands)):
        expected = f"expected at least {max(bands) + 1} channels"
        raise ValueError(f"{path} holds {pixels.dtype} of shape {pixels.shape}, {expected}")
    opaque = pixels.shape[2:] == (4,) and (pixels[..., 3] == 255).all()
    return pixels[..., bands] if bands else pixels[..., :3] if opaque else pixels


def read_sensor(path: Path, files: SensorFiles) -> tuple[np.ndarray, np.ndarray]:
    """Return one picture in its sensor's unit, (C, H, W) float32, 0 where invalid, and where it is valid, (1, H, W)."""
    raw, no_data, _ = read_picture(path, files.kind, files.bands)
    measured = np.isfinite(raw)
    for value in files.invalid if no_data is None else (*files.invalid, no_data):
        measured &= raw != value
    valid = measured.any(axis=0, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # where there is no measurement
        image = (raw.astype(np.float64) * files.scale + files.offset).astype(np.float32)  # rounded once
    return np.where(valid, image, np.float32(0)), valid


def read_label(path: Path, files: LabelFiles, classes: np.ndarray, colours: dict | None = None) -> np.ndarray:
    """Return the (H, W) int64 classes of a label file by ``LabelFiles.classes``; ValueError names it and a wrong id.

    ``colours`` collects id -> colour, of the colour tables of all label files; they must not contradict each other.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise ValueError(f"{path} is a JPEG, whose compression changes ids; expected a PNG, saved from their source")
    raw = _ids_of_colours(path, files.colours) if files.colours else decode(path)
    raw = _chosen(path, raw, files.bands)[..., 0] if files.bands else raw
    if raw.ndim != 2 or not raw.size or raw.dtype.kind not in "iu" or raw.min() < -1 or raw.max() >= len(classes):
        expected = "expected one channel of class ids in 0..65535, or -1 where ignore has it, not colours"
        raise ValueError(f"{path} holds {raw.dtype} of shape {raw.shape}, {expected}")
    label = np.take(classes, raw, mode="wrap")  # -1 is the last
    if label.min() < 0:
        known, ignored = (np.flatnonzero(which) for which in ((classes >= 0) & (classes != IGNORE), classes == IGNORE))
        expected = f"expected {known[0]}..{known[-1]} or the ignored {ignored.tolist()}"
        wrong = np.unique(raw[label < 0])[:8].tolist()
        raise ValueError(f"{path} holds the ids {wrong}, which are no class; {expected}; see offset, ignore and map")
    for index, colour in (colour_table(path) if colours is not None and not files.colours else {}).items():
        if index in raw and colours.setdefault(index, colour) != colour:
            told = f"#{colour.hex()} in the colour table of {path} and #{colours[index].hex()} in other labels"
            raise ValueError(
                f"id {index} is {told}: ids mean other classes in each file. State colours, which count then"
            )
    return label


def colour_table(path: Path) -> dict[int, bytes]:
    """Return id -> (r, g, b) of a picture with a colour table that is no scale of greys; else nothing."""
    if path.suffix.lower() not in (".png", ".bmp"):
        return {}
    with readable(path), Image.open(path) as image:
        table = bytes(image.getpalette("RGB")) if image.mode == "P" else b""
    entries = {index: table[3 * index : 3 * index + 3] for index in range(len(table) // 3)}
    return entries if any(len(set(colour)) > 1 for colour in entries.values()) else {}


def _ids_of_colours(path: Path, colours: dict[str, int]) -> np.ndarray:
    """Return the (H, W) ids of a picture whose colours mean classes; ValueError names a colour that means none."""
    codes = np.moveaxis(read_picture(path, "rgb").pixels, 0, -1).astype(np.int32) @ (1 << 16, 1 << 8, 1)
    known = np.array(sorted((int(colour[1:], 16), index) for colour, index in colours.items()))
    place = np.searchsorted(known[:, 0], codes).clip(max=len(known) - 1)
    wrong = known[place, 0] != codes
    if wrong.any():
        told = f"{wrong.mean():.1%} of the pixels have colours that mean no class, such as #{codes[wrong][0]:06x}"
        raise ValueError(f"{path}: {told}; expected {', '.join(colours)}")
    return known[place, 1]


def digest(path: Path) -> bytes:
    """Hash a file's size and bytes; of a PNG or JPEG only the first 1024 and the last 256, which is quick."""
    with path.open("rb") as file:
        size = path.stat().st_size
        first = file.read(1024)  # a table of colours among them
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            file.seek(max(len(first), size - 256))
        return hashlib.sha256(size.to_bytes(8) + first + file.read()).digest()

"""Pictures on disk: which files there are, what they must hold, and their values as stored; nothing is converted."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import struct
import tokenize
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, ValidationInfo, field_validator

from crodino_lib.config import Strict, nearest
from crodino_lib.data.sample import IGNORE

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy")
KINDS = {
    "rgb": "8 bits, three channels",
    "u8": "8 bits, one channel or three equal ones",
    "u16": "16 bits, one channel",
    "f16": "16 bits, one channel, which are those of a half-precision number",
    "float": "floating point, one channel (.npy or TIFF)",
}
STORED = {"rgb": "u8", "f16": "u16"}  # kind -> type in the file, where it has another name

DAMAGED = (  # what Pillow and NumPy raise for damaged files
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    Image.DecompressionBombError,
)

Numbers = Annotated[tuple[float, ...], Field(strict=False)]  # TOML has lists only
Bands = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)]
RawId = Annotated[int, Field(ge=0, lt=1 << 16)]


class ImageFiles(Strict):
    """A folder of files, one per scene."""

    dir: str = Field(description="folder below the root")
    ext: str = Field("", description="how names end after the id, such as '.png'; empty takes any known suffix")
    pattern: str = Field(
        "(.+)",
        description="regular expression for the path below dir without its ending; its groups, joined by /, are the id",
    )
    bands: Bands = Field((), description="channels of the file that are meant, counted from 0; empty means all")

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if not groups:
            raise ValueError("has no group (...) that could be the id")
        return pattern

    @property
    def endings(self) -> tuple[str, ...]:
        """What file names may end in, in lower case."""
        return (self.ext.lower(),) if self.ext else SUFFIXES

    def index(self, root: Path) -> dict[str, Path]:
        """Id -> file, sub-folders included, whatever the case of the suffix; others than the pattern fits are not ours.

        Raises:
            FileNotFoundError: the folder does not exist.
            ValueError: two files fit one id.
        """
        folder = existing_folder(root / self.dir)
        found: dict[str, Path] = {}
        for parent, folders, names in os.walk(folder, followlinks=True):
            above = Path(parent).resolve()
            folders[:] = [
                name for name in folders if not above.is_relative_to(Path(parent, name).resolve())
            ]  # no loops
            for path in (Path(parent, name) for name in names):
                ending = next((ending for ending in self.endings if path.name.lower().endswith(ending)), None)
                if ending is None:
                    continue
                fits = re.fullmatch(self.pattern, path.relative_to(folder).as_posix()[: -len(ending)])
                if fits is None:
                    continue
                scene_id = "/".join(fits.groups())
                if scene_id in found:
                    raise ValueError(f"{path} and {found[scene_id]} both fit the id {scene_id!r}; choose with ext")
                found[scene_id] = path
        return found


class SensorFiles(ImageFiles):
    """The files of one sensor besides rgb: its value in ``unit`` is ``scale * raw + offset``."""

    kind: Literal["u8", "u16", "f16", "float", "rgb"] = Field(description="what a file must hold; nothing is converted")
    unit: str = Field(description="unit of the scaled value, such as m or degrees C")
    invalid: Numbers = Field(description="raw values that mean no measurement; [] where every value is one")
    scale: float = Field(1.0, allow_inf_nan=False, description="units per raw step")
    offset: float = Field(0.0, allow_inf_nan=False, description="value of raw 0, in the unit")
    mean: Numbers = Field((), description="mean of the scaled values, per channel")
    std: Numbers = Field((), description="standard deviation of the scaled values, per channel")
    focal: float = Field(1.0, gt=0, description="focal length in widths of the picture, which surface normals need")

    @field_validator("scale", "mean", "std")
    @classmethod
    def _usable(cls, value: Any, info: ValidationInfo) -> Any:
        numbers = value if isinstance(value, tuple) else (value,)
        if not np.isfinite(numbers).all() or (info.field_name == "scale" and not value):
            raise ValueError("must be finite, and scale not 0")
        if info.field_name == "std" and min(numbers, default=1) <= 0:
            raise ValueError("must be above 0, as values are divided by it")
        return value

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return 3 if self.kind == "rgb" else 1


class LabelFiles(ImageFiles):
    """The label files: single-channel ids, made into ``0..K-1`` or 255 = ignore."""

    offset: Literal[0, -1] = Field(0, description="-1 where files hold 1..K and 0 is ignored, as CMX's gt_transform")
    ignore: Annotated[tuple[RawId, ...], Field(strict=False)] = Field(
        (IGNORE,), description="ids that are ignored; [] where 255 would mean that labels were converted"
    )
    map: dict[Annotated[str, Field(pattern="^[0-9]{1,4}$")], int] = Field(
        default_factory=dict, description="id in the file -> class or 255, after offset and ignore"
    )
    colours: dict[Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")], RawId] = Field(
        default_factory=dict, description="'#rrggbb' -> id, where files are pictures of colours"
    )

    @field_validator("bands")
    @classmethod
    def _one_band(cls, bands: tuple[int, ...]) -> tuple[int, ...]:
        if len(bands) > 1:
            raise ValueError("a label is one band")
        return bands

    @field_validator("colours")
    @classmethod
    def _colours(cls, colours: dict[str, int]) -> dict[str, int]:
        small = {colour.lower(): index for colour, index in colours.items()}
        if len(small) < len(colours):
            raise ValueError("names a colour twice")
        return small

    def classes(self, count: int) -> np.ndarray:
        """(65536,) int64: id in a file -> class in ``0..count-1``, 255 = ignore, -1 = not allowed."""
        classes = np.full(1 << 16, -1)
        classes[[*self.ignore, *([0] if self.offset else [])]] = IGNORE
        own = np.setdiff1d(np.arange(count) - self.offset, self.ignore)
        classes[own] = own + self.offset
        for raw, value in self.map.items():
            classes[int(raw)] = value
        return classes


def existing_folder(folder: Path) -> Path:
    """``folder``, which must exist.

    Raises:
        FileNotFoundError: says what its parent holds instead, and the most similar name.
    """
    if folder.is_dir():
        return folder
    parent = folder.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist, nor does {parent}")
    there = sorted(path.name for path in parent.iterdir() if path.is_dir())
    same = {name.lower(): name for name in there}.get(folder.name.lower())
    hint = f" Did you mean {same!r}?" if same else nearest(folder.name, there)
    raise FileNotFoundError(
        f"the folder {folder} does not exist; {parent} holds the folders {', '.join(there[:10]) or 'none'}.{hint}"
    )


def decode(path: Path, colour: bool = False) -> np.ndarray:
    """Pixels of a picture or ``.npy`` file, (H, W) or (H, W, C), in the type they are stored in.

    Args:
        path: the file.
        colour: give the colours of a picture with a colour table, instead of its ids.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it is damaged or no picture.
    """
    with readable(path):
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix.lower() in (".tif", ".tiff"):
            return read_tiff(path)
        with Image.open(path) as image:
            _refuse_converted_bits(image)
            return np.asarray(image.convert("RGB") if colour and image.mode == "P" else image)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what decoders raise for damaged files into one error that names the file.

    Raises:
        ValueError: the file is damaged.
        OSError: the system refuses to read it.
    """
    try:
        yield
    except (*DAMAGED, RuntimeError, LookupError, ArithmeticError, TypeError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of the file
            raise
        raise ValueError(f"{path} ({path.stat().st_size} bytes) cannot be read: {error}") from error


def _refuse_converted_bits(image: Image.Image) -> None:
    """Raise where Pillow would scale values: colours of 16 bits to 8, grey of 2 or 4 bits to 8.

    Raises:
        ValueError: it would.
    """
    arguments = image.tile[0].args if image.tile else ""
    stored = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
    if ("16" in stored and not image.mode.startswith("I")) or stored in ("L;2", "L;4"):
        raise ValueError(
            f"its values are stored as {stored}, which Pillow scales to 8 bits: save 8 bits, or grey of 16"
        )


def read_tiff(path: Path) -> np.ndarray:
    """Pixels of a TIFF as stored, (H, W) or (H, W, C): Pillow drops or changes the fourth band of some.

    Raises:
        ImportError: tifffile, or imagecodecs where the file is compressed by LZW or JPEG, is not installed.
    """
    tifffile = needed("tifffile", "potsdam", path)
    with tifffile.TiffFile(path) as file:
        page, *others = file.pages
        if any(other.shape == page.shape for other in others):
            raise ValueError(f"it holds {1 + len(others)} pictures, expected one")
        pixels = page.asarray()
        return np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels


def needed(package: str, extra: str, path: Path) -> Any:
    """The module of an optional package.

    Raises:
        ImportError: it is not installed; says which extra brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{path} is read by {package}, which is missing: pip install 'crodino[{extra}]'") from error


def read_pixels(path: Path, kind: str, bands: tuple[int, ...] = ()) -> np.ndarray:
    """Raw values of one picture, (C, H, W), which must be of the ``kind`` that was promised.

    Args:
        path: the file.
        kind: one of ``KINDS``.
        bands: channels that are meant; empty means all.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    pixels = decode(path, colour=kind in ("rgb", "u8"))
    found = f"{pixels.dtype} of shape {pixels.shape}"
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if bands:
        if pixels.ndim != 3 or pixels.shape[2] <= max(bands):
            raise ValueError(f"{path} holds {found}, expected at least {max(bands) + 1} channels")
        pixels = pixels[..., bands]
    elif pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():  # opaque, as plt.imsave writes
        pixels = pixels[..., :3]
    if kind == "u8" and pixels.shape[2:] == (3,) and not np.ptp(pixels, axis=2).any():
        pixels = pixels[..., :1]
    stored = "float" if pixels.dtype.kind == "f" else f"{pixels.dtype.kind}{8 * pixels.dtype.itemsize}"
    if pixels.shape[2:] != (3 if kind == "rgb" else 1,) or stored != STORED.get(kind, kind):
        raise ValueError(f"{path} holds {found}, expected kind {kind!r}: {KINDS[kind]}")
    pixels = pixels.view(np.float16) if kind == "f16" else pixels
    return pixels.transpose(2, 0, 1)


def read_sensor(path: Path, files: SensorFiles) -> tuple[np.ndarray, np.ndarray]:
    """One picture in its sensor's unit.

    Returns:
        (C, H, W) float32, 0 where invalid, and (1, H, W) bool: where it is valid.
    """
    raw = read_pixels(path, files.kind, files.bands)
    measured = np.isfinite(raw) if raw.dtype.kind == "f" else np.ones(raw.shape, bool)
    for value in files.invalid:
        measured &= raw != value
    valid = measured.any(axis=0, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # where there is no measurement
        image = (raw.astype(np.float64) * files.scale + files.offset).astype(np.float32)  # rounded once
    if not valid.all():
        image[~np.broadcast_to(valid, image.shape)] = 0
    return image, valid


def read_label(path: Path, files: LabelFiles, classes: np.ndarray) -> np.ndarray:
    """(H, W) int64 classes of one label file.

    Args:
        path: the file.
        files: how it is to be read.
        classes: id in the file -> class, from ``LabelFiles.classes``.

    Raises:
        ValueError: the file is damaged, holds colours where ids are expected, or what is no class; names it.
    """
    raw = ids_of_colours(path, files.colours) if files.colours else decode(path)
    if files.bands:
        if raw.ndim != 3 or raw.shape[2] <= files.bands[0]:
            raise ValueError(f"{path} holds shape {raw.shape}, expected at least {files.bands[0] + 1} channels")
        raw = raw[..., files.bands[0]]
    if raw.ndim != 2 or not raw.size:
        found = f"{raw.shape[2]} channels" if raw.ndim == 3 else f"shape {raw.shape}"
        raise ValueError(f"{path} holds {found}, expected one channel of class ids, not colours")
    if raw.dtype.kind not in "iu" or raw.min() < 0 or raw.max() >= len(classes):
        raise ValueError(f"{path} holds {raw.dtype}, expected class ids of 8 or 16 bits")
    occurring = np.flatnonzero(np.bincount(raw.ravel()))
    if (classes[occurring] < 0).any():
        known = np.flatnonzero((classes >= 0) & (classes != IGNORE))
        raise ValueError(
            f"{path} holds the ids {occurring[classes[occurring] < 0][:8].tolist()}, which are no class; expected "
            f"{known[0]}..{known[-1]} or the ignored {np.flatnonzero(classes == IGNORE).tolist()}; offset, ignore and "
            "map of the label files say what an id means"
        )
    return np.take(classes, raw, mode="clip")  # nothing is clipped; it is the fast mode


def ids_of_colours(path: Path, colours: Mapping[str, int]) -> np.ndarray:
    """(H, W) ids of a picture whose colours mean classes.

    Raises:
        ValueError: the file is damaged, has no colours, or one that means nothing; names it and its share.
    """
    pixels = decode(path, colour=True)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"{path} holds {pixels.dtype} of shape {pixels.shape}, expected colours: {KINDS['rgb']}")
    codes = pixels.astype(np.int32) @ (1 << 16, 1 << 8, 1)
    known = np.array(sorted((int(colour[1:], 16), index) for colour, index in colours.items()))
    place = np.searchsorted(known[:, 0], codes).clip(max=len(known) - 1)
    wrong = known[place, 0] != codes
    if wrong.any():
        raise ValueError(
            f"{path}: {wrong.mean():.1%} of the pixels have colours that mean no class, such as "
            f"#{codes[wrong][0]:06x}; expected {', '.join(colours)}"
        )
    return known[place, 1]


def digest(path: Path) -> bytes:
    """Changes when the file does, short of an edit that keeps a picture's size, its first 1024 and its last 256 bytes.

    Hashing every picture whole would take longer than decoding it; files other than PNG and JPEG are read whole.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        first = file.read(1024)  # a table of colours among them
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            file.seek(max(len(first), size - 256))
        return hashlib.sha256(size.to_bytes(8) + first + file.read()).digest()

"""Pictures on disk: which files there are, what they must hold, and their values as stored; nothing is converted."""

from __future__ import annotations

import hashlib
import os
import struct
import tokenize
import zlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from crodino_lib.config import Strict, nearest
from crodino_lib.data.sample import IGNORE

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy")
KINDS = {
    "rgb": "8 bits, three channels",
    "u8": "8 bits, one channel or three equal ones",
    "u16": "16 bits, one channel",
    "float": "floating point, one channel (.npy or TIFF)",
}

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
RawId = Annotated[int, Field(ge=0, lt=1 << 16)]


class Pictures(Strict):
    """A folder of files, one per scene."""

    dir: str = Field(description="folder below the root")
    ext: str = Field("", description="how names end after the id, such as '.png'; empty takes any known suffix")

    @property
    def endings(self) -> tuple[str, ...]:
        """What file names may end in, in lower case."""
        return (self.ext.lower(),) if self.ext else SUFFIXES

    def index(self, root: Path) -> dict[str, Path]:
        """Id -> file, sub-folders included, whatever the case of the suffix.

        Raises:
            FileNotFoundError: the folder does not exist.
            ValueError: two files fit one id.
        """
        folder = existing_folder(root / self.dir)
        found: dict[str, Path] = {}
        for parent, _, names in os.walk(folder):
            for path in (Path(parent, name) for name in names):
                ending = next((ending for ending in self.endings if path.name.lower().endswith(ending)), None)
                if ending is None:
                    continue
                scene_id = path.relative_to(folder).as_posix()[: -len(ending)]
                if scene_id in found:
                    raise ValueError(f"{path} and {found[scene_id].name} both fit the id {scene_id!r}; choose with ext")
                found[scene_id] = path
        return found


class SensorFiles(Pictures):
    """The files of one sensor besides rgb: its value in ``unit`` is ``scale * raw + offset``."""

    kind: Literal["u8", "u16", "float", "rgb"] = Field(description="what a file must hold; nothing is converted")
    unit: str = Field(description="unit of the scaled value, such as m or degrees C")
    invalid: Numbers = Field(description="raw values that mean no measurement; [] where every value is one")
    scale: float = Field(1.0, description="units per raw step")
    offset: float = Field(0.0, description="value of raw 0, in the unit")
    mean: Numbers = Field((), description="mean of the scaled values, per channel")
    std: Numbers = Field((), description="standard deviation of the scaled values, per channel")

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return 3 if self.kind == "rgb" else 1


class LabelFiles(Pictures):
    """The label files: single-channel ids, made into ``0..K-1`` or 255 = ignore."""

    offset: Literal[0, -1] = Field(0, description="-1 where files hold 1..K and 0 is ignored, as CMX's gt_transform")
    ignore: Annotated[tuple[RawId, ...], Field(strict=False)] = Field((IGNORE,), description="ids that are ignored")
    map: dict[Annotated[str, Field(pattern="^[0-9]{1,4}$")], int] = Field(
        default_factory=dict, description="id in the file -> class or 255, after offset and ignore"
    )

    def classes(self, count: int) -> np.ndarray:
        """(65536,) int64: id in a file -> class in ``0..count-1``, 255 = ignore, -1 = not allowed."""
        classes = np.full(1 << 16, -1)
        classes[[IGNORE, *self.ignore, *([0] if self.offset else [])]] = IGNORE
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
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path) as image:
            return np.array(image.convert("RGB") if colour and image.mode == "P" else image)
    except FileNotFoundError:
        raise
    except DAMAGED as error:
        raise ValueError(f"{path} ({path.stat().st_size} bytes) cannot be read: {error}") from error


def read_pixels(path: Path, kind: str) -> np.ndarray:
    """Raw values of one picture, (C, H, W), which must be of the ``kind`` that was promised.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    pixels = decode(path, colour=kind in ("rgb", "u8"))
    found = f"{pixels.dtype} of shape {pixels.shape}"
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():  # opaque, such as plt.imsave writes
        pixels = pixels[..., :3]
    if kind == "u8" and pixels.shape[2:] == (3,) and not np.ptp(pixels, axis=2).any():
        pixels = pixels[..., :1]
    stored = "float" if pixels.dtype.kind == "f" else f"{pixels.dtype.kind}{8 * pixels.dtype.itemsize}"
    if pixels.shape[2:] != (3 if kind == "rgb" else 1,) or stored != kind.replace("rgb", "u8"):
        raise ValueError(f"{path} holds {found}, expected kind {kind!r}: {KINDS[kind]}")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_sensor(path: Path, files: SensorFiles) -> tuple[np.ndarray, np.ndarray]:
    """One picture in its sensor's unit.

    Returns:
        (C, H, W) float32, 0 where invalid, and (1, H, W) bool: where it is valid.
    """
    raw = read_pixels(path, files.kind)
    valid = (np.isfinite(raw) & ~np.isin(raw, files.invalid)).any(axis=0, keepdims=True)
    image = raw.astype(np.float32) * np.float32(files.scale) + np.float32(files.offset)
    return np.where(valid, image, np.float32(0)), valid


def read_label(path: Path, classes: np.ndarray) -> np.ndarray:
    """(H, W) int64 classes of one label file.

    Args:
        path: the file.
        classes: id in the file -> class, from ``LabelFiles.classes``.

    Raises:
        ValueError: the file is damaged, holds colours, or ids that are no class; names them.
    """
    raw = decode(path)
    if raw.ndim != 2:
        raise ValueError(f"{path} holds {raw.shape[-1]} channels, expected one channel of class ids, not colours")
    if raw.dtype.kind not in "iu" or raw.min() < 0 or raw.max() >= len(classes):
        raise ValueError(f"{path} holds {raw.dtype}, expected class ids of 8 or 16 bits")
    label = classes[raw]
    if label.min() < 0:
        known = np.flatnonzero((classes >= 0) & (classes != IGNORE))
        raise ValueError(
            f"{path} holds the ids {np.unique(raw[label < 0])[:8].tolist()}, which are no class; expected {known[0]}.."
            f"{known[-1]} or the ignored {np.flatnonzero(classes == IGNORE).tolist()}; offset, ignore and map of the "
            "label files say what an id means"
        )
    return label


def digest(path: Path) -> bytes:
    """Changes when the file does, short of an edit that keeps a picture's size and its last 256 bytes.

    Hashing every picture whole would take longer than decoding it; files other than PNG and JPEG are read whole.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            file.seek(max(0, size - 256))
        return hashlib.sha256(size.to_bytes(8) + file.read()).digest()

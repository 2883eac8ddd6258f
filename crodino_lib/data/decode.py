"""Decode picture files into the values that are stored in them, upright and in native byte order."""

import importlib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".pgm", ".ppm", ".npy")
ORIENTATION, NO_DATA = 274, 42113  # tags of EXIF and TIFF, and of GDAL
IMPOSTORS = {b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull", b"<": "a web page, not a picture"}


class Picture(NamedTuple):
    """A decoded file: its values in native byte order, and what its tags say."""

    pixels: np.ndarray  # (H, W) or (H, W, C), as stored and then turned as the orientation says
    no_data: float | None = None  # the value that means no measurement, where GDAL wrote such a tag
    orientation: int = 1  # the tag of EXIF or TIFF; 1 is upright


def open_picture(path: Path, colour: bool = False) -> Picture:
    """Read a picture or ``.npy`` file; with ``colour``, the colours that a colour table gives instead of its indices.

    ValueError names a file that is damaged, no picture, or holds values that reading would change.
    """
    with readable(path), path.open("rb") as file:
        if path.suffix.lower() == ".npy":
            picture = Picture(np.load(path, allow_pickle=False))
        else:  # what it holds decides, not its name
            picture = (_open_tiff if file.read(2) in (b"II", b"MM") else _open_with_pillow)(path, colour)
        pixels, turn = picture.pixels, picture.orientation if picture.orientation in range(2, 9) else 1
        pixels = pixels.astype(np.uint8 if pixels.dtype == bool else pixels.dtype.newbyteorder("="), copy=False)
        pixels = pixels.swapaxes(0, 1) if turn > 4 else pixels
        if turn > 1:
            pixels = pixels[:: -1 if turn in (3, 4, 7, 8) else 1, :: -1 if turn in (2, 3, 6, 7) else 1]
        return picture._replace(pixels=pixels, orientation=turn)


def decode(path: Path, colour: bool = False) -> np.ndarray:
    """Return the pixels that ``open_picture`` reads."""
    return open_picture(path, colour).pixels


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what decoders raise for damaged files, of many types, into one ValueError that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is not None):
            raise  # of the system, not of the file
        with path.open("rb") as file:
            start = file.read(64).lstrip()
        what = next((text for first, text in IMPOSTORS.items() if start.startswith(first)), error)
        if isinstance(error, Image.DecompressionBombError):
            what = f"it has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels; cut it into tiles first"
        if isinstance(error, UnicodeDecodeError):
            what = "it is not saved as UTF-8" + ", but as UTF-16" * start.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise ValueError(f"{path} ({path.stat().st_size} bytes) cannot be read: {what}") from error


def _open_with_pillow(path: Path, colour: bool) -> Picture:
    with Image.open(path) as image:
        if image.format == "PPM" and image.mode != "1":
            return Picture(_netpbm(path.read_bytes()))
        arguments = image.tile[0].args if image.tile else ""
        stored = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
        if ("16" in stored and not image.mode.startswith("I")) or stored in ("L;2", "L;4"):
            raise ValueError(f"values are stored as {stored}, which Pillow scales to 8 bits: save 8 bits or 16, grey")
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise ValueError(f"its colours are stored as {image.mode}, expected RGB or grey: save it so")
        pixels = np.asarray(image.convert("RGB") if colour and image.mode == "P" else image)
        return Picture(pixels, orientation=image.getexif().get(ORIENTATION, 1))


def _netpbm(content: bytes) -> np.ndarray:
    """Return the values of a PGM or PPM as stored; Pillow stretches those whose largest is not 255 or 65535."""
    header = re.match(rb"P([2356])" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 3 + rb"\s", content)
    form, width, height, largest = map(int, header.groups())
    shape = (height, width, 3) if form in (3, 6) else (height, width)
    dtype = np.dtype(np.uint8 if largest < 256 else ">u2")
    if form in (2, 3):
        return np.array(content[header.end() :].split(), int).astype(dtype).reshape(shape)
    return np.frombuffer(content, dtype, count=math.prod(shape), offset=header.end()).reshape(shape)


def _open_tiff(path: Path, colour: bool) -> Picture:
    """Read a TIFF with tifffile: Pillow drops or changes the fourth band of some."""
    tifffile = needed("tifffile", "potsdam", path)
    with tifffile.TiffFile(path) as file:
        page, *others = file.pages
        if any(other.shape == page.shape for other in others):
            raise ValueError(f"it holds {1 + len(others)} pictures, expected one")
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            raise ValueError("it stores white as 0 (MINISWHITE), which inverts values: save it with black as 0")
        decoded = page.compression in (6, 7) and page.photometric == tifffile.PHOTOMETRIC.YCBCR  # JPEG gives RGB
        if not decoded and page.photometric.name not in ("MINISBLACK", "RGB", "PALETTE"):
            raise ValueError(f"its colours are stored as {page.photometric.name}, expected RGB or grey: save it so")
        pixels = np.moveaxis(page.asarray(), 0, -1) if page.axes == "SYX" else page.asarray()
        if colour and page.colormap is not None:
            pixels = (page.colormap >> 8).astype(np.uint8).T[pixels]
        no_data = page.tags.valueof(NO_DATA)
        turn = int(page.tags.valueof(ORIENTATION, 1))
        return Picture(pixels, None if no_data is None else float(no_data), turn)


def needed(package: str, extra: str, path: Path, does: str = "is read by") -> Any:
    """Return the module of an optional package; raise ImportError that says which extra brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{path} {does} {package}, which is missing: pip install 'crodino[{extra}]'") from error

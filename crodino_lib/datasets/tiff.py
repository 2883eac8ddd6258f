"""Windows of pictures that are too large to decode whole: only what a window touches is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from crodino_lib.data.image_files import needed, readable


class Header(NamedTuple):
    """What a file says of itself: its size, its type, and which parts of it can be read on their own."""

    height: int
    width: int
    channels: int
    dtype: str
    block: tuple[int, int]  # (height, width) of what is compressed together; (0, 0) where nothing is


@contextmanager
def tiff_page(path: Path) -> Iterator[Any]:
    """The first page of a TIFF."""
    tifffile = needed("tifffile", "potsdam", path)
    with readable(path), tifffile.TiffFile(path) as file:
        yield file.pages[0]


def read_header(path: Path) -> Header:
    """The header of a TIFF or JPEG; no pixel is decoded.

    Raises:
        ImportError: tifffile is not installed.
        ValueError: the file is damaged or truncated.
    """
    if path.suffix.lower() == ".jpg":
        with readable(path), Image.open(path) as image:  # three equal channels are one; that is seen when it is decoded
            channels = 1 if image.mode == "RGB" else len(image.getbands())
            return Header(image.height, image.width, channels, "uint8", (image.height, image.width))
    with tiff_page(path) as page:
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        end = max(offset + count for offset, count in parts)
        if end > path.stat().st_size or not all(map(all, parts)):
            raise ValueError(f"it is truncated: its pixels end at byte {end}, or some were never written")
        block = (0, 0) if page.is_memmappable else block_size(page)
        return Header(page.imagelength, page.imagewidth, page.samplesperpixel, str(page.dtype), block)


def block_size(page: Any) -> tuple[int, int]:
    """(height, width) of a strip or tile of a TIFF."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def read_in_place(path: Path, rows: slice, columns: slice) -> np.ndarray:
    """(h, w, C) pixels of an uncompressed TIFF; nothing else of it is read."""
    with tiff_page(path) as page:
        planes = np.asarray(page.asarray(out="memmap", squeeze=False))  # (planes, 1, H, W, channels of each)
        part = planes[:, 0, rows, columns]
        return np.moveaxis(part, 0, 2).reshape(*part.shape[1:3], -1).astype(page.dtype)


def decode_blocks(path: Path, rows: slice, columns: slice) -> np.ndarray:
    """(h, w, C) pixels of a compressed TIFF, of which only the strips or tiles that they lie in are decoded.

    Args:
        path: the file.
        rows: from the first row of a strip or tile to the last of one.
        columns: likewise.
    """
    with tiff_page(path) as page:
        pixels = np.zeros((rows.stop - rows.start, columns.stop - columns.start, page.samplesperpixel), page.dtype)
        height, width = block_size(page)
        down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
        planes = len(page.dataoffsets) // (down * across)  # one per channel where they are stored apart
        touched = (
            range(rows.start // height, -(-rows.stop // height)),
            range(columns.start // width, -(-columns.stop // width)),
        )
        for plane, row, column in product(range(planes), *touched):
            index = (plane * down + row) * across + column
            page.parent.filehandle.seek(page.dataoffsets[index])
            raw = page.parent.filehandle.read(page.databytecounts[index])
            block, (_, _, top, left, _), _ = page.decode(raw, index, jpegtables=page.jpegtables)
            place = pixels[top - rows.start :, left - columns.start :, plane : plane + block.shape[3]]
            place[: block.shape[1], : block.shape[2]] = block[0, : place.shape[0], : place.shape[1]]
        return pixels

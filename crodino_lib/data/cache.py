"""Arrays on disk that are filled scene by scene, go on after an interruption, and are spot-checked on opening."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from crodino_lib.data.image_files import DAMAGED
from crodino_lib.data.sample import Sample
from crodino_lib.io import atomic_write

Layout = dict[str, tuple[tuple[int, ...], np.dtype]]
"""Entry of a sample -> shape, scenes first, and type of its array."""

BLOCK_BYTES, BLOCKS = 1 << 18, 64  # what is checked of a file: all of a small one, 16 MB spread over a large one
SCENES_PER_FLUSH = 64


def open_arrays(folder: Path, layout: Layout) -> dict[str, np.ndarray] | None:
    """The arrays in ``folder``, mapped so that writing to them never reaches the files.

    Returns:
        None where one is absent, truncated, of another shape or type, or not what was written.
    """
    arrays = {}
    try:
        sums = json.loads((folder / "whole.json").read_text())
        for name, (shape, dtype) in layout.items():
            path = folder / f"{name}.npy"
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            if (array.shape, array.dtype, sums[name]) != (shape, dtype, checksum(path)):
                return None
            arrays[name] = np.asarray(array)
    except (*DAMAGED, KeyError, TypeError):
        return None
    return arrays


def fill_arrays(folder: Path, layout: Layout, read: Callable[[Sequence[int]], Iterator[Sample]]) -> int:
    """Fill the arrays in ``folder``; scenes that an interrupted call has written are not read again.

    Args:
        folder: held alone by the caller (``files.locked``).
        layout: what to write.
        read: indices of scenes -> their samples, in that order.

    Returns:
        How many scenes were read.

    Raises:
        ValueError: a scene is damaged; what was written is removed, as mended data has another folder.
        OSError: the disk cannot hold the arrays.
    """
    count = next(iter(layout.values()))[0][0]
    _check_space(folder, layout)
    parts = _parts(folder, {**layout, "done": ((count,), np.dtype(bool))})
    done = parts.pop("done")
    missing = np.flatnonzero(~done).tolist()
    samples = read(missing)
    try:
        for start in range(0, len(missing), SCENES_PER_FLUSH):
            indices = missing[start : start + SCENES_PER_FLUSH]
            for index in indices:
                sample = next(samples)
                for name, array in parts.items():
                    array[index] = sample[name]
            for array in parts.values():
                array.flush()
            done[indices] = True  # only now: what is marked as done is on disk
            done.flush()
    except ValueError:
        _remove_parts(folder)
        raise
    finally:
        samples.close()
    for name in layout:
        (folder / f"{name}.part").replace(folder / f"{name}.npy")
    with atomic_write(folder / "whole.json") as path:
        path.write_text(json.dumps({name: checksum(folder / f"{name}.npy") for name in layout}))
    _remove_parts(folder)
    return len(missing)


def checksum(path: Path) -> int:
    """CRC-32 of a file's size and of blocks spread evenly over it, its ends among them."""
    size = path.stat().st_size
    total = zlib.crc32(str(size).encode())
    starts = np.linspace(0, max(0, size - BLOCK_BYTES), BLOCKS).astype(int)
    if size <= BLOCKS * BLOCK_BYTES:
        starts = np.arange(0, size, BLOCK_BYTES)
    with path.open("rb") as file:
        for start in starts.tolist():
            file.seek(start)
            total = zlib.crc32(file.read(BLOCK_BYTES), total)
    return total


def _parts(folder: Path, layout: Layout) -> dict[str, np.memmap]:
    """The half-filled arrays of an interrupted call where all are there, else new ones."""
    try:
        sizes = {name: (folder / f"{name}.part").stat().st_size for name in layout}
        parts = {name: open_memmap(folder / f"{name}.part", mode="r+") for name in layout}
        whole = all(sizes[name] == parts[name].offset + parts[name].nbytes for name in layout)  # mapping extends a file
        if whole and all((parts[name].shape, parts[name].dtype) == expected for name, expected in layout.items()):
            return parts
    except DAMAGED:
        pass
    _remove_parts(folder)
    parts = {}
    for name, (shape, dtype) in layout.items():
        parts[name] = open_memmap(folder / f"{name}.part", mode="w+", dtype=dtype, shape=shape)
        with (folder / f"{name}.part").open("r+b") as file:  # a disk that fills up later would kill the process
            os.posix_fallocate(file.fileno(), 0, parts[name].offset + parts[name].nbytes)
    return parts


def _remove_parts(folder: Path) -> None:
    for part in folder.glob("*.part"):
        part.unlink()


def _check_space(folder: Path, layout: Layout) -> None:
    need = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in layout.values())
    held = sum(part.stat().st_blocks * 512 for part in folder.glob("*.part"))
    if need - held > (free := shutil.disk_usage(folder).free):
        raise OSError(
            f"the decoded scenes need {need / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; choose a "
            "smaller size, fewer scenes with limit and scenes, or another folder with CRODINO_CACHE"
        )

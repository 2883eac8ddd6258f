"""The datasets a study can name. A new one is its file, its test, one line here and one row of prose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crodino_lib.config import Strict
from crodino_lib.data.folder import FolderOptions, open_folder
from crodino_lib.data.nyuv2 import open_nyu13, open_nyu40
from crodino_lib.data.rooms.dataset import open_rooms
from crodino_lib.data.sample import SceneDataset


@dataclass(frozen=True)
class DatasetEntry:
    """One line of ``crodino list datasets``.

    Attributes:
        open: ``DataConfig -> SceneDataset``.
        says: what it is, in one sentence.
        needs_root: whether the user points at a copy on disk.
        options: what of it can be chosen.
    """

    open: Callable[..., SceneDataset]
    says: str
    needs_root: bool = True
    options: type[Strict] = Strict


DATASETS: dict[str, DatasetEntry] = {
    "rooms": DatasetEntry(
        open_rooms, "rendered rooms: rgb, depth and thermal, with known factors; built in", needs_root=False
    ),
    "nyu13": DatasetEntry(open_nyu13, "NYU Depth v2, 13 classes: rgb and depth"),
    "nyu40": DatasetEntry(open_nyu40, "NYU Depth v2, 40 classes: rgb and depth"),
    "folder": DatasetEntry(open_folder, "your own folder with a dataset.toml or a known layout", options=FolderOptions),
}

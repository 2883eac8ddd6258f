"""The datasets a study can name. A new one is its file, its test, one line here and one row of prose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crodino_lib.config import Strict
from crodino_lib.data.folder import FolderOptions, open_folder
from crodino_lib.data.sample import SceneDataset
from crodino_lib.datasets.kp import open_kp
from crodino_lib.datasets.mfnet import MFNetOptions, open_mfnet
from crodino_lib.datasets.midair import MidAirOptions, open_midair
from crodino_lib.datasets.nyu_mat import NyuOptions
from crodino_lib.datasets.nyuv2 import open_nyu13, open_nyu40
from crodino_lib.datasets.potsdam import PotsdamOptions, open_potsdam
from crodino_lib.datasets.pst900 import Pst900Options, open_pst900
from crodino_lib.rooms.dataset import open_rooms


@dataclass(frozen=True)
class DatasetEntry:
    """One line of ``crodino list datasets``.

    Attributes:
        open: ``DataConfig -> SceneDataset``.
        description: what it is, in one sentence.
        needs_root: whether the user points at a copy on disk.
        options: what of it can be chosen.
    """

    open: Callable[..., SceneDataset]
    description: str
    needs_root: bool = True
    options: type[Strict] = Strict


DATASETS: dict[str, DatasetEntry] = {
    "rooms": DatasetEntry(
        open_rooms, "rendered rooms: rgb, depth and thermal, with known factors; built in", needs_root=False
    ),
    "nyu13": DatasetEntry(open_nyu13, "NYU Depth v2, 13 classes: rgb and depth", options=NyuOptions),
    "nyu40": DatasetEntry(open_nyu40, "NYU Depth v2, 40 classes: rgb and depth", options=NyuOptions),
    "potsdam": DatasetEntry(
        open_potsdam, "ISPRS Potsdam: aerial pictures at 5 cm, infrared and heights; 38 tiles", options=PotsdamOptions
    ),
    "midair": DatasetEntry(
        open_midair, "Mid-Air: rendered flights of a drone, 14 or 7 classes: rgb and depth", options=MidAirOptions
    ),
    "mfnet": DatasetEntry(
        open_mfnet, "MFNet: streets by day and night, 9 or 8 classes: rgb and thermal", options=MFNetOptions
    ),
    "pst900": DatasetEntry(
        open_pst900, "PST900: tunnels and mines, 5 classes: rgb, thermal and, if wanted, depth", options=Pst900Options
    ),
    "kp": DatasetEntry(open_kp, "KP day-night (KAIST): streets, 19 classes of Cityscapes: rgb and thermal"),
    "folder": DatasetEntry(open_folder, "your own folder with a dataset.toml or a known layout", options=FolderOptions),
}

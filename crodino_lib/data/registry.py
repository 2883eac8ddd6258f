"""List the datasets a study can name. A new one is its file, its test, one line here and one row of prose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crodino_lib.config import DataConfig, Strict, choose, load_object

if TYPE_CHECKING:
    from crodino_lib.data.sample import SceneDataset


@dataclass(frozen=True)
class DatasetEntry:
    """One line of ``crodino list datasets``; readers are imported when they are needed.

    Attributes:
        opener: ``module:function`` of the function ``DataConfig -> SceneDataset``.
        description: the dataset in one sentence.
        options_class: ``module:class`` of the options, ``Strict`` for none.
        needs_root: whether the user points at a copy on disk.
    """

    opener: str
    description: str
    options_class: str = "crodino_lib.config:Strict"
    needs_root: bool = True

    @property
    def options(self) -> type[Strict]:
        """The class of the dataset's options."""
        return load_object(self.options_class)


DATASETS: dict[str, DatasetEntry] = {
    "rooms": DatasetEntry(
        "crodino_lib.rooms.dataset:open_rooms",
        "rendered rooms: rgb, depth and thermal, with known factors; built in",
        needs_root=False,
    ),
    "nyu13": DatasetEntry(
        "crodino_lib.datasets.nyuv2:open_nyu13",
        "NYU Depth v2, 13 classes: rgb and depth",
        "crodino_lib.datasets.nyu_mat:NyuOptions",
    ),
    "nyu40": DatasetEntry(
        "crodino_lib.datasets.nyuv2:open_nyu40",
        "NYU Depth v2, 40 classes: rgb and depth",
        "crodino_lib.datasets.nyu_mat:NyuOptions",
    ),
    "potsdam": DatasetEntry(
        "crodino_lib.datasets.potsdam:open_potsdam",
        "ISPRS Potsdam: aerial pictures at 5 cm, infrared and heights; 38 tiles",
        "crodino_lib.datasets.potsdam:PotsdamOptions",
    ),
    "midair": DatasetEntry(
        "crodino_lib.datasets.midair:open_midair",
        "Mid-Air: rendered flights of a drone, 14 or 7 classes: rgb and depth",
        "crodino_lib.datasets.midair:MidAirOptions",
    ),
    "mfnet": DatasetEntry(
        "crodino_lib.datasets.mfnet:open_mfnet",
        "MFNet: streets by day and night, 9 or 8 classes: rgb and thermal",
        "crodino_lib.datasets.mfnet:MFNetOptions",
    ),
    "pst900": DatasetEntry(
        "crodino_lib.datasets.pst900:open_pst900",
        "PST900: tunnels and mines, 5 classes: rgb, thermal and, as an option, depth",
        "crodino_lib.datasets.pst900:Pst900Options",
    ),
    "kp": DatasetEntry(
        "crodino_lib.datasets.kp:open_kp", "KP day-night (KAIST): streets, 19 classes of Cityscapes: rgb and thermal"
    ),
    "folder": DatasetEntry(
        "crodino_lib.data.folder:open_folder",
        "your own folder with a dataset.toml or a known layout",
        "crodino_lib.data.folder:FolderOptions",
    ),
}


def check_data(config: DataConfig) -> None:
    """Check the dataset's name and options before anything is opened.

    Raises:
        ValueError: an unknown dataset or option.
    """
    entry = DATASETS[choose(config.dataset, DATASETS, "dataset")]
    if config.options:
        entry.options.parse(config.options, f"options of {config.dataset}")


def open_dataset(config: DataConfig) -> SceneDataset:
    """Open a dataset: render it where it is the built-in one, resolve every file where it lies on disk.

    Raises:
        ValueError: an unknown dataset or option, or a dataset on disk without root.
    """
    check_data(config)
    entry = DATASETS[config.dataset]
    if entry.needs_root and not config.root:
        raise ValueError(f"dataset {config.dataset!r} needs root: the folder of your copy of it")
    return load_object(entry.opener)(config)

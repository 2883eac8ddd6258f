"""Look up, check and open the datasets that ``datasets.toml`` lists."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crodino_lib.config import DataConfig
from crodino_lib.settings import Strict, choose, load_object

if TYPE_CHECKING:
    from crodino_lib.data.sample import SceneDataset


@dataclass(frozen=True)
class DatasetEntry:
    """An entry of ``datasets.toml``; its reader is imported when it is needed."""

    opener: str  # module:function, DataConfig -> SceneDataset
    description: str
    options_class: str = "config:Strict"  # module:class, this one for none
    needs_root: bool = True  # whether the user points at a copy on disk
    sensors: tuple[str, ...] = ()  # those that it can have; empty where the copy decides
    optional: tuple[str, ...] = ()  # those of them that an option of their name adds

    @property
    def options(self) -> type[Strict]:
        """The class of the dataset's options."""
        return load_object(f"crodino_lib.{self.options_class}")


_TABLE = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text())
DATASETS = {name: DatasetEntry(**entry) for name, entry in _TABLE.items()}


def check_data(config: DataConfig, sensors: Iterable[str] = (), opening: bool = False) -> DatasetEntry:
    """Return the dataset's entry; ValueError for a wrong name, option, sensor or root, which only ``opening`` needs."""
    entry = DATASETS[choose(config.dataset, DATASETS, "dataset")]
    for sensor in sensors if entry.sensors else ():
        choose(sensor, entry.sensors, f"sensor of {config.dataset}")
        if sensor in entry.optional and not config.options.get(sensor):
            raise ValueError(f"sensor {sensor!r} of {config.dataset} needs the option {sensor}=true")
    if config.root and not entry.needs_root:
        raise ValueError(f"dataset {config.dataset!r} is built in and takes no root, given {config.root!r}")
    if opening and entry.needs_root and not config.root:
        raise ValueError(f"dataset {config.dataset!r} needs root, the folder of your copy; nothing is downloaded")
    if config.options:
        entry.options.parse(config.options, f"options of {config.dataset}")
    return entry


def open_dataset(config: DataConfig) -> SceneDataset:
    """Open a dataset: render it where it is the built-in one, resolve every file where it lies on disk."""
    dataset = load_object(f"crodino_lib.{check_data(config, opening=True).opener}")(config)
    count = len(dataset.ids("train"))
    config.check_labelled(min(count, config.scenes[0]) if config.limit else count, len(dataset.card.classes))
    return dataset

"""Open a study: its data, its runs, its folder. Every notebook's set-up cell makes one."""

import json
from collections.abc import Iterable
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from crodino_lib.config import TRAINING_VERSION, DataConfig, RunConfig, StudyConfig, find_study, home
from crodino_lib.data.registry import DATASETS, check_data, open_dataset
from crodino_lib.data.sample import DatasetCard, SceneDataset, Scenes
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.io import atomic_write, read_json
from crodino_lib.methods.base import Method
from crodino_lib.methods.registry import (
    METHODS,
    build_method,
    check_methods,
    check_run,
    parse_method,
    teacher_of,
    teachers,
)
from crodino_lib.settings import choose, load_object
from crodino_lib.study.dials import check_dials
from crodino_lib.study.notebooks import notebook_parameters
from crodino_lib.study.runs import Run, fetch_run, finished_run, run_folder


class LazyScenes(dict):
    """Split -> scenes, each loaded when first asked for."""

    def __init__(self, dataset: SceneDataset, config: DataConfig):
        super().__init__()
        self.dataset, self.config = dataset, config

    def __missing__(self, split: str) -> Scenes:
        sensors = tuple(self.dataset.card.sensors)
        return self.setdefault(split, load_scenes(self.dataset, split, self.config, sensors))


def with_own_names(config: StudyConfig) -> StudyConfig:
    """Return the settings with what the user's own dataset calls itself and its sensors, where neither was given."""
    entry, found = DATASETS[config.data.dataset], {}
    if entry.sensors or not config.data.root:
        return config
    name, sensors = load_object("crodino_lib.data.folder:own_names")(config.data)
    if not config.study:
        found["study"] = f"{name}-{config.profile}"
    if "sensors" not in config.given and not set(config.sensors) <= set(sensors):
        found["sensors"] = sensors[:2]
    return StudyConfig.parse(config.flat() | found) if found else config


class Study:
    """A study's settings, data and runs.

    Args:
        config: the study's settings.
        results: folder that holds study folders; ``results/local`` where none is given.

    Raises:
        ValueError: an unknown method, dataset or option, or the results folder belongs to a study with other settings.
    """

    def __init__(self, config: StudyConfig, results: Path | None = None):
        check_methods(config.methods, config.teacher)
        choose(config.teacher, teachers(), "teacher")
        check_data(config.data, config.sensors)
        check_dials(config.dials)
        self.config = config = with_own_names(config)
        self.folder = (results or home() / "results" / "local") / config.name
        self._claim_folder()

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> "Study":
        """Return the study that a notebook's parameters describe. Call it with ``globals()`` in the set-up cell.

        Raises:
            ValueError: a parameter, typed in the cell or injected by papermill, that does not exist or is not allowed.
        """
        pd.set_option("display.max_colwidth", None)  # tables of notebooks are read: no text is cut
        return cls(StudyConfig.parse(notebook_parameters(namespace)))

    @classmethod
    def open(cls, name: str, root: str = "") -> "Study":
        """Return a study that was begun before.

        Args:
            name: its folder in ``results/local``, or the path of a folder with a ``study.json``.
            root: folder of your copy of its dataset, which a study does not store; empty for the built-in one.

        Raises:
            ValueError: no such study; proposes the nearest.
        """
        folder = find_study(name)
        stored = read_json(folder / "study.json")
        settings = {key: value for key, value in stored.items() if key in StudyConfig.settings()}
        return cls(StudyConfig.parse({**settings, "study": folder.name, "root": root}), folder.parent)

    def on(self, dataset: str, root: str, **settings: Any) -> "Study":
        """Return a study on other data, with the same settings but for those given, in a folder beside this study's."""
        data = {"dataset": dataset, "root": root, "options": {}, "study": f"{self.config.name}-{dataset}"}
        return Study(StudyConfig.parse({**self.config.flat(), **data, **settings}), self.folder.parent)

    def _claim_folder(self) -> None:
        mine = {"training_version": TRAINING_VERSION} | self.config.identity()
        mine, file = json.loads(json.dumps(mine)), self.folder / "study.json"  # as it reads back: lists, not tuples
        # A name that starts with a dot is half a file: another process claims the folder too, or one was killed at it.
        others = {path.name for path in self.folder.glob("[!.]*")} - {file.name}
        if not file.exists() and others:
            raise ValueError(
                f"the results folder {self.folder} is not empty and holds no study.json; choose another name"
            )
        theirs = read_json(file) if file.exists() else {}
        if theirs == mine:
            return
        if others:
            differing = [name for name in mine | theirs if theirs.get(name) != mine.get(name)]
            changes = "; ".join(f"{name} was {theirs.get(name)!r}, now {mine.get(name)!r}" for name in differing)
            raise ValueError(
                f"the results folder {self.folder} belongs to another study: {changes}. "
                "Give this study a name of its own (study = 'my-study'), restore the settings, or move the folder"
            )
        with atomic_write(file) as path:
            path.write_text(json.dumps(mine, indent=1))

    def teaching(self) -> "Study":
        """Return the study whose networks a notebook of a tour shows: that of ``make checkpoints`` where it is there.

        A tour's own networks have learned little. Another profile, dataset or pair of sensors shows its own.
        """
        base = self.folder.parent / "rooms-dials"
        tour = self.config.profile == "quick" and self.config.data.dataset == "rooms"
        if not tour or not (base / "study.json").exists():
            return self
        trained = Study.open(str(base))
        runs = [run for run in trained.finished()[0] if run.config.seed == 0]  # from records: nothing is rendered
        whole = {run.name for run in runs if any(run.folder.glob("student-*.safetensors"))}
        return (
            trained if {"baseline", "crodino-kd"} <= whole and trained.config.sensors == self.config.sensors else self
        )

    @cached_property
    def dataset(self) -> SceneDataset:
        """The dataset, opened: rendered where it is the built-in one, every file resolved where it lies on disk."""
        return open_dataset(self.config.data)

    @property
    def card(self) -> DatasetCard:
        """The dataset's card, its sensors as networks see them."""
        if not self.config.data.encodings:
            return self.dataset.card
        return load_object("crodino_lib.datasets.encodings:encoded")(self.dataset.card, self.config.data)

    @cached_property
    def scenes(self) -> LazyScenes:
        """Split -> scenes in memory, with all of the dataset's sensors."""
        return LazyScenes(self.dataset, self.config.data)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the dataset."""
        return self.dataset.fingerprint()

    def run_config(
        self, method: str, sensors: Iterable[str] | None = None, seed: int = 0, settings: dict | None = None
    ) -> RunConfig:
        """Return the settings of one run of this study; see ``run``."""
        config = self._plan(method, tuple(sensors or self.config.sensors), seed, settings or {})
        check_run(config, self.card)
        return config

    def _plan(self, name: str, sensors: tuple[str, ...], seed: int, settings: dict) -> RunConfig:
        method, named = parse_method(name)
        teacher, teacher_sensors = teacher_of(method, sensors, self.config.sensors, self.config.teacher)
        own = {"method": method, "sensors": sensors, "seed": seed, "settings": named | settings}
        shared = {"data": self.config.data, "model": self.config.model, "train": self.config.train}
        return RunConfig.parse(own | shared | {"teacher": teacher, "teacher_sensors": teacher_sensors})

    def grid(self) -> list[RunConfig]:
        """Return every run of the study: two-sensor methods once a seed, single-sensor ones once a seed and sensor."""
        both, configs = self.config.sensors, []
        for seed, name in product(self.config.seed_list, self.config.methods):
            alone = METHODS[parse_method(name)[0]].build.sensor_count == 1
            configs += [self._plan(name, sensors, seed, {}) for sensors in ([both[:1], both[1:]] if alone else [both])]
        return configs

    def run(
        self, method: str, sensors: Iterable[str] | None = None, seed: int = 0, settings: dict | None = None
    ) -> Run:
        """Return a finished run: from its folder, or trained now.

        Args:
            method: name of a method, or ``METHOD:VARIANT``.
            sensors: sensors it trains with; the study's where none are given.
            seed: seed of weights, order and augmentation.
            settings: the method's own settings, where not default.
        """
        return self.fetch(self.run_config(method, sensors, seed, settings))

    def fetch(self, config: RunConfig) -> Run:
        """Return the finished run of ``config``: from its folder, or trained now."""
        check_run(config, self.card)
        return fetch_run(config, self.folder / "runs", self.fingerprint, self.card, self.scenes)

    def is_finished(self, config: RunConfig) -> bool:
        """Return whether the run of ``config`` needs no training."""
        return finished_run(run_folder(self.folder / "runs", config, self.fingerprint)) is not None

    def runs(self) -> list[Run]:
        """Return every run of the grid, trained where missing."""
        return [self.fetch(config) for config in self.grid()]

    def finished(self) -> tuple[list[Run], list[RunConfig]]:
        """Return every finished run in the folder, and the runs of the grid that are missing; needs no data."""
        files, but = sorted(self.folder.glob("runs/*/*/*/run.json")), {"data": {"root"}}
        runs = [finished_run(file.parent, students=False) for file in files]
        there = [run.config.model_dump(exclude=but) for run in runs]
        return runs, [config for config in self.grid() if config.model_dump(exclude=but) not in there]

    def untrained(self, method: str, sensors: Iterable[str] | None = None, seed: int = 0) -> Method:
        """Return a method with its starting weights: the null model of every picture."""
        network = build_method(self.run_config(method, sensors, seed), self.card).eval()
        network.export()
        return network

    @property
    def figures(self) -> Path:
        """Folder of the figures that the notebooks save."""
        return self.folder / "figures"

    def save_table(self, table: pd.DataFrame, stem: str) -> None:
        """Write ``tables/<stem>.csv``, atomically."""
        with atomic_write(self.folder / "tables" / f"{stem}.csv") as path:
            table.to_csv(path, index=False, float_format="%.6g")

    def caveat(self) -> str:
        """Return the sentence about the profile that is printed with every result."""
        return self.config.caveat()

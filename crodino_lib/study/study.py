"""A study in use: its data, its runs, its folder. What every notebook's set-up cell makes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from crodino_lib.config import ENCODINGS, RunConfig, StudyConfig, choose, home, profiles
from crodino_lib.data.encodings import encoded
from crodino_lib.data.registry import DATASETS
from crodino_lib.data.sample import DatasetCard, SceneDataset, Scenes
from crodino_lib.data.scene_cache import load_scenes
from crodino_lib.io import atomic_write, read_json
from crodino_lib.methods.base import Method
from crodino_lib.methods.registry import METHODS, build_method, check_run
from crodino_lib.study.parameters import notebook_parameters
from crodino_lib.study.runs import Run, fetch_run, finished_run, run_folder


class LazyScenes(Mapping):
    """Split -> scenes, each loaded when first asked for."""

    def __init__(self, dataset: SceneDataset, config: StudyConfig, sensors: tuple[str, ...]):
        self._dataset, self._config, self._sensors = dataset, config.data_config(), sensors
        self._loaded: dict[str, Scenes] = {}

    def __getitem__(self, split: str) -> Scenes:
        choose(split, self._dataset.card.splits, f"split of {self._dataset.card.name}")
        if split not in self._loaded:
            self._loaded[split] = load_scenes(self._dataset, split, self._config, self._sensors)
        return self._loaded[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dataset.card.splits)

    def __len__(self) -> int:
        return len(self._dataset.card.splits)


class Study:
    """A study's settings, data and runs.

    Args:
        config: the study's settings.
        results: folder that holds study folders; ``results/local`` where none is given.

    Raises:
        ValueError: the results folder belongs to a study with other settings.
    """

    def __init__(self, config: StudyConfig, results: Path | None = None):
        self.config = config
        self.folder = (results or home() / "results" / "local") / config.name
        self._claim_folder()

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Study:
        """The study that a notebook's parameters describe. Call it with ``globals()`` in the set-up cell.

        Raises:
            ValueError: a parameter, typed in the cell or injected by papermill, that does not exist or is not allowed.
        """
        return cls(StudyConfig.parse(notebook_parameters(namespace)))

    @classmethod
    def open(cls, name: str, root: str = "") -> Study:
        """A study that was begun before, by the name of its folder in ``results/local``.

        Args:
            name: the folder's name.
            root: where the copy of its dataset lies, which a study does not remember; empty for the built-in one.

        Raises:
            ValueError: no such study; proposes the nearest.
        """
        results = home() / "results" / "local"
        begun = sorted(file.parent.name for file in results.glob("*/study.json"))
        if not begun:
            raise ValueError(f"there is no study in {results} yet; begin one: crodino study")
        stored = read_json(results / choose(name, begun, "study") / "study.json")
        if root and not DATASETS[stored["dataset"]].needs_root:
            raise ValueError(f"root {root!r}: study {name} is on the built-in {stored['dataset']}, which has no folder")
        given = profiles()[stored["profile"]]  # what the profile says already was not changed
        settings = {k: v for k, v in stored.items() if k in StudyConfig.model_fields and given.get(k) != v}
        return cls(StudyConfig.parse({**settings, "study": name, "root": root}))

    def on(self, dataset: str, root: str, options: dict[str, Any] | None = None) -> Study:
        """The same settings on other data, in a folder of its own beside this study's."""
        data = {"dataset": dataset, "root": root, "options": options or {}, "study": f"{self.config.name}-{dataset}"}
        return Study(StudyConfig.parse({**self.config.model_dump(), **data}), self.folder.parent)

    def _claim_folder(self) -> None:
        mine = json.loads(json.dumps(self.config.identity()))  # as it reads back: lists, not tuples
        file = self.folder / "study.json"
        # What starts with a dot is half a file: another process claims the folder too, or one was killed at it.
        found = {path.name for path in self.folder.glob("[!.]*")}
        if file.exists():
            theirs = read_json(file)
            differing = {k: (theirs.get(k), mine.get(k)) for k in mine | theirs if theirs.get(k) != mine.get(k)}
            if differing and found - {file.name}:
                told = "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in differing.items())
                raise ValueError(
                    f"the results folder {self.folder} belongs to another study: {told}. "
                    "Give this one a name of its own (study = 'my-study'), go back to them, or remove the folder"
                )
            if not differing:
                return
        elif found:
            raise ValueError(
                f"the results folder {self.folder} is not empty and holds no study.json; choose another name"
            )
        with atomic_write(file) as path:
            path.write_text(json.dumps(mine, indent=1))

    @cached_property
    def dataset(self) -> SceneDataset:
        """The dataset, opened: rendered where it is the built-in one, every file resolved where it lies on disk."""
        entry = DATASETS[self.config.dataset]
        if entry.needs_root and not self.config.root:
            raise ValueError(f"dataset {self.config.dataset!r} needs root: the folder of your copy of it")
        return entry.open(self.config.data_config())

    @property
    def card(self) -> DatasetCard:
        """What the dataset says about itself, its sensors as networks see them."""
        return encoded(self.dataset.card, self.config.data_config())

    @cached_property
    def scenes(self) -> LazyScenes:
        """Split -> scenes in memory, with all of the dataset's sensors."""
        return LazyScenes(self.dataset, self.config, tuple(self.card.sensors))

    @cached_property
    def fingerprint(self) -> str:
        """The dataset's."""
        return self.dataset.fingerprint()

    def run_config(self, method: str, sensors: Iterable[str], seed: int, settings: dict | None = None) -> RunConfig:
        """Settings of one run of this study."""
        config = self.config.run_config(method, sensors, seed, settings)
        check_run(config, self.card)
        return config

    def grid(self) -> list[RunConfig]:
        """Every run of the study: two-sensor methods once a seed, single-sensor ones once a seed and sensor."""
        configs = []
        for seed in self.config.seed_list:
            for method in self.config.methods:
                alone = METHODS[method].build.sensor_count == 1
                for sensors in [(s,) for s in self.config.sensors] if alone else [self.config.sensors]:
                    configs.append(self.run_config(method, sensors, seed))
        return configs

    def run(
        self, method: str, sensors: Iterable[str] | None = None, seed: int = 0, settings: dict | None = None
    ) -> Run:
        """A finished run: from its folder, or trained now.

        Args:
            method: a row of the table.
            sensors: sensors it trains with; the study's where none are given.
            seed: seed of weights, order and augmentation.
            settings: the method's own settings, where not default.
        """
        return self.fetch(self.run_config(method, sensors or self.config.sensors, seed, settings))

    def fetch(self, config: RunConfig) -> Run:
        """The finished run of ``config``: from its folder, or trained now."""
        return fetch_run(config, self.folder / "runs", self.fingerprint, self.card, self.scenes)

    def is_finished(self, config: RunConfig) -> bool:
        """Whether the run of ``config`` needs no training."""
        return finished_run(self._folder_of(config)) is not None

    def runs(self) -> list[Run]:
        """Every run of the grid, trained where missing."""
        return [self.fetch(config) for config in self.grid()]

    def finished(self) -> tuple[list[Run], list[RunConfig]]:
        """The runs of the grid that are finished, and those that are missing."""
        found = [(config, finished_run(self._folder_of(config))) for config in self.grid()]
        return [run for _, run in found if run], [config for config, run in found if not run]

    def untrained(self, row: str, sensors: Iterable[str] | None = None, seed: int = 0) -> Method:
        """A method with its starting weights: the null model of every picture."""
        method = build_method(self.run_config(row, sensors or self.config.sensors, seed), self.card).eval()
        method.export()
        return method

    @property
    def figures(self) -> Path:
        """Folder of the figures that the notebooks save."""
        return self.folder / "figures"

    def save_table(self, table: pd.DataFrame, stem: str) -> None:
        """Write ``tables/<stem>.csv``, atomically."""
        with atomic_write(self.folder / "tables" / f"{stem}.csv") as path:
            table.to_csv(path, index=False, float_format="%.6g")

    def caveat(self) -> str:
        """The warning that belongs on every page: what this profile's numbers are good for."""
        profile = profiles()[self.config.profile]
        given = {name: getattr(self.config, name) for name in profile if hasattr(self.config, name)}
        changed = [f"{name} {value}" for name, value in given.items() if value not in (None, profile[name])]
        seen = {name: getattr(self.config, name) for name in ("options", *ENCODINGS)}
        changed += [
            f"{k} {v}"
            for k, v in seen.items()
            if v != StudyConfig.model_fields[k].get_default(call_default_factory=True)
        ]
        if changed:  # whatever the profile promises, this is not it
            return f"Profile {self.config.profile}, changed: {', '.join(changed)}."
        return f"Profile {self.config.profile}: {profile['description']}."

    def _folder_of(self, config: RunConfig) -> Path:
        return run_folder(self.folder / "runs", config, self.fingerprint)

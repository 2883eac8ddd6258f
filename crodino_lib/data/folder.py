"""A folder of your own: pictures of every sensor, labels and split lists, laid out as CMX and DFormer do.

::

    root/dataset.toml   RGB/0001.jpg   Depth/0001.png   Label/0001.png   train.txt   test.txt

``dataset.toml`` says what the files mean; its keys are the fields of ``FolderSpec``. Known layouts are presets and
need none::

    name = "mine"
    classes = ["wall", "floor", "chair"]
    rgb = { dir = "RGB" }
    label = { dir = "Label", offset = -1 }
    splits = { train = "train.txt", test = "test.txt" }
    [sensors.depth]
    dir = "Depth"
    kind = "u16"
    scale = 0.001
    unit = "m"
    invalid = [0]
    mean = [2.8]
    std = [1.4]
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from crodino_lib.config import DataConfig, Names, Strict, choose, nearest
from crodino_lib.data import image_files
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles
from crodino_lib.data.layouts import LayoutError, existing_root, nested_root
from crodino_lib.data.sample import IGNORE, RGB, DatasetCard, Sample, SceneDataset, Sensor
from crodino_lib.data.splits import (
    complete_scenes,
    disjoint,
    read_list,
    splits_by_folder,
    splits_by_scene,
    with_val,
)

PRESETS = Path(__file__).with_name("presets.toml")

# Chosen greedily for the largest CIELAB distance to all before, with normal vision and three simulated deficits of it:
# the first 13 are at least 20 apart in each, all 40 at least 9
# fmt: off
PALETTE = (
    "#a0a0a0", "#a00000", "#80ff80", "#800080", "#0080ff", "#ffa0ff", "#e08000", "#ffe040", "#e02060", "#800040",
    "#a0e0a0", "#c0a060", "#a060a0", "#6040c0", "#e0e0ff", "#208060", "#a06000", "#8080e0", "#c0c040", "#406020",
    "#c00080", "#a0c0a0", "#00a040", "#e080c0", "#60ffe0", "#404020", "#e06040", "#604060", "#804040", "#00c0e0",
    "#406080", "#80e080", "#ffc0c0", "#8040a0", "#e08080", "#c060c0", "#a080a0", "#c06080", "#806040", "#0040a0",
)
# fmt: on


class FolderSpec(Strict):
    """What ``dataset.toml`` says."""

    name: str = Field(pattern=r"^[\w.-]+$")
    title: str = ""
    classes: Names = Field(min_length=2, max_length=IGNORE)
    palette: Names = Field((), description="one '#rrggbb' per class; empty chooses")
    rgb: ImageFiles | None = Field(None, description="pictures in colour, where there are any")
    sensors: dict[str, SensorFiles] = Field(default_factory=dict)
    label: LabelFiles
    splits: dict[str, str] = Field(
        default_factory=dict,
        description="split -> list file; val is taken from train where it is not given; without any, the sub-folders "
        "train, val and test are the splits, and where there are none either, whole runs of consecutive ids are drawn",
    )
    val_fraction: float = Field(0.12, gt=0, lt=1, description="part of train that becomes val where no list is given")
    val_run: int | None = Field(
        None, ge=2, description="longest run of consecutive ids that stays whole when val is taken from train"
    )
    test_fraction: float = Field(0.3, gt=0, lt=1, description="part that becomes test where nothing says which")
    homepage: str = ""
    citation: str = ""
    notes: str = ""
    licensed: bool = True

    @property
    def pictures(self) -> dict[str, ImageFiles]:
        """Entry of a sample -> its files: rgb where there is one, the other sensors, the label."""
        return ({"rgb": self.rgb} if self.rgb else {}) | self.sensors | {"label": self.label}

    @field_validator("palette")
    @classmethod
    def _palette(cls, palette: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        count = len(info.data.get("classes", palette))
        palette = palette or PALETTE[:count]
        if len(palette) != count or not all(re.fullmatch("#[0-9a-fA-F]{6}", colour) for colour in palette):
            raise ValueError(f"expected one '#rrggbb' for each of the {count} classes")
        return palette

    @field_validator("sensors")
    @classmethod
    def _sensors(cls, sensors: dict[str, SensorFiles], info: ValidationInfo) -> dict[str, SensorFiles]:
        for name, files in sensors.items():
            if name in ("rgb", "label", "id") or name.endswith("_valid"):
                raise ValueError(f"{name!r} cannot be the name of a sensor here; expected such as 'depth' or 'thermal'")
            if {len(files.mean), len(files.std)} - {0, files.channels}:
                raise ValueError(f"mean and std of {name} must be {files.channels} number(s) each, one per channel")
        if len(sensors) + (info.data.get("rgb") is not None) < 2:
            raise ValueError("a study needs two sensors: rgb and one more, or two others")
        return sensors

    @field_validator("label")
    @classmethod
    def _label(cls, label: LabelFiles, info: ValidationInfo) -> LabelFiles:
        count = len(info.data.get("classes", ()))
        if wrong := [value for value in label.map.values() if value not in (*range(count), IGNORE)]:
            raise ValueError(f"map leads to {wrong[:5]}, expected classes 0..{count - 1} or {IGNORE} (ignore)")
        return label

    @field_validator("splits")
    @classmethod
    def _splits(cls, splits: dict[str, str]) -> dict[str, str]:
        if splits and (missing := {"train", "test"} - set(splits)):
            raise ValueError(f"the list file for {' and '.join(sorted(missing))} is not given")
        if strange := [name for name in splits if name not in ("train", "val") and not name.startswith("test")]:
            raise ValueError(f"{strange[0]!r} is no split: splits are train, val, test and others named test...")
        return splits


class FolderOptions(Strict):
    """What can be chosen of a folder."""

    preset: str = Field(
        "",
        description=f"a known layout instead of a dataset.toml: {', '.join(tomllib.loads(PRESETS.read_text()))}",
    )


def open_folder(config: DataConfig, progress: bool = True) -> SceneDataset:
    """Open the folder ``config.root`` as its ``dataset.toml``, or the preset that is named, says.

    Args:
        config: names the folder; its options are ``FolderOptions``.
        progress: as for every dataset; opening a folder takes no time that is worth a bar.

    Raises:
        FileNotFoundError: the folder, ``dataset.toml``, a list or a file that a list names is missing.
        ValueError: ``dataset.toml`` says something that is not allowed, or the lists contradict each other.
    """
    root, options = existing_root(config), FolderOptions(**config.options)
    if options.preset:
        known = tomllib.loads(PRESETS.read_text())
        spec = FolderSpec.parse(known[choose(options.preset, known, "preset")], f"preset {options.preset}")
        root = nested_root(root, [files.dir for files in spec.pictures.values()], f"preset {options.preset}")
    else:
        spec = read_spec(root / "dataset.toml")
    return FolderDataset(spec, root, splits_of(spec, root))


def read_spec(path: Path) -> FolderSpec:
    """What a ``dataset.toml`` says.

    Raises:
        LayoutError: it does not exist; shows how one looks and names the presets.
        ValueError: it is not TOML, or says what is not allowed; names the table.
    """
    if not path.is_file():
        raise LayoutError(
            f"{path} is missing: it says what the files mean, such as\n{__doc__.split('::')[-1]}\n"
            f"or name a layout: options preset, one of {', '.join(tomllib.loads(PRESETS.read_text()))}"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    tables = values.get("sensors")
    if isinstance(tables, dict):  # each on its own, so that an error names its table
        values["sensors"] = {
            name: SensorFiles.parse(table, f"{path} [sensors.{name}]") if isinstance(table, dict) else table
            for name, table in tables.items()
        }
    return FolderSpec.parse(values, str(path))


def splits_of(spec: FolderSpec, root: Path) -> dict[str, list[str]]:
    """Split -> scene ids: from the lists that ``spec`` names; else from sub-folders; else drawn.

    Without lists the scenes are those with a file of every kind; a warning names the others.

    Raises:
        FileNotFoundError: a list or folder is missing.
        ValueError: no scene has all its files, or a list is wrong.
    """
    if spec.splits:
        first = next(iter(spec.pictures.values()))
        splits = {split: read_list(root / name, first) for split, name in spec.splits.items()}
    else:
        ids = complete_scenes({name: set(files.index(root)) for name, files in spec.pictures.items()}, root)
        splits = splits_by_folder(ids) or splits_by_scene(ids, spec.test_fraction)
    return with_val(splits, spec.val_fraction, spec.val_run)


class FolderDataset(SceneDataset):
    """A dataset with one file per scene and sensor.

    Args:
        spec: what the files mean.
        root: the folder they lie in.
        splits: split -> scene ids; ``train``, ``val`` and ``test`` and any others.

    Raises:
        FileNotFoundError: a folder or file is missing; all missing files are counted.
        ValueError: splits share scenes, an id fits two files, or a sensor's mean and std are not given.
    """

    def __init__(self, spec: FolderSpec, root: Path, splits: Mapping[str, list[str]]):
        self.spec, self.root = spec, root
        self._splits = disjoint(splits, root)
        self._files = self._find_files()
        self._classes = spec.label.classes(len(spec.classes))
        height, width = self._read_label(self._files[self._splits["train"][0]]["label"]).shape
        sensors = {"rgb": RGB} if spec.rgb else {}
        self.card = DatasetCard(
            name=spec.name,
            title=spec.title or spec.name,
            sensors=sensors | {name: self._sensor(name, files) for name, files in spec.sensors.items()},
            classes=spec.classes,
            palette=tuple(tuple(bytes.fromhex(colour[1:])) for colour in spec.palette),
            splits=tuple(self._splits),
            native_size=(width, height),
            **spec.model_dump(include={"homepage", "citation", "notes", "licensed"}),
        )

    def ids(self, split: str) -> list[str]:
        """Scene ids of a split, in the order of its list."""
        return list(self._splits[choose(split, self._splits, f"split of {self.spec.name}")])

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        if scene_id not in self._files:
            raise ValueError(f"{self.spec.name} has no scene {scene_id!r}.{nearest(scene_id, self._files)}")
        files = self._files[scene_id]
        sample: Sample = {"id": scene_id}
        if self.spec.rgb:
            sample["rgb"] = image_files.read_pixels(files["rgb"], "rgb", self.spec.rgb.bands)
        for name, sensor in self.spec.sensors.items():
            sample[name], sample[f"{name}_valid"] = image_files.read_sensor(files[name], sensor)
        sample["label"] = self._read_label(files["label"])
        first, *others = files
        sizes = {name: "{1}x{0}".format(*sample[name].shape[-2:]) for name in files}
        for name in others:
            if sizes[name] != sizes[first]:
                raise ValueError(
                    f"{files[name]} has {sizes[name]} pixels but {files[first]} has {sizes[first]}; "
                    "all pictures of a scene must be aligned and equally large"
                )
        return sample

    def _read_label(self, path: Path) -> np.ndarray:
        return image_files.read_label(path, self.spec.label, self._classes)

    def fingerprint(self) -> str:
        """A hash of the files, their meaning and the code that reads them; the same wherever the copy lies."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        code = Path(__file__).read_bytes() + Path(image_files.__file__).read_bytes()
        total = hashlib.sha256(code + self.spec.model_dump_json().encode() + repr(self._splits).encode())
        for files in self._files.values():
            for path in files.values():
                total.update(image_files.digest(path))
        return total.hexdigest()

    def _find_files(self) -> dict[str, dict[str, Path]]:
        """Scene id -> entry of a sample -> file, for all splits."""
        ids = list(dict.fromkeys(scene_id for split in self._splits.values() for scene_id in split))
        found: dict[str, dict[str, Path]] = {scene_id: {} for scene_id in ids}
        missing = []
        for name, files in self.spec.pictures.items():
            there = files.index(self.root)
            example = next((path.relative_to(self.root) for path in there.values()), f"{files.dir}/{files.pattern}")
            for scene_id in ids:
                if scene_id in there:
                    found[scene_id][name] = there[scene_id]
                elif files.pattern == "(.+)":
                    missing.append(f"{name} {files.dir}/{scene_id}{files.ext or '.*'}")
                else:
                    missing.append(f"{name} of {scene_id} (named as {example} is)")
        if missing:
            raise FileNotFoundError(
                f"{self.root}: {len(missing)} file(s) of the {len(ids)} scenes of its splits are missing: "
                + ", ".join(missing[:10])
                + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
            )
        return found

    def _sensor(self, name: str, files: SensorFiles) -> Sensor:
        if files.mean and files.std:
            return Sensor(files.channels, files.unit, files.mean, files.std, files.focal)
        train = self._splits["train"]
        read = [image_files.read_sensor(self._files[i][name], files) for i in train[:: max(1, len(train) // 64)]]
        values = np.concatenate([image[:, valid[0]] for image, valid in read], axis=1).astype(np.float64)
        mean, std = (statistic(values, axis=1).round(4).tolist() for statistic in (np.mean, np.std))
        raise ValueError(
            f"{self.spec.name}: sensor {name!r} needs mean and std in {files.unit}, so that all runs normalise alike; "
            f"measured on {len(read)} scenes of train: mean = {mean}, std = {std}"
        )

"""A folder of your own: pictures of every sensor, labels and split lists, in the layout that CMX and DFormer made common.

::

    root/dataset.toml   RGB/0001.jpg   Depth/0001.png   Label/0001.png   train.txt   test.txt

``dataset.toml`` says what the files mean; its keys are the fields of ``FolderSpec``::

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
import os
import re
import struct
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from matplotlib import colormaps, colors
from PIL import Image
from pydantic import Field, ValidationInfo, field_validator

from crodino_lib.config import DataConfig, Names, Strict, choose, nearest
from crodino_lib.data.sample import IGNORE, RGB, DatasetCard, Sample, SceneDataset, Sensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy")
KINDS = {
    "rgb": "8 bits, three channels",
    "u8": "8 bits, one channel or three equal ones",
    "u16": "16 bits, one channel",
    "float": "floating point, one channel (.npy or TIFF)",
}

Numbers = Annotated[tuple[float, ...], Field(strict=False)]  # TOML has lists only
RawIds = Annotated[tuple[int, ...], Field(strict=False)]


class Pictures(Strict):
    """A folder of files, one per scene."""

    dir: str = Field(description="folder below the root")
    ext: str = Field("", description="how names end after the id, such as '.png'; empty takes any known suffix")


class SensorFiles(Pictures):
    """The files of one sensor besides rgb: its value in ``unit`` is ``scale * raw + offset``."""

    kind: Literal["u8", "u16", "float", "rgb"] = Field(description="what a file must hold; nothing is converted")
    unit: str = Field(description="unit of the scaled value, such as m or degrees C")
    invalid: Numbers = Field(description="raw values that mean no measurement; [] where every value is one")
    scale: float = Field(1.0, description="units per raw step")
    offset: float = Field(0.0, description="value of raw 0, in the unit")
    mean: Numbers = Field((), description="mean of the scaled values, per channel")
    std: Numbers = Field((), description="standard deviation of the scaled values, per channel")

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return 3 if self.kind == "rgb" else 1


class LabelFiles(Pictures):
    """The label files: single-channel ids, made into ``0..K-1`` or 255 = ignore."""

    offset: Literal[0, -1] = Field(0, description="-1 where files hold 1..K and 0 is ignored, as with CMX's gt_transform")
    ignore: RawIds = Field((IGNORE,), description="ids in the files that are ignored")
    map: dict[str, int] = Field(default_factory=dict, description="id in the file -> class, after offset and ignore")


class FolderSpec(Strict):
    """What ``dataset.toml`` says."""

    name: str = Field(pattern=r"^[\w.-]+$")
    title: str = ""
    classes: Names = Field(min_length=2, max_length=IGNORE)
    palette: Names = Field((), description="one '#rrggbb' per class; empty chooses")
    rgb: Pictures
    sensors: dict[str, SensorFiles] = Field(default_factory=dict)
    label: LabelFiles
    splits: dict[str, str] = Field(description="split -> list file; val is taken from train where it is not given")
    val_fraction: float = Field(0.12, gt=0, lt=1, description="part of train that becomes val where no list is given")
    homepage: str = ""
    citation: str = ""
    notes: str = ""
    licensed: bool = True

    @field_validator("palette")
    @classmethod
    def _palette(cls, palette: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        classes = len(info.data.get("classes", palette))
        if not palette:
            palette = tuple(_colours())[:classes]
        if len(palette) != classes or not all(re.fullmatch("#[0-9a-fA-F]{6}", colour) for colour in palette):
            raise ValueError(f"expected one '#rrggbb' for each of the {classes} classes")
        return palette

    @field_validator("sensors")
    @classmethod
    def _sensors(cls, sensors: dict[str, SensorFiles]) -> dict[str, SensorFiles]:
        for name, files in sensors.items():
            if name in ("rgb", "label", "id") or name.endswith("_valid"):
                raise ValueError(f"{name!r} cannot be the name of a sensor here, such as 'depth' or 'thermal'")
            for field in ("mean", "std"):
                if len(getattr(files, field)) not in (0, files.channels):
                    raise ValueError(f"{field} of {name} must be {files.channels} number(s), one per channel")
        return sensors

    @field_validator("splits")
    @classmethod
    def _splits(cls, splits: dict[str, str]) -> dict[str, str]:
        if missing := {"train", "test"} - set(splits):
            raise ValueError(f"a list file for {' and '.join(sorted(missing))} is missing")
        return splits


def _colours() -> list[str]:
    """Forty distinct colours, the strong ones first."""
    tab20, tab20b = colormaps["tab20"].colors, colormaps["tab20b"].colors
    return [colors.to_hex(colour) for colour in (*tab20[::2], *tab20[1::2], *tab20b[::2], *tab20b[1::2])]


def open_folder(config: DataConfig, progress: bool = True) -> SceneDataset:
    """Open the folder ``config.root`` as its ``dataset.toml`` says.

    Args:
        config: names the folder.
        progress: as for every dataset; opening a folder reads no picture, so there is nothing to show.

    Raises:
        FileNotFoundError: the folder, ``dataset.toml``, a list or a file that a list names is missing.
        ValueError: ``dataset.toml`` says something that is not allowed, or the lists contradict each other.
    """
    path = existing_root(config) / "dataset.toml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it says what the files mean. For example:\n{__doc__.split('::')[-1]}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    tables = values.get("sensors", {})
    if isinstance(tables, dict):  # each on its own, so that an error names its table
        values["sensors"] = {
            name: SensorFiles.parse(table, f"{path} [sensors.{name}]") if isinstance(table, dict) else table
            for name, table in tables.items()
        }
    return FolderDataset(FolderSpec.parse(values, str(path)), path.parent)


def existing_root(config: DataConfig) -> Path:
    """The folder of the user's copy.

    Raises:
        ValueError: none was given.
        FileNotFoundError: it does not exist; proposes a neighbour with a similar name.
    """
    if not config.root:
        raise ValueError(f"dataset {config.dataset!r} needs root: the folder of your copy; nothing is downloaded")
    return existing_folder(Path(config.root).expanduser().resolve())


def existing_folder(folder: Path) -> Path:
    """``folder``, which must exist.

    Raises:
        FileNotFoundError: says what its parent holds instead.
    """
    if folder.is_dir():
        return folder
    parent = folder.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist, nor does {parent}")
    there = sorted(path.name for path in parent.iterdir() if path.is_dir())
    same = {name.lower(): name for name in there}.get(folder.name.lower())
    hint = f" Did you mean {same!r}?" if same else nearest(folder.name, there)
    raise FileNotFoundError(
        f"the folder {folder} does not exist; {parent} holds the folders {', '.join(there[:10]) or 'none'}.{hint}"
    )


def scene_ids(text: str, rgb: Pictures) -> list[str]:
    """Scene ids in a split list: bare stems, ``RGB/0001.jpg``, or two columns of which the first counts.

    A byte-order mark, carriage returns, blank lines and lines that start with # are passed over; sub-folders stay.
    """
    ids = []
    for line in text.removeprefix("\ufeff").splitlines():
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        name, folder = columns[0].removeprefix("./"), rgb.dir.rstrip("/").lower() + "/"
        if name.lower().startswith(folder):
            name = name[len(folder) :]
        endings = [ending for ending in (rgb.ext, *SUFFIXES) if ending and name.lower().endswith(ending.lower())]
        ids.append(name[: -len(endings[0])] if endings else name)
    return ids


def consecutive_runs(ids: list[str]) -> list[list[str]]:
    """``ids`` in runs whose last number counts up by one; an id without a number is a run of its own."""
    keyed = []
    for scene_id in ids:
        before, number, after = re.fullmatch(r"(.*?)(\d*)(\D*)", scene_id, re.DOTALL).groups()
        keyed.append((before, after, int(number or 0), scene_id))
    runs: list[list[str]] = []
    last = None
    for before, after, number, scene_id in sorted(keyed):
        if last != (before, after, number - 1):
            runs.append([])
        runs[-1].append(scene_id)
        last = (before, after, number)
    return runs


def hold_out(ids: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """Split ``ids`` into train and val so that neighbouring frames, which show one scene, are never on both sides.

    Whole runs of consecutive ids go to val in a fixed random order while they fit; always the same for the same ids.

    Returns:
        Both parts in the order of ``ids``; val has between half of ``fraction`` and all of it.

    Raises:
        ValueError: no such part can be made.
    """
    runs, held = consecutive_runs(ids), set()
    for index in np.random.default_rng(0).permutation(len(runs)):
        if len(held) + len(runs[index]) <= max(1, round(fraction * len(ids))):
            held.update(runs[index])
    if len(held) < fraction * len(ids) / 2 or len(held) == len(ids):
        raise ValueError(
            f"no list for val is given, and {fraction:.0%} of the {len(ids)} scenes of train cannot be taken in whole runs "
            f"of consecutive ids (there are {len(runs)} runs, the longest of {max(map(len, runs), default=0)}), so "
            "neighbouring frames would be on both sides; write a list for val and name it under splits"
        )
    return [i for i in ids if i not in held], [i for i in ids if i in held]


class FolderDataset(SceneDataset):
    """A dataset whose scenes are one file per sensor, found through split lists.

    Args:
        spec: what the files mean.
        root: the folder they lie in.

    Raises:
        FileNotFoundError: a folder, list or file is missing; all missing files are counted.
        ValueError: lists contradict each other, an id fits two files, or a sensor's mean and std are not given.
    """

    def __init__(self, spec: FolderSpec, root: Path):
        self.spec, self.root = spec, existing_folder(root)
        self._splits = self._read_splits()
        self._files = self._find_files()
        first = self._files[self._splits["train"][0]]["rgb"]
        height, width = read_pixels(first, "rgb").shape[1:]
        self.card = DatasetCard(
            name=spec.name,
            title=spec.title or spec.name,
            sensors={"rgb": RGB, **{name: self._sensor(name) for name in spec.sensors}},
            classes=spec.classes,
            palette=tuple(tuple(bytes.fromhex(colour[1:])) for colour in spec.palette),
            splits=tuple(self._splits),
            native_size=(width, height),
            **spec.model_dump(include={"homepage", "citation", "notes", "licensed"}),
        )

    def ids(self, split: str) -> list[str]:
        """Scene ids of a split, in the order of its list."""
        return list(self._splits[choose(split, self._splits, "split")])

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        if scene_id not in self._files:
            raise ValueError(f"{self.spec.name} has no scene {scene_id!r}.{nearest(scene_id, self._files)}")
        files = self._files[scene_id]
        sample: Sample = {"id": scene_id, "rgb": read_pixels(files["rgb"], "rgb"), "label": self._label(files["label"])}
        for name, sensor in self.spec.sensors.items():
            sample[name], sample[f"{name}_valid"] = read_sensor(files[name], sensor)
        sizes = {name: sample[name].shape[:-3:-1] for name in files}
        for name, (width, height) in sizes.items():
            if sizes[name] != sizes["rgb"]:
                raise ValueError(
                    f"{files[name]} has {width}x{height} pixels but {files['rgb']} has {sizes['rgb'][0]}x{sizes['rgb'][1]}; "
                    "all pictures of a scene must be aligned and equally large"
                )
        return sample

    def fingerprint(self) -> str:
        """A hash of the specification, this reader and the files; the same wherever the copy lies."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(Path(__file__).read_bytes() + self.spec.model_dump_json().encode())
        digest.update(repr(self._splits).encode())
        for scene_id, files in self._files.items():
            for name, path in files.items():
                digest.update(f"{scene_id} {name} {path.stat().st_size} ".encode() + _tail(path))
        return digest.hexdigest()

    def _read_splits(self) -> dict[str, list[str]]:
        lists = {split: self._read_list(name) for split, name in self.spec.splits.items()}
        if "val" not in lists:
            lists["train"], lists["val"] = hold_out(lists["train"], self.spec.val_fraction)
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if common := sorted(set(lists[one]) & set(lists[other])):
                raise ValueError(
                    f"{self.root}: {len(common)} scene(s) are in both {one} and {other}, such as {', '.join(common[:5])}; "
                    "a score on scenes that were trained or selected on means nothing"
                    + ("; leave val out to have it taken from train" if one == "val" else "")
                )
        return {name: lists[name] for name in ("train", "val", "test", *lists)}

    def _read_list(self, name: str) -> list[str]:
        path = self.root / name
        if not path.is_file():
            lists = sorted(other.name for other in self.root.glob("*.txt"))
            raise FileNotFoundError(
                f"the split list {path} does not exist; the folder holds {', '.join(lists[:10]) or 'no .txt file'}."
                f"{nearest(name, lists)}"
            )
        try:
            ids = scene_ids(path.read_text(encoding="utf-8-sig"), self.spec.rgb)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}") from error
        if not ids:
            raise ValueError(f"{path} names no scene; expected one id per line, such as 0001")
        if twice := sorted({scene_id for scene_id in ids if ids.count(scene_id) > 1} if len(set(ids)) < len(ids) else ()):
            raise ValueError(f"{path} names {len(twice)} scene(s) more than once, such as {', '.join(twice[:5])}")
        return ids

    def _find_files(self) -> dict[str, dict[str, Path]]:
        """Scene id -> entry -> file, for all splits."""
        ids = list(dict.fromkeys(scene_id for split in self._splits.values() for scene_id in split))
        found: dict[str, dict[str, Path]] = {scene_id: {} for scene_id in ids}
        missing = []
        for name, files in {"rgb": self.spec.rgb, **self.spec.sensors, "label": self.spec.label}.items():
            there = _index(self.root / files.dir, files.ext)
            for scene_id in ids:
                if scene_id in there:
                    found[scene_id][name] = there[scene_id]
                else:
                    missing.append(f"{files.dir}/{scene_id}{files.ext or '.*'} ({name})")
        if missing:
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            raise FileNotFoundError(
                f"{self.root}: {len(missing)} of {len(ids) * len(found[ids[0]] | {'label': 0}) or len(ids)} files missing: "
                f"{', '.join(missing[:10])}{more}"
            )
        return found

"""Mid-Air: rendered flights of a drone close to the ground in seven climates, rgb and depth.

Homepage: https://midair.ulg.ac.be

Format: ``{Kite_training,PLE_training}/<climate>/<folder>/trajectory_NNNN/NNNNNN.<ending>``, 1024x1024, 25 frames a
second; ``color_left`` .JPEG, 8 bits, three channels; ``depth`` .PNG, 16 bits, which are those of a half-precision
number, in metres; ``segmentation`` .PNG, 8 bits, ids 0..13; the latter two are of the left camera. Trajectories are
sunny 0000-0029, sunset 1000-1029, foggy 2000-2029, cloudy 3000-3029 (Kite), fall 4000-4023, spring 5000-5023, winter
6000-6023 (PLE); those of one world with the same last three digits are taken for the same flight.

Classes: 0 sky, 1 animals, 2 trees, 3 dirt ground, 4 ground vegetation, 5 rocky ground, 6 boulders, 7 (empty), 8 water
plane, 9 man-made construction, 10 road, 11 train track, 12 road sign, 13 others; or the seven that Co-SemDepth makes of
them: 0 sky, 1 water, 2 trees, 3 land, 4 rocks, 5 road, 6 others.

Source: Fonder, Van Droogenbroeck, "Mid-Air: A Multi-Modal Dataset for Extremely Low Altitude Drone Flights", CVPR
Workshops 2019.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from crodino_lib.config import DataConfig, Strict
from crodino_lib.data import image_files
from crodino_lib.data.folder import FolderDataset, FolderSpec
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles
from crodino_lib.data.layouts import choose_layout, existing_root, warn
from crodino_lib.data.sample import Sample, SceneDataset

WORLDS = ("Kite_training", "PLE_training")
CLIMATES = {  # -> numbers of its trajectories
    "Kite_training/sunny": range(0, 30),
    "Kite_training/sunset": range(1000, 1030),
    "Kite_training/foggy": range(2000, 2030),
    "Kite_training/cloudy": range(3000, 3030),
    "PLE_training/fall": range(4000, 4024),
    "PLE_training/spring": range(5000, 5024),
    "PLE_training/winter": range(6000, 6024),
}
COSEMDEPTH_VAL = (6, 1009, 2000, 3012, 4006, 4015, 5018, 6021)
VAL_EVERY = 8  # of the flights of train, one in so many is val: 18 of the published 128 trajectories

CLASSES_14 = """
sky, animals, trees, dirt ground, ground vegetation, rocky ground, boulders, empty, water plane,
man-made construction, road, train track, road sign, others
"""
CLASSES_7 = {
    "sky": "#7fafe6",
    "water": "#4ba3b9",
    "trees": "#328000",
    "land": "#355e3b",
    "rocks": "#464646",
    "road": "#804080",
    "others": "#804040",
}
MAP_7 = (0, 6, 2, 3, 3, 3, 4, 6, 1, 6, 5, 6, 6, 6)  # id in a file -> class
ORIGINAL_IDS = range(9, 14)  # which converted labels never hold: known mappings end at 6 or 8
NEGATIVE_SHARE, NEAREST_M = 0.01, 0.05  # more of it negative, or all nearer: integers taken for half precision
LOOKED_AT = 32  # labels, when a copy is opened
CONVERTED = (
    "this looks converted in place, as by the mapping script of Co-SemDepth and M4Semantic, to the ids of fewer "
    "classes, which would be mapped twice; unpack the segmentation archives again"
)
NOTES = (
    "Every third flight is test, in all climates that render it, as M4Depth splits; frames are those whose number is a "
    "multiple of frame_stride, with number 0, which M4Depth passes over. Split m4depth takes val from train in whole "
    "flights, so that no flight is on two sides. Split cosemdepth takes eight published trajectories of test as val; "
    "other climates of the same flights stay in test, so that what is selected on val is also selected for test."
)


class MidAirOptions(Strict):
    """What can be chosen of Mid-Air."""

    classes: Literal[14, 7] = Field(14, description="14 as rendered, or 7 as Co-SemDepth joins them")
    frame_stride: int = Field(4, ge=1, description="take frames whose number is a multiple: neighbours look alike")
    split: Literal["m4depth", "cosemdepth"] = Field(
        "m4depth", description="where val comes from: whole flights of train, or eight trajectories of test"
    )
    depth_max_m: float = Field(
        1250.0, gt=1, le=65504, description="metres that depth is cut at; sky is beyond 1250, where the viewer cuts it"
    )


def open_midair(config: DataConfig, progress: bool = True) -> SceneDataset:
    """Open a copy of Mid-Air, or those climates and trajectories of it that there are.

    Args:
        config: names the folder; its options are ``MidAirOptions``.
        progress: as for every dataset; files are only listed here.

    Raises:
        FileNotFoundError: the root, a folder or a file is missing.
        ValueError: no root is given, a trajectory lies in a wrong climate or has no frame, a split has no trajectory,
            or the segmentation was converted in place.
    """
    options = MidAirOptions(**config.options)
    root, _ = choose_layout(existing_root(config), {name: {"": ImageFiles(dir=name)} for name in WORLDS}, "Mid-Air")
    spec = _spec(options)
    scenes = {
        number: _scenes(root, climate, number, spec.pictures, options.frame_stride)
        for climate in CLIMATES
        for number in _trajectories(root, climate, spec.pictures)
    }
    _tell_of_differences(root, list(scenes))
    splits = _split(list(scenes), options.split, root)
    return MidAir(
        spec,
        root,
        {split: [scene_id for number in numbers for scene_id in scenes[number]] for split, numbers in splits.items()},
        {scene_id: files for some in scenes.values() for scene_id, files in some.items()},
        options.depth_max_m,
    )


class MidAir(FolderDataset):
    """Mid-Air on disk.

    Args:
        spec: what the files mean; ``dir`` of its entries are folders of a climate.
        root: the folder that holds Kite_training or PLE_training.
        splits: split -> scene ids.
        files: scene id -> entry of a sample -> file.
        depth_max_m: metres that depth is cut at.

    Raises:
        ValueError: a file is damaged, or the segmentation was converted in place.
    """

    def __init__(
        self,
        spec: FolderSpec,
        root: Path,
        splits: Mapping[str, list[str]],
        files: dict[str, dict[str, Path]],
        depth_max_m: float,
    ):
        self._listed, self._depth_max = files, depth_max_m
        first = next(iter(files.values()))
        self._size = image_files.read_pixels(first["rgb"], "rgb").shape[1:]
        self._channels = _stored_ids(first["label"])[1]
        super().__init__(spec, root, splits)
        self._refuse_converted()

    def read(self, scene_id: str) -> Sample:
        """Read one scene, its depth above 0 and cut at ``depth_max_m``; see ``SceneDataset.read``."""
        sample = super().read(scene_id)
        measured = sample["depth_valid"].copy()
        sample["depth_valid"] &= sample["depth"] > 0
        negative = 1 - sample["depth_valid"].sum() / max(1, measured.sum())
        largest = sample["depth"].max(initial=0, where=sample["depth_valid"])
        if (negative > NEGATIVE_SHARE and measured.any()) or 0 < largest < NEAREST_M:
            raise ValueError(
                f"{self._files[scene_id]['depth']} holds at most {largest:g} m, and {negative:.0%} of it is negative: "
                "its 16 bits are not those of half-precision metres, so the file was converted"
            )
        sample["depth"] = np.where(sample["depth_valid"], sample["depth"].clip(max=self._depth_max), np.float32(0))
        return sample

    def fingerprint(self) -> str:
        """As of every folder, with the code of this reader; options are in spec and splits, depth_max_m by its mean."""
        return hashlib.sha256(super().fingerprint().encode() + Path(__file__).read_bytes()).hexdigest()

    def _find_files(self) -> dict[str, dict[str, Path]]:
        return self._listed

    def _read_label(self, path: Path) -> np.ndarray:
        return self._classes[self._ids(path)]

    def _ids(self, path: Path) -> np.ndarray:
        """(H, W) ids of a label that has the pictures' size and the other labels' channels: converters change both."""
        ids, channels = _stored_ids(path)
        if (ids.shape, channels) != (self._size, self._channels):
            raise ValueError(
                f"{path} has {ids.shape[1]}x{ids.shape[0]} pixels and {channels} channel(s), but pictures have "
                f"{self._size[1]}x{self._size[0]} and the first label {self._channels} channel(s): {CONVERTED}"
            )
        return ids

    def _refuse_converted(self) -> None:
        """Look at some labels for ids that only originals hold.

        Nobody says whether originals have one channel or three, and converters write three: three are read, the first
        of them, where an id proves that they are originals.
        """
        paths = [files["label"] for files in self._files.values()]
        held = {path: np.unique(self._ids(path)) for path in paths[:: math.ceil(len(paths) / LOOKED_AT)]}
        if unknown := [path for path, ids in held.items() if ids[-1] >= len(MAP_7)]:
            warn(
                f"{len(unknown)} of {len(held)} labels that were looked at, such as {unknown[0]}, hold ids above 13, "
                "which are no class: their pixels are ignored"
            )
        if not np.isin(np.concatenate(list(held.values())), ORIGINAL_IDS).any():
            found = f"none of {len(held)} labels, such as {paths[0]}, holds an id of 9..13"
            if self._channels == 3:
                raise ValueError(f"{found}, and they have 3 channels: {CONVERTED}")
            warn(f"{found}; this is as rendered, or {CONVERTED}")


def _warn_of_gaps(root: Path, folder: str, frames: list[str], stride: int) -> None:
    """Tell of frames that lie between others and are in no folder."""
    numbers = {int(frame) for frame in frames}
    if gaps := sorted(set(range(min(numbers), max(numbers) + 1, stride)) - numbers):
        warn(f"{root / folder} lacks {len(gaps)} frame(s) between others, such as {gaps[0]:06d}")


def _stored_ids(path: Path) -> tuple[np.ndarray, int]:
    """(H, W) uint8 ids of a label file, and how many channels it has.

    Raises:
        ValueError: it is damaged, or holds something else.
    """
    pixels = image_files.decode(path)
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or planes.shape[2] not in (1, 3) or np.ptp(planes, axis=2).any():
        raise ValueError(
            f"{path} holds {pixels.dtype} of shape {pixels.shape}, expected class ids: 8 bits, one channel or three "
            "equal ones"
        )
    return planes[..., 0], planes.shape[2]


def _spec(options: MidAirOptions) -> FolderSpec:
    seven, far = options.classes == 7, options.depth_max_m
    # no statistics are published: these are of depths whose logarithm is spread evenly from 1 m to depth_max_m, the
    # range and the scale that the official viewer shows
    mean = (far - 1) / math.log(far)
    std = math.sqrt((far**2 - 1) / (2 * math.log(far)) - mean**2)
    frames = {"ext": ".PNG", "pattern": r"(\d{6})"}
    return FolderSpec(
        name="midair",
        title=f"Mid-Air ({options.classes} classes)",
        classes=list(CLASSES_7) if seven else [name.strip() for name in CLASSES_14.split(",")],
        palette=list(CLASSES_7.values()) if seven else [],
        rgb=ImageFiles(dir="color_left", **frames | {"ext": ".JPEG"}),
        sensors={
            "depth": SensorFiles(
                dir="depth", kind="f16", unit="m", invalid=(0,), mean=(mean,), std=(std,), focal=0.5, **frames
            )
        },
        label=LabelFiles(
            dir="segmentation",
            ignore=tuple(range(len(MAP_7), 256)),
            map={str(id_): class_ for id_, class_ in enumerate(MAP_7)} if seven else {},
            **frames,
        ),
        homepage="https://midair.ulg.ac.be",
        citation="M. Fonder and M. Van Droogenbroeck, Mid-Air: A Multi-Modal Dataset for Extremely Low Altitude Drone "
        "Flights, CVPR Workshops 2019",
        notes=NOTES,
    )


def _trajectories(root: Path, climate: str, files: Mapping[str, ImageFiles]) -> list[int]:
    """Numbers, sorted, of the trajectories of a climate that have a folder for any entry of a sample.

    Raises:
        ValueError: a folder is no trajectory of this climate.
    """
    known = {f"trajectory_{number:04d}": number for number in CLIMATES[climate]}
    folders = {folder for entry in files.values() for folder in (root / climate / entry.dir).glob("trajectory_*/")}
    if strange := sorted(folder for folder in folders if folder.name not in known):
        raise ValueError(f"{strange[0]} is no trajectory of {climate}: expected {min(known)}..{max(known)}")
    return sorted({known[folder.name] for folder in folders})


def _scenes(
    root: Path, climate: str, number: int, files: Mapping[str, ImageFiles], stride: int
) -> dict[str, dict[str, Path]]:
    """Scene id -> entry of a sample -> file, for the frames of one trajectory, in their order.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: there is no frame, or a frame twice.
    """
    folders = {name: f"{climate}/{entry.dir}/trajectory_{number:04d}" for name, entry in files.items()}
    found = {name: entry.model_copy(update={"dir": folders[name]}).index(root) for name, entry in files.items()}
    frames = sorted(frame for frame in set().union(*found.values()) if int(frame) % stride == 0)
    missing = [
        f"{folders[name]}/{frame}{entry.ext}"
        for name, entry in files.items()
        for frame in frames
        if frame not in found[name]
    ]
    if missing:
        raise FileNotFoundError(
            f"{root}: {len(missing)} file(s) are missing that others of their frame are there for: "
            f"{', '.join(missing[:10])}; unpack frames.zip where it lies"
        )
    if not frames:
        raise ValueError(
            f"{root / folders['rgb']} has no frame whose number is a multiple of frame_stride = {stride}; unpack "
            "frames.zip where it lies"
        )
    _warn_of_gaps(root, folders["rgb"], frames, stride)
    climate = climate.split("/")[1]
    return {
        f"{climate}/trajectory_{number:04d}/{frame}": {name: there[frame] for name, there in found.items()}
        for frame in frames
    }


def _split(numbers: list[int], rule: str, root: Path) -> dict[str, list[int]]:
    """Trajectories of train, val and test.

    Raises:
        ValueError: one has none in this copy.
    """

    def flight(number: int) -> tuple[bool, int]:
        return number in range(4000, 7000), number % 1000  # the world, and the path through it

    test = [number for number in numbers if number % 1000 % 3 == 0]
    train = [number for number in numbers if number not in test]
    held = sorted({flight(number) for number in train})[::VAL_EVERY]
    val = [n for n in test if n in COSEMDEPTH_VAL] if rule == "cosemdepth" else [n for n in train if flight(n) in held]
    splits = {"train": [n for n in train if n not in val], "val": val, "test": [n for n in test if n not in val]}
    if empty := [split for split, some in splits.items() if not some]:
        raise ValueError(
            f"{root}: none of its {len(numbers)} trajectories is for {' and '.join(empty)} of split {rule!r}: numbers "
            "whose last three digits divide by 3 are test, others train; val is some flights of train, or for "
            f"'cosemdepth' the trajectories {', '.join(f'{number:04d}' for number in COSEMDEPTH_VAL)}"
        )
    return splits


def _tell_of_differences(root: Path, numbers: list[int]) -> None:
    """Warn of folders that are no climate, and of fewer trajectories than are published."""
    folders = [f"{world}/{folder.name}" for world in WORLDS for folder in sorted((root / world).glob("*/"))]
    if strange := [folder for folder in folders if folder not in CLIMATES]:
        warn(f"{root} holds {', '.join(strange)}, which are not read; climates are {', '.join(CLIMATES)}")
    published = sum(map(len, CLIMATES.values()))
    if len(numbers) != published:
        found = ", ".join(f"{name} {len(set(numbers) & set(all_))} of {len(all_)}" for name, all_ in CLIMATES.items())
        warn(
            f"this copy of Mid-Air holds {len(numbers)} of the {published} published trajectories ({found}); results "
            "do not compare with published ones"
        )

"""Read Mid-Air: rendered flights of a drone close to the ground in seven climates, rgb and depth.

Homepage: https://midair.ulg.ac.be

Format: ``{Kite_training,PLE_training}/<climate>/<folder>/trajectory_NNNN/NNNNNN.<ending>``, 1024x1024, 25 frames a
second; ``color_left`` .JPEG, 8 bits, three channels; ``depth`` .PNG, 16 bits, which are those of a half-precision
number, in metres; ``segmentation`` .PNG, 8 bits, ids 0..13; the latter two are of the left camera. Trajectories of one
world with the same last three digits are taken for the same flight.

Classes: the 14 as rendered, or the seven that Co-SemDepth makes of them.

Source: Fonder, Van Droogenbroeck, "Mid-Air: A Multi-Modal Dataset for Extremely Low Altitude Drone Flights", CVPR
Workshops 2019.
"""

import math
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from crodino_lib.config import DataConfig
from crodino_lib.data.decode import decode
from crodino_lib.data.folder import FolderDataset, FolderSpec
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles, read_picture
from crodino_lib.data.layouts import choose_layout, existing_root, warn
from crodino_lib.data.sample import Sample, SceneDataset
from crodino_lib.settings import Strict

Files = dict[str, dict[str, Path]]
TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
WORLDS = ("Kite_training", "PLE_training")
CLIMATES = {name: range(first, first + count) for name, (first, count) in TABLES["climates"].items()}
VAL_EVERY = 8  # of the flights of train, one in so many is val: 18 of the published 128 trajectories
IDS = 14  # that a label holds
ORIGINAL_IDS = range(9, IDS)  # which converted labels never hold: known mappings end at 6 or 8
NEGATIVE_SHARE, NEAREST_M = 0.01, 0.05  # more of it negative, or all nearer: integers taken for half precision
LOOKED_AT = 32  # labels, when a copy is opened
CONVERTED = (
    "the labels look converted in place, as by the mapping script of Co-SemDepth and M4Semantic, to the ids of fewer "
    "classes, which would be mapped twice; unpack the segmentation archives again"
)


class MidAirOptions(Strict):
    """Options of Mid-Air."""

    classes: Literal[14, 7] = Field(14, description="14 as rendered, or 7 as Co-SemDepth joins them")
    frame_stride: int = Field(4, ge=1, description="take frames whose number is a multiple: neighbours look alike")
    split: Literal["m4depth", "cosemdepth"] = Field(
        "m4depth", description="where val comes from: whole flights of train, or eight trajectories of test"
    )
    depth_max_m: float = Field(1250.0, gt=1, le=65504, description="metres that depth is cut at; sky is beyond 1250")


def open_midair(config: DataConfig) -> SceneDataset:
    """Open a copy of Mid-Air, or of some of its climates and trajectories; the options are ``MidAirOptions``.

    Raises:
        FileNotFoundError: the root, a folder or a file is missing.
        ValueError: no root is given, a trajectory lies in a wrong climate or has no frame, a split has no trajectory,
            or the segmentation was converted in place.
    """
    options = MidAirOptions(**config.options)
    root, _ = choose_layout(existing_root(config), {world: [world] for world in WORLDS}, "Mid-Air")
    spec = _spec(options)
    files: Files = {}
    for climate in CLIMATES:
        files |= _scenes(root, climate, spec.pictures, options.frame_stride)
    scenes: dict[int, list[str]] = defaultdict(list)
    for scene_id in files:  # such as sunny/trajectory_0001/000004
        scenes[int(scene_id.split("/")[1].removeprefix("trajectory_"))].append(scene_id)
    _warn_of_differences(root, list(scenes))
    splits = _split(list(scenes), options.split, root)
    ids = {split: [scene_id for number in numbers for scene_id in scenes[number]] for split, numbers in splits.items()}
    return MidAir(spec, root, ids, files, options.depth_max_m)


class MidAir(FolderDataset):
    """Scenes of Mid-Air on disk; ``files`` are scene id -> entry of a sample -> file."""

    def __init__(self, spec: FolderSpec, root: Path, splits: dict[str, list[str]], files: Files, depth_max_m: float):
        self._listed, self._depth_max = files, depth_max_m
        first = next(iter(files.values()))
        channels = 1 if decode(first["label"]).ndim == 2 else 3
        self._shape = (*read_picture(first["rgb"], "rgb").pixels.shape[1:], channels)
        super().__init__(spec, root, splits)
        self._refuse_converted()

    def read(self, scene_id: str) -> Sample:
        """Read one scene, its depth above 0 and cut at ``depth_max_m``; see ``SceneDataset.read``."""
        sample = super().read(scene_id)
        depth, measured = sample["depth"], sample["depth_valid"].sum()
        valid = sample["depth_valid"] & (depth > 0)
        negative = 1 - valid.sum() / max(1, measured)
        largest = depth.max(initial=0, where=valid)
        if (negative > NEGATIVE_SHARE and measured) or 0 < largest < NEAREST_M:
            raise ValueError(
                f"{self._files[scene_id]['depth']} holds at most {largest:g} m, and {negative:.0%} of it is negative: "
                "its 16 bits are not those of half-precision metres, so the file was converted; unpack it again"
            )
        return sample | {"depth": np.where(valid, depth.clip(max=self._depth_max), np.float32(0)), "depth_valid": valid}

    def _find_files(self) -> Files:
        return self._listed

    def _read_label(self, path: Path) -> np.ndarray:
        return self._classes[self._ids(path)]

    def _ids(self, path: Path) -> np.ndarray:
        """Read the (H, W) ids of a label, whose size and channels converters change."""
        pixels = decode(path)
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.dtype != np.uint8 or planes.shape[2] not in (1, 3) or np.ptp(planes, axis=2).any():
            expected = "expected class ids: 8 bits, one channel or three equal ones"
            raise ValueError(f"{path} holds {pixels.dtype} of shape {pixels.shape}, {expected}")
        if planes.shape != self._shape:
            expected = f"expected {self._shape}, as the pictures and the first label have"
            raise ValueError(f"{path} has (height, width, channels) {planes.shape}, {expected}: {CONVERTED}")
        return planes[..., 0]

    def _refuse_converted(self) -> None:
        """Look at some labels for ids that only originals hold.

        Nobody says whether originals have one channel or three, and converters write three: where an id proves that
        labels of three are originals, the first is read.
        """
        paths = [files["label"] for files in self._files.values()]
        ids = {path: np.unique(self._ids(path)) for path in paths[:: math.ceil(len(paths) / LOOKED_AT)]}
        if unknown := [path for path, some in ids.items() if some[-1] >= IDS]:
            warn(
                f"{len(unknown)} of {len(ids)} labels that were looked at, such as {unknown[0]}, hold ids above 13, "
                "which are not classes: their pixels are ignored"
            )
        if not np.isin(np.concatenate(list(ids.values())), ORIGINAL_IDS).any():
            message = f"none of {len(ids)} labels, such as {paths[0]}, holds an id of 9..13"
            if self._shape[2] == 3:
                raise ValueError(f"{message}, and they have 3 channels: {CONVERTED}")
            warn(f"{message}; they are as rendered, or {CONVERTED}")


def _spec(options: MidAirOptions) -> FolderSpec:
    """Return the meaning of the files, with depth normalised for ``depth_max_m``."""
    key, far = str(options.classes), options.depth_max_m
    # no statistics are published: these are of depths whose logarithm is spread evenly from 1 m to depth_max_m, the
    # range and the scale that the official viewer shows
    mean = (far - 1) / math.log(far)
    std = math.sqrt((far**2 - 1) / (2 * math.log(far)) - mean**2)
    return FolderSpec(
        **TABLES["spec"],
        title=f"Mid-Air ({key} classes)",
        classes=TABLES["classes"][key],
        palette=TABLES["palette"][key],
        sensors={"depth": SensorFiles(**TABLES["depth"], mean=(mean,), std=(std,))},
        label=LabelFiles(**TABLES["label"], map=TABLES["map"][key], ignore=tuple(range(IDS, 256))),
    )


def _scenes(root: Path, climate: str, files: Mapping[str, ImageFiles], stride: int) -> Files:
    """Return scene id -> entry of a sample -> file for one climate, sorted; empty where a copy lacks the climate.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: a trajectory is not of this climate, or has no frame, or a frame twice.
    """
    folders = {name: f"{climate}/{entry.dir}" for name, entry in files.items()}
    flights = sorted({path.name for folder in folders.values() for path in (root / folder).glob("trajectory_*/")})
    if not flights:
        return {}
    known = [f"trajectory_{number:04d}" for number in CLIMATES[climate]]
    if strange := [flight for flight in flights if flight not in known]:
        raise ValueError(f"{root}: {strange[0]} is not a trajectory of {climate}: expected {known[0]}..{known[-1]}")
    found = {name: entry.model_copy(update={"dir": folders[name]}).index(root) for name, entry in files.items()}
    frames = sorted(frame for frame in set().union(*found.values()) if int(frame[-6:]) % stride == 0)
    missing = [f"{folders[e]}/{f}{files[e].ext}" for e in files for f in frames if f not in found[e]]
    unpack = "unpack frames.zip where it lies"
    if missing:
        told = f"{len(missing)} file(s) are missing though other sensors have the frame: {', '.join(missing[:10])}"
        raise FileNotFoundError(f"{root}: {told}; {unpack}")
    for flight in flights:
        place, numbers = root / folders["rgb"] / flight, [int(f[-6:]) for f in frames if f.startswith(flight)]
        if not numbers:
            raise ValueError(f"{place} has no frame whose number is a multiple of frame_stride = {stride}; {unpack}")
        if gaps := sorted(set(range(numbers[0], numbers[-1] + 1, stride)) - set(numbers)):
            warn(f"{place} lacks {len(gaps)} frame(s) between others, such as {gaps[0]:06d}")
    name = climate.split("/")[1]
    return {f"{name}/{frame}": {entry: found[entry][frame] for entry in found} for frame in frames}


def _split(numbers: list[int], rule: str, root: Path) -> dict[str, list[int]]:
    """Return the trajectories of train, val and test; ValueError where this copy has none for one of them."""

    def flight(number: int) -> tuple[bool, int]:
        return number in range(4000, 7000), number % 1000  # the world, and the path through it

    published = TABLES["splits"]["cosemdepth_val"]
    test = [number for number in numbers if number % 1000 % 3 == 0]
    train = [number for number in numbers if number not in test]
    held = sorted({flight(number) for number in train})[::VAL_EVERY]
    val = [n for n in test if n in published] if rule == "cosemdepth" else [n for n in train if flight(n) in held]
    splits = {"train": [n for n in train if n not in val], "val": val, "test": [n for n in test if n not in val]}
    if empty := [split for split, some in splits.items() if not some]:
        raise ValueError(
            f"{root}: none of its {len(numbers)} trajectories is for {' and '.join(empty)} of split {rule!r}: numbers "
            "whose last three digits divide by 3 are test, others train; val is some flights of train, or for "
            f"'cosemdepth' the trajectories {', '.join(f'{number:04d}' for number in published)}"
        )
    return splits


def _warn_of_differences(root: Path, numbers: list[int]) -> None:
    """Warn of folders that are not a climate, and of fewer trajectories than are published."""
    folders = [f"{world}/{folder.name}" for world in WORLDS for folder in sorted((root / world).glob("[!.]*/"))]
    if strange := [folder for folder in folders if folder not in CLIMATES]:
        warn(f"{root} holds {', '.join(strange)}, which are not read; climates are {', '.join(CLIMATES)}")
    if (published := sum(map(len, CLIMATES.values()))) != len(numbers):
        counts = {climate: len(set(numbers) & set(known)) for climate, known in CLIMATES.items()}
        held = ", ".join(f"{climate} {count} of {len(CLIMATES[climate])}" for climate, count in counts.items())
        found = f"holds {len(numbers)} of the {published} published trajectories ({held})"
        warn(f"this copy of Mid-Air {found}; results do not compare with published ones")

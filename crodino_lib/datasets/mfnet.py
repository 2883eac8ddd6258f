"""MFNet: streets by day and by night, seen by a colour and a thermal camera.

Homepage: https://www.mi.t.u-tokyo.ac.jp/static/projects/mil_multispectral/

Format: ``images/00001D.png`` (8 bits, 640x480, four channels: R, G, B and thermal, which is no opacity),
``labels/00001D.png`` (8 bits, the ids below) and ``train.txt``, ``val.txt``, ``test.txt`` with 784, 392 and 393 stems;
a stem ends in D by day and in N by night. Copies that hold colour and thermal in files of their own are read as well:
``LAYOUTS``. Thermal is the camera's 8-bit picture, 0..255, not a temperature; the two are registered imperfectly.

Classes: 0 unlabelled, 1 car, 2 person, 3 bike, 4 curve, 5 car stop, 6 guardrail, 7 color cone, 8 bump. Guardrail has
almost no pixels, so its IoU says little.

Source: Ha, Watanabe, Karasawa, Ushiku, Harada, "MFNet: Towards Real-Time Semantic Segmentation for Autonomous Vehicles
with Multi-Spectral Scenes", IROS 2017.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from crodino_lib.config import DataConfig, Strict
from crodino_lib.data.folder import FolderDataset, FolderSpec
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles
from crodino_lib.data.layouts import choose_layout, existing_root, expect_counts, warn
from crodino_lib.data.sample import IGNORE, SceneDataset
from crodino_lib.data.splits import disjoint, read_list, with_val

CLASSES = {
    "unlabelled": "#000000",
    "car": "#400080",
    "person": "#404000",
    "bike": "#0080c0",
    "curve": "#0000c0",
    "car stop": "#808000",
    "guardrail": "#404080",
    "color cone": "#c08080",
    "bump": "#c04000",
}
PUBLISHED = {"train": 784, "val": 392, "test": 393}
VAL_FRACTION = 0.12  # of train, where val is trained on or has no list
FLIPPED = "_flip"  # what the dataset's make_flip.py puts behind the stem of a mirrored picture


def _thermal(folder: str, ext: str, bands: tuple[int, ...] = ()) -> SensorFiles:
    # of the statistics in use, those of CRM_RGBTSeg, which are in the unit of the files
    return SensorFiles(
        dir=folder, ext=ext, bands=bands, kind="u8", unit="0..255", invalid=(), mean=(127.0,), std=(60.0,)
    )


LAYOUTS: dict[str, dict[str, ImageFiles]] = {
    "original": {
        "rgb": ImageFiles(dir="images", ext=".png", bands=(0, 1, 2)),
        "thermal": _thermal("images", ".png", (3,)),
        "label": LabelFiles(dir="labels", ext=".png"),
    },
    "CMX": {
        "rgb": ImageFiles(dir="RGB"),
        "thermal": _thermal("Thermal", ""),
        "label": LabelFiles(dir="Label", ext=".png"),
    },
    "Sigma": {
        "rgb": ImageFiles(dir="RGB"),
        "thermal": _thermal("Modal", ""),
        "label": LabelFiles(dir="Label", ext=".png"),
    },
    "CMNeXt": {
        "rgb": ImageFiles(dir="rgb", ext=".jpg"),
        "thermal": _thermal("ther", ".jpg"),
        "label": LabelFiles(dir="labels", ext=".png"),
    },
    "SemanticRT": {
        "rgb": ImageFiles(dir="seperated_images", ext="_rgb.png"),
        "thermal": _thermal("seperated_images", "_th.png"),
        "label": LabelFiles(dir="labels", ext=".png"),
    },
}


class MFNetOptions(Strict):
    """What can be chosen of MFNet."""

    classes: Literal[9, 8] = Field(
        9,
        description="9 trains and scores unlabelled as a class, as papers since RTFNet; 8 ignores it, as the first did",
    )
    split: Literal["published", "trainval"] = Field(
        "published",
        description="trainval trains on train and val together, as Sigma, less what is held out of them to select on",
    )


def open_mfnet(config: DataConfig, progress: bool = True) -> SceneDataset:
    """Open a copy of MFNet in any of ``LAYOUTS``.

    Args:
        config: names the folder; its options are ``MFNetOptions``. With trainval, Sigma selects on test; here val is
            held out of the 1176 scenes, so that a selection never sees test.
        progress: as for every dataset; opening a folder takes no time that is worth a bar.

    Raises:
        FileNotFoundError: the folder, a list or a file that a list names is missing.
        ValueError: the lists contradict each other.
    """
    options = MFNetOptions(**config.options)
    root, files = choose_layout(existing_root(config), LAYOUTS, "MFNet")
    spec = FolderSpec(
        name="mfnet",
        title=f"MFNet ({options.classes} classes)",
        classes=list(CLASSES)[-options.classes :],
        palette=list(CLASSES.values())[-options.classes :],
        rgb=files["rgb"],
        sensors={"thermal": files["thermal"]},
        label=files["label"].model_copy(update={"offset": options.classes - len(CLASSES)}),
        homepage="https://www.mi.t.u-tokyo.ac.jp/static/projects/mil_multispectral/",
        citation="Q. Ha et al., MFNet: Towards Real-Time Semantic Segmentation for Autonomous Vehicles with "
        "Multi-Spectral Scenes, IROS 2017",
        notes=f"Protocol: {options.classes} classes, split {options.split}. Thermal has no scale of temperature.",
    )
    return MFNet(spec, root, _splits(root, files["rgb"], options.split))


class MFNet(FolderDataset):
    """MFNet, whose labels hold 0..8 and nothing else."""

    def __init__(self, spec: FolderSpec, root: Path, splits: Mapping[str, list[str]]):
        super().__init__(spec, root, splits)
        self._classes[IGNORE] = -1  # 255 tells of ids that somebody converted, and may have shifted

    def fingerprint(self) -> str:
        """A hash of the files, their meaning and the code that reads them; the same wherever the copy lies."""
        return hashlib.sha256(super().fingerprint().encode() + Path(__file__).read_bytes()).hexdigest()


def _splits(root: Path, files: ImageFiles, split: str) -> dict[str, list[str]]:
    lists = {name: f"{name}.txt" for name in PUBLISHED}
    if split == "trainval" and (root / "train2.txt").is_file():  # Sigma's list of both
        lists = {"train": "train2.txt", "test": "test.txt"}
    elif not (root / "val.txt").is_file():
        del lists["val"]
    splits = {name: read_list(root / file, files) for name, file in lists.items()}
    expected = PUBLISHED
    if split == "trainval":
        expected = {"train": PUBLISHED["train"] + PUBLISHED["val"], "test": PUBLISHED["test"]}
        if "val" in splits:
            splits = disjoint(splits, root)
            splits["train"] = splits["train"] + splits.pop("val")
    elif "val" not in splits:
        warn(f"{root} has no val.txt; val is held out of {lists['train']}")
    flipped = [scene_id for scene_id in splits["train"] if scene_id.endswith(FLIPPED)]
    splits["train"] = [scene_id for scene_id in splits["train"] if not scene_id.endswith(FLIPPED)]
    expect_counts({"val": [], **splits}, expected, "MFNet")
    splits = with_val(splits, VAL_FRACTION)
    held = {scene_id + FLIPPED for name in ("val", "test") for scene_id in splits[name]}
    if seen := [scene_id for scene_id in flipped if scene_id in held]:
        warn(f"{root}: {len(seen)} mirrored picture(s) of val or test are left out of train: {', '.join(seen[:10])}")
    splits["train"] += [scene_id for scene_id in flipped if scene_id not in held]
    return _by_light(root, files, splits)


def _by_light(root: Path, files: ImageFiles, splits: dict[str, list[str]]) -> dict[str, list[str]]:
    """``splits`` with test_day and test_night: by list where there is one, else by the last letter of the stem.

    Raises:
        ValueError: a list names what is not in test or was taken in the other light.
    """
    rest = set(splits["test"])
    for name, own, other in (("test_day", "D", "N"), ("test_night", "N", "D")):
        path = root / f"{name}.txt"
        listed = path.is_file()
        ids = read_list(path, files) if listed else [scene_id for scene_id in splits["test"] if scene_id.endswith(own)]
        if wrong := [scene_id for scene_id in ids if scene_id.endswith(other) or scene_id not in splits["test"]]:
            raise ValueError(f"{path} names {len(wrong)} scene(s) not of test or not of that light: {wrong[:5]}")
        rest -= set(ids)
        if ids:
            splits[name] = ids
    if rest:
        warn(f"{root}: {len(rest)} scene(s) of test are in neither test_day nor test_night: {sorted(rest)[:10]}")
    return splits

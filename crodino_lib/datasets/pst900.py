"""PST900: tunnels and mines seen by a robot for the DARPA Subterranean Challenge, rgb, thermal and depth.

Homepage: https://github.com/ShreyasSkandanS/pst900_thermal_rgb

Format: ``{train,test}/{rgb,thermal,thermal_raw,depth,labels}/31_bag1a_rect_rgb_frame0000000007.png``, 1280x720, the
same name in every folder; ``rgb`` 8 bits, three channels; ``thermal`` 8 bits, after the camera's automatic gain;
``thermal_raw`` 16 bits; ``depth`` 16 bits, value / 2560 in a unit that is not documented, presumably metres; ``labels``
8 bits, ids 0..4. Copies that others hand on are flat: ``rgb/ thermal/ labels/ train.txt test.txt``, or the same with
``rgb_resize/ thermal_resize/ labels_resize/``.

Classes: 0 background, 1 fire extinguisher, 2 backpack, 3 hand drill, 4 survivor. All five are trained and scored.

Source: Shivakumar, Rodrigues, Zhou, Miller, Kumar, Taylor, "PST900: RGB-Thermal Calibration, Dataset and Segmentation
Network", ICRA 2020.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from crodino_lib.config import DataConfig, Strict
from crodino_lib.data.folder import FolderDataset, FolderSpec
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles
from crodino_lib.data.layouts import choose_layout, existing_root, expect_counts
from crodino_lib.data.sample import SceneDataset
from crodino_lib.data.splits import hold_out, read_list

CLASSES = {  # the toolkit's palette is in B, G, R: its second colour (0, 0, 255) is red
    "background": "#000000",
    "fire extinguisher": "#ff0000",
    "backpack": "#00ff00",
    "hand drill": "#0000ff",
    "survivor": "#ffffff",
}
RGB_FILES = ImageFiles(dir="rgb", ext=".png")
LABEL_FILES = LabelFiles(dir="labels", ext=".png", ignore=())
THERMAL = {
    # mean and std as the loader of ECM (EGFNet) for PST900 has them: 0.449 and 0.226 of 255
    "agc": SensorFiles(dir="thermal", ext=".png", kind="u8", unit="0..255", invalid=(0,), mean=(114.5,), std=(57.63,)),
    # nobody publishes statistics: these are of counts that are spread evenly over 16 bits. Networks see them in half
    # precision, which has 11 bits of a count's 16
    "raw": SensorFiles(
        dir="thermal_raw",
        ext=".png",
        kind="u16",
        unit="counts",
        invalid=(0,),
        mean=(32768.0,),
        std=(18918.0,),
    ),
}
DEPTH = SensorFiles(  # nobody publishes statistics: these are of depths that are spread evenly over 16 bits
    dir="depth",
    ext=".png",
    kind="u16",
    unit="m (presumed)",
    invalid=(0,),
    scale=1 / 2560,
    mean=(12.8,),
    std=(7.39,),
)
LAYOUTS = {
    "published": {"rgb": ImageFiles(dir="train/rgb")},
    "flat": {"rgb": ImageFiles(dir="rgb"), "label": ImageFiles(dir="labels")},
    "resized": {"rgb": ImageFiles(dir="rgb_resize"), "label": ImageFiles(dir="labels_resize")},
}
NOTES = (
    "Thermal 0 is a hole of its projection into the colour camera, not a cold place: it is invalid, and is not filled "
    "in as PSTNet does. There is no published validation set: it is taken from train in whole recordings (bags), as "
    "neighbouring frames show one scene; published numbers come from models that were trained on all of train. The "
    "README of the authors swaps train and test in its tree and says 606 pairs: the folders' names are trusted."
)
VAL_FRACTION = 0.12


class Pst900Options(Strict):
    """What can be chosen of PST900."""

    thermal: Literal["agc", "raw"] = Field(
        "agc", description="agc: thermal/, 8 bits after the camera's gain; raw: thermal_raw/, 16 bits"
    )
    depth: bool = Field(False, description="read depth/ as a sensor too")


def open_pst900(config: DataConfig, progress: bool = True) -> SceneDataset:
    """Open a copy of PST900.

    Args:
        config: names the folder; its options are ``Pst900Options``.
        progress: as for every dataset; opening takes no time that is worth a bar.

    Raises:
        FileNotFoundError: the root, a folder, a list or a file is missing.
        ValueError: no root is given, a folder holds no picture, train and test share a name, or a list is wrong.
    """
    options = Pst900Options(**config.options)
    root, layout = choose_layout(existing_root(config), LAYOUTS, "PST900")
    files = {"rgb": RGB_FILES, "thermal": THERMAL[options.thermal], "label": LABEL_FILES}
    if options.depth:
        files["depth"] = DEPTH
    if layout is LAYOUTS["published"]:
        splits = _splits_by_folder(root, [entry.dir for entry in files.values()])
        places = {
            name: {"dir": ".", "pattern": rf"(?:train|test)/{entry.dir}/([^/]+)"} for name, entry in files.items()
        }
    else:
        suffix = layout["rgb"].dir.removeprefix("rgb")
        places = {name: {"dir": entry.dir + suffix} for name, entry in files.items()}
        splits = {split: read_list(root / f"{split}.txt", layout["rgb"]) for split in ("train", "test")}
    files = {name: entry.model_copy(update=places[name]) for name, entry in files.items()}
    expect_counts(splits, {"train": 597, "test": 288}, "PST900")
    spec = FolderSpec(
        name="pst900",
        title="PST900",
        classes=list(CLASSES),
        palette=list(CLASSES.values()),
        rgb=files.pop("rgb"),
        label=files.pop("label"),
        sensors=files,
        homepage="https://github.com/ShreyasSkandanS/pst900_thermal_rgb",
        citation="S. Shivakumar et al., PST900: RGB-Thermal Calibration, Dataset and Segmentation Network, ICRA 2020",
        notes=NOTES,
    )
    train, val = _hold_out_bags(splits["train"])
    return FolderDataset(spec, root, {"train": train, "val": val, "test": splits["test"]})


def _splits_by_folder(root: Path, folders: list[str]) -> dict[str, list[str]]:
    """Names of the pictures below ``train`` and ``test``, sorted.

    Raises:
        FileNotFoundError: a folder is missing, or a picture in one of them.
        ValueError: there is no picture.
    """
    splits, missing = {}, []
    for split in ("train", "test"):
        there = {
            folder: ImageFiles(dir=f"{split}/{folder}", ext=".png", pattern="([^/]+)").index(root) for folder in folders
        }
        splits[split] = sorted(set().union(*there.values()))
        if not splits[split]:
            raise ValueError(f"{root / split} holds no picture: expected .png files in {', '.join(folders)}")
        missing += [
            f"{split}/{folder}/{name}.png" for name in splits[split] for folder in folders if name not in there[folder]
        ]
    if missing:
        raise FileNotFoundError(
            f"{root}: {len(missing)} file(s) are missing that other folders have: {', '.join(missing[:10])}"
        )
    return splits


def _hold_out_bags(ids: list[str]) -> tuple[list[str], list[str]]:
    """Train and val in whole recordings: all that names share before the number of the frame.

    Frames of a recording are labelled some twenty apart, so that their numbers are not consecutive; they are counted.
    """
    counted: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for scene_id in sorted(ids):
        bag = re.sub(r"\d+$", "", scene_id)
        ranks[bag] = ranks.get(bag, 0) + 1
        counted[f"{bag}{ranks[bag]:06d}"] = scene_id
    train, val = hold_out(list(counted), VAL_FRACTION)
    return [counted[rank] for rank in train], [counted[rank] for rank in val]

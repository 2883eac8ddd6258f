"""KP day-night: streets by day and by night, the labelled part of the KAIST multispectral pedestrian dataset.

Homepage: https://github.com/yeong5366/MS-UDA (labels), https://github.com/SoonminHwang/rgbt-ped-detection (pictures)

Format: 950 labelled pairs of 640x512 pixels, 8 bits, in either tree of ``LAYOUTS``: that of MS-UDA,
``pseudo_KP/val_day/set00_V000_visible_I00050.png`` and ``_lwir_`` with ``labels/val_day/set00_V000_I00050.png``, of
which only val_day and val_night have true labels; or that of KAIST, ``images/set00/V000/visible/I00050.jpg`` and
``lwir`` with ``labels/set00_V000_I00050.png``. Pictures without a label are no scenes. Lists are not read: the sets of
KAIST make the split, in both trees. Thermal is the camera's 8-bit picture, 0..255, as three equal channels or one.

Classes: the 19 of Cityscapes as train ids, 0 road .. 18 bicycle; 19 (void) and all above are ignored.

Source: Kim et al., "MS-UDA: Multi-Spectral Unsupervised Domain Adaptation for Thermal Image Semantic Segmentation",
RA-L 2021, on Hwang et al., "Multispectral Pedestrian Detection: Benchmark Dataset and Baseline", CVPR 2015. The split
is that of Shin et al., "Complementary Random Masking for RGB-Thermal Semantic Segmentation", ICRA 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import FolderDataset, FolderSpec
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles, decode
from crodino_lib.data.layouts import choose_layout, existing_root, expect_counts, warn
from crodino_lib.data.sample import IGNORE, SceneDataset
from crodino_lib.data.splits import scene_ids

CLASSES = {
    "road": "#804080",
    "sidewalk": "#f423e8",
    "building": "#464646",
    "wall": "#66669c",
    "fence": "#be9999",
    "pole": "#999999",
    "traffic light": "#faaa1e",
    "traffic sign": "#dcdc00",
    "vegetation": "#6b8e23",
    "terrain": "#98fb98",
    "sky": "#4682b4",
    "person": "#dc143c",
    "rider": "#ff0000",
    "car": "#00008e",
    "truck": "#000046",
    "bus": "#003c64",
    "train": "#005064",
    "motorcycle": "#0000e6",
    "bicycle": "#770b20",
}
VOID = len(CLASSES)
SETS = {  # of KAIST; 03, 04, 05, 09, 10 and 11 were taken at night
    "train": ("set00", "set01", "set02", "set03", "set04", "set05"),
    "val": ("set06", "set10"),
    "test": ("set07", "set08", "set09", "set11"),
    "test_day": ("set07", "set08"),
    "test_night": ("set09", "set11"),
}
PUBLISHED = {"train": 499, "val": 140, "test": 311, "test_day": 178, "test_night": 133}
SET, VIDEO, FRAME = r"(set(?:0\d|1[01]))", r"(V\d{3})", r"(I\d{5})"


def _layout(pictures: str, labels: str, folder: str, ext: str) -> dict[str, ImageFiles]:
    """Entry of a sample -> its files; ``pictures`` and ``labels`` are patterns, ``{}`` stands for the sensor."""
    # of the statistics in use, those of CRM_RGBTSeg, which are in the unit of the files
    thermal = {"kind": "u8", "unit": "0..255", "invalid": (), "mean": (127.0,), "std": (60.0,)}
    return {
        "rgb": ImageFiles(dir=folder, ext=ext, pattern=pictures.replace("{}", "visible")),
        "thermal": SensorFiles(dir=folder, ext=ext, pattern=pictures.replace("{}", "lwir"), **thermal),
        "label": LabelFiles(dir="labels", ext=".png", pattern=labels, ignore=tuple(range(VOID, IGNORE + 1))),
    }


LIGHT = "val_(?:day|night)/"
LAYOUTS = {
    "MS-UDA": _layout(f"{LIGHT}{SET}_{VIDEO}_{{}}_{FRAME}", f"{LIGHT}{SET}_{VIDEO}_{FRAME}", "pseudo_KP", ".png"),
    "KAIST": _layout(f"{SET}/{VIDEO}/{{}}/{FRAME}", f"{SET}_{VIDEO}_{FRAME}", "images", ".jpg"),
}


def open_kp(config: DataConfig, progress: bool = True) -> SceneDataset:
    """Open a copy of KP in either of ``LAYOUTS``.

    Args:
        config: names the folder; there are no options.
        progress: as for every dataset; opening a folder takes no time that is worth a bar.

    Raises:
        FileNotFoundError: the folder or a picture of a label is missing.
        ValueError: there is no label of train, val or test, or two files are of one scene.
    """
    root, files = choose_layout(existing_root(config), LAYOUTS, "KP")
    labels = files["label"].index(root)
    if not labels:
        raise ValueError(f"{root / 'labels'} holds no label that is named as set00_V000_I00050.png")
    _warn_of_what_is_passed_over(root, files, labels)
    splits = {split: [scene_id for scene_id in sorted(labels) if scene_id[:5] in sets] for split, sets in SETS.items()}
    expect_counts(splits, PUBLISHED, "KP")
    spec = FolderSpec(
        name="kp",
        title="KP day-night",
        classes=list(CLASSES),
        palette=list(CLASSES.values()),
        rgb=files["rgb"],
        sensors={"thermal": files["thermal"]},
        label=files["label"],
        homepage="https://github.com/yeong5366/MS-UDA",
        citation="Y.-H. Kim et al., MS-UDA: Multi-Spectral Unsupervised Domain Adaptation for Thermal Image Semantic "
        "Segmentation, RA-L 2021; S. Hwang et al., Multispectral Pedestrian Detection, CVPR 2015",
        notes="Split by the sets of KAIST. Papers differ on classes that a split lacks: some count their IoU as 0, "
        "some leave it out. Thermal has no scale of temperature.",
    )
    dataset = FolderDataset(spec, root, {split: ids for split, ids in splits.items() if ids})
    for scene_id in dataset.ids("train")[:: max(1, len(dataset.ids("train")) // 8)]:
        _warn_of_other_ids(labels[scene_id])
    return dataset


def _warn_of_what_is_passed_over(root: Path, files: Mapping[str, ImageFiles], labels: Mapping[str, Path]) -> None:
    """Tell of label files that are named as none is, and of pictures and list lines that should have a label."""
    read, folder = set(labels.values()), root / files["label"].dir
    strange = [path for path in sorted(folder.rglob("*.png")) if path not in read and "visualize" not in path.parts]
    if strange:
        warn(f"{len(strange)} label file(s) are named as no label is, and are not read: {strange[0]}")
    wanted = set(files["rgb"].index(root)) if files is LAYOUTS["MS-UDA"] else set()
    for name in ("train.txt", "val.txt", "test.txt"):
        if (root / name).is_file():
            wanted |= {scene_id.replace("_", "/") for scene_id in scene_ids((root / name).read_text(), files["label"])}
    if lacking := sorted(wanted - set(labels)):
        warn(f"{root}: {len(lacking)} scene(s) of pictures or lists have no label: {', '.join(lacking[:5])}")


def _warn_of_other_ids(path: Path) -> None:
    """Tell of ids that are neither a class nor void: such a file may hold Cityscapes' label ids, not its train ids."""
    if odd := np.setdiff1d(decode(path), [*range(VOID + 1), IGNORE]).tolist():
        warn(f"{path} holds the ids {odd[:8]}, which are ignored; expected Cityscapes train ids 0..18, void 19 or 255")

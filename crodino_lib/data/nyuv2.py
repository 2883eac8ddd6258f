"""NYU Depth v2: indoor scenes seen by a Kinect, rgb and depth.

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012.
"""

from __future__ import annotations

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import FolderDataset, FolderSpec, splits_of
from crodino_lib.data.layouts import existing_root
from crodino_lib.data.pictures import LabelFiles, Pictures, SensorFiles
from crodino_lib.data.sample import SceneDataset

CLASSES_13 = {
    "bed": "#a00000",
    "books": "#ffe040",
    "ceiling": "#a0e0a0",
    "chair": "#0080ff",
    "floor": "#c0a060",
    "furniture": "#e08000",
    "objects": "#ffa0ff",
    "picture": "#e02060",
    "sofa": "#800080",
    "table": "#80ff80",
    "tv": "#800040",
    "wall": "#a0a0a0",
    "window": "#a060a0",
}
CLASSES_40 = """
wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, blinds, desk, shelves,
curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books, refridgerator, television, paper, towel,
shower curtain, box, whiteboard, person, night stand, toilet, sink, lamp, bathtub, bag, otherstructure,
otherfurniture, otherprop
"""
NOTES = (
    "Depth of this layout is the in-filled one in 8 bits: metres = value / 25.5, steps of 3.9 cm, at most 10 m, no "
    "holes. Validation is taken from the official training list in whole runs of consecutive frames. In copies where "
    "class 40 (otherprop) and unlabelled pixels are both 255, 22 % of the pixels are ignored, and the pictures may be "
    "mirrored: numbers are then not comparable with published ones."
)


def open_nyu13(config: DataConfig, progress: bool = True) -> SceneDataset:
    """NYU Depth v2 with the 13 classes of class13Mapping.mat, in alphabetical order.

    Format: ``rgb/NNNN.jpg``, ``depth/NNNN.png`` (8 bits, value / 25.5 metres), ``label13/NNNN.png`` (0..12 or
    255 = ignore), ``train.txt`` and ``test.txt`` (the official 795 and 654). See ``NOTES`` for what such a copy is
    not. For other layouts write a ``dataset.toml`` and use the dataset ``folder``.

    Raises:
        FileNotFoundError: the root or a file is missing.
        ValueError: no root is given, or a list is wrong.
    """
    return _open(config, "nyu13", "label13", list(CLASSES_13), list(CLASSES_13.values()))


def open_nyu40(config: DataConfig, progress: bool = True) -> SceneDataset:
    """NYU Depth v2 with 40 classes; ``label40/NNNN.png`` holds 0..39, 255 = ignore, the rest is as in ``open_nyu13``.

    All 40 classes are declared, so that complete copies read too. Where otherprop is stored as 255, class 39 never
    occurs and is left out of the mean, which makes numbers not comparable with published ones.

    Raises:
        FileNotFoundError: the root or a file is missing.
        ValueError: no root is given, or a list is wrong.
    """
    return _open(config, "nyu40", "label40", [name.strip() for name in CLASSES_40.split(",")], [])


def _open(config: DataConfig, name: str, label: str, classes: list[str], palette: list[str]) -> SceneDataset:
    depth = SensorFiles(
        dir="depth", ext=".png", kind="u8", unit="m", invalid=(0,), scale=1 / 25.5, mean=(2.824,), std=(1.418,)
    )  # mean and std measured on the 795 training scenes
    spec = FolderSpec(
        name=name,
        title=f"NYU Depth v2 ({len(classes)} classes)",
        classes=classes,
        palette=palette,
        rgb=Pictures(dir="rgb", ext=".jpg"),
        sensors={"depth": depth},
        label=LabelFiles(dir=label, ext=".png"),
        splits={"train": "train.txt", "test": "test.txt"},
        homepage="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
        citation="N. Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012",
        notes=NOTES,
    )
    root = existing_root(config)
    return FolderDataset(spec, root, splits_of(spec, root))

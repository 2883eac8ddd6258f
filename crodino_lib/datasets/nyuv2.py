"""NYU Depth v2: indoor scenes seen by a Kinect, rgb and depth; the original file or a tree exported from it.

Homepage: https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html

``root`` is one of

- the original ``nyu_depth_v2_labeled.mat``, or a folder that holds it, see ``nyu_mat``; it goes before the others;
- a tree of 8 bits: ``rgb/NNNN.jpg``, ``depth/NNNN.png`` (value / 25.5 metres), ``label13`` or ``label40/NNNN.png``
  (0..12 or 0..39, 255 = ignore), ``train.txt`` and ``test.txt`` (the official 795 and 654);
- the export of nicr-scene-analysis-datasets: ``{train,test}/{rgb,depth,depth_raw,semantic_40,semantic_13}/NNNN.png``
  with depth in 16 bits of millimetres, classes from 1 and 0 = void, ids from 0, ``train.txt`` and ``test.txt``.

Ids count from 1 in the first two and from 0 in the third, as their files do: never join them by id. Classes have the
order of ``CLASSES``: 0 bed, 1 books, ... 12 window, or 0 wall, 1 floor, ... 39 otherprop.

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import PALETTE, FolderDataset, FolderSpec, splits_of
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles
from crodino_lib.data.layouts import LayoutError, choose_layout, existing_root, expect_counts
from crodino_lib.data.sample import RGB, DatasetCard, Sample, SceneDataset, Sensor
from crodino_lib.datasets import nyu_mat
from crodino_lib.datasets.nyu_mat import INSIDE, MAT_NAME, NyuMatDataset, NyuOptions, find_mat, finished, framed
from crodino_lib.datasets.nyu_tables import classes_of_894, official_split

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
CLASSES = {13: CLASSES_13, 40: dict(zip(CLASSES_40.replace("\n", " ").strip().split(", "), PALETTE, strict=True))}
# metres, mean and std of the training scenes by ESANet, github.com/TUI-NICR/ESANet src/preprocessing.py
STATISTICS = {"refined": ((2.841949,), (1.417259,)), "raw": ((2.769019,), (1.350417,))}
NOTES_8_BITS = (
    "Depth of this layout is the in-filled one in 8 bits: metres = value / 25.5, steps of 3.9 cm, at most 10 m, no "
    "holes. Validation is taken from the official training list in whole runs of consecutive frames. In copies where "
    "class 40 (otherprop) and unlabelled pixels are both 255, 22 % of the pixels are ignored, and the pictures may be "
    "mirrored: numbers are then not comparable with published ones."
)
FOCAL_PX = 518.86  # of the camera in colour, from the camera_params.m of the dataset's toolbox
NOTES = (
    "Classes, test scenes and depth ({depth}) are the published ones. Validation is taken from the official training "
    "list in whole runs of consecutive frames, so that fewer scenes are trained on than in publications.{border}"
)
BORDER = " The border is left out, whose pixels publications count."


def open_nyu13(config: DataConfig, progress: bool = True) -> SceneDataset:
    """NYU Depth v2 with the 13 classes of class13Mapping.mat, in alphabetical order; others order them otherwise.

    Args:
        config: names the copy; its options are ``NyuOptions``.
        progress: as for every dataset; opening a copy takes no time that is worth a bar.

    Raises:
        FileNotFoundError: the root or a file is missing.
        ValueError: no root is given, a file or list is wrong, or the copy lacks what an option asks for.
    """
    return _open(config, 13)


def open_nyu40(config: DataConfig, progress: bool = True) -> SceneDataset:
    """NYU Depth v2 with 40 classes, the rest is as in ``open_nyu13``.

    All 40 classes are declared, so that complete copies read too. Where otherprop is stored as 255, class 39 never
    occurs and is left out of the mean, which makes numbers not comparable with published ones.

    Raises:
        FileNotFoundError: the root or a file is missing.
        ValueError: no root is given, a file or list is wrong, or the copy lacks what an option asks for.
    """
    return _open(config, 40)


def _open(config: DataConfig, count: Literal[13, 40]) -> SceneDataset:
    options = NyuOptions(**config.options)
    about = {
        "name": f"nyu{count}",
        "title": f"NYU Depth v2 ({count} classes)",
        "classes": tuple(CLASSES[count]),
        "homepage": "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
        "citation": "N. Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012",
        "notes": NOTES.format(depth=options.depth, border=BORDER * options.crop_border),
    }
    if path := find_mat(config):
        palette = tuple(tuple(bytes.fromhex(colour[1:])) for colour in CLASSES[count].values())
        sensors = {"rgb": RGB, "depth": Sensor(1, "m", *STATISTICS[options.depth], focal=focal(options))}
        card = DatasetCard(**about, sensors=sensors, palette=palette, splits=(), native_size=(0, 0))
        return NyuMatDataset(path, card, classes_of_894(count), options)
    about |= {"palette": list(CLASSES[count].values()), "splits": {"train": "train.txt", "test": "test.txt"}}
    depth = "depth_raw" if options.depth == "raw" else "depth"
    layouts = {
        "tree of 8 bits": {name: ImageFiles(dir=name) for name in ("rgb", f"label{count}")},
        "export of nicr-scene-analysis-datasets": {
            name: ImageFiles(dir=name)
            for name in (
                f"{split}/{kind}" for split in ("train", "test") for kind in ("rgb", depth, f"semantic_{count}")
            )
        },
    }
    root = existing_root(config)
    try:
        root, layout = choose_layout(root, layouts, "NYU Depth v2")
    except LayoutError as error:
        raise LayoutError(f"{error}\n{root} does not hold the original {MAT_NAME} either") from None
    if layout is layouts["tree of 8 bits"]:
        return _open_8_bits(root, about, f"label{count}", options)
    return _open_export(root, about, f"semantic_{count}", depth, options)


def focal(options: NyuOptions) -> float:
    """Focal length in widths of the picture; depth is projected onto the picture in colour."""
    return FOCAL_PX / (INSIDE[1].stop - INSIDE[1].start if options.crop_border else 640)


def _open_8_bits(root: Path, about: dict[str, Any], label: str, options: NyuOptions) -> FolderDataset:
    if options != NyuOptions():
        raise ValueError(
            f"{root} is a tree of 8 bits: it has no raw depth, and as its pictures may be mirrored no known border; "
            f"options depth and crop_border need {MAT_NAME} or an export"
        )
    depth = SensorFiles(
        dir="depth",
        ext=".png",
        kind="u8",
        unit="m",
        invalid=(0,),
        scale=1 / 25.5,
        mean=(2.824,),
        std=(1.418,),
        focal=focal(options),
    )  # mean and std measured on the 795 training scenes
    spec = FolderSpec(
        **about | {"notes": NOTES_8_BITS},
        rgb=ImageFiles(dir="rgb", ext=".jpg"),
        sensors={"depth": depth},
        label=LabelFiles(dir=label, ext=".png"),
    )
    return FolderDataset(spec, root, splits_of(spec, root))


def _open_export(root: Path, about: dict[str, Any], label: str, depth: str, options: NyuOptions) -> FolderDataset:
    def files(folder: str) -> dict[str, str]:
        return {"dir": ".", "ext": ".png", "pattern": rf"(?:train|test)/{folder}/(\d+)"}

    mean, std = STATISTICS[options.depth]
    sensor = SensorFiles(
        **files(depth), kind="u16", unit="m", invalid=(0,), scale=0.001, mean=mean, std=std, focal=focal(options)
    )
    spec = FolderSpec(
        **about,
        rgb=ImageFiles(**files("rgb")),
        sensors={"depth": sensor},
        label=LabelFiles(**files(label), offset=-1, ignore=()),
    )
    splits = splits_of(spec, root)
    listed = {"train": splits["train"] + splits["val"], "test": splits["test"]}
    official = official_split(first=0)
    for split, ids in listed.items():
        if wrong := sorted(set(ids) - set(official[split])):
            raise ValueError(
                f"{root / split}.txt names {len(wrong)} scene(s) that are not in the official {split}, such as "
                f"{', '.join(wrong[:5])}; expected the scenes of splits.mat counted from 0"
            )
    expect_counts(listed, {split: len(ids) for split, ids in official.items()}, "NYU Depth v2")
    return NyuExport(spec, root, splits, options.crop_border)


class NyuExport(FolderDataset):
    """The export of nicr-scene-analysis-datasets, with or without the border; arguments else as ``FolderDataset``."""

    def __init__(self, spec: FolderSpec, root: Path, splits: dict[str, list[str]], crop_border: bool):
        super().__init__(spec, root, splits)
        self.crop_border = crop_border
        self.card = dataclasses.replace(
            self.card, native_size=framed(self.card.native_size, crop_border, f"{root}, the first scene of train,")
        )

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        sample = super().read(scene_id)
        return finished(sample, self.crop_border, str(self._files[scene_id]["depth"]))

    def fingerprint(self) -> str:
        """A hash of the files, their meaning, what was chosen and the code that reads them."""
        code = Path(nyu_mat.__file__).read_bytes() + Path(__file__).read_bytes()
        return hashlib.sha256(code + f"{super().fingerprint()} {self.crop_border}".encode()).hexdigest()

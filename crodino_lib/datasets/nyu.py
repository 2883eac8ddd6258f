"""Read NYU Depth v2: indoor scenes of a Kinect, rgb and depth; the original file or a tree exported from it.

Homepage: https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html

``root`` is one of

- the original ``nyu_depth_v2_labeled.mat``, or a folder that holds it, see ``nyu_mat``; it goes before the others;
- a tree of 8 bits: ``rgb/NNNN.jpg``, ``depth/NNNN.png`` (value / 25.5 metres), ``label13`` or ``label40/NNNN.png``
  (0..12 or 0..39, 255 = ignore), ``train.txt`` and ``test.txt`` (the official 795 and 654);
- the export of nicr-scene-analysis-datasets: ``{train,test}/{rgb,depth,depth_raw,semantic_40,semantic_13}/NNNN.png``
  with depth in 16 bits of millimetres, classes from 1 and 0 = void, ids from 0, ``train.txt`` and ``test.txt``.

Ids count from 1 in the first two and from 0 in the third, as their files do: never join them by id. Classes have the
order of ``nyu.toml``: 0 bed, 1 books, ... 12 window, or 0 wall, 1 floor, ... 39 otherprop.

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import FolderDataset, FolderSpec, splits_of
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles, existing
from crodino_lib.data.layouts import ARCHIVES, LayoutError, choose_layout, existing_root, expect_counts
from crodino_lib.data.sample import RGB, DatasetCard, Sample, SceneDataset
from crodino_lib.datasets import nyu_mat
from crodino_lib.datasets.nyu_mat import FULL_SIZE, INSIDE, TABLES, NyuOptions

MAT_NAME = "nyu_depth_v2_labeled.mat"
FOCAL_PX = 518.86  # of the camera in colour, from the camera_params.m of the dataset's toolbox
CLASSES = {count: TABLES["classes"][str(count)] for count in (13, 40)}
TREE = "tree of 8 bits"


def open_nyu13(config: DataConfig) -> SceneDataset:
    """Open NYU Depth v2 with the 13 classes of class13Mapping.mat, in alphabetical order; options: ``NyuOptions``.

    Raises:
        FileNotFoundError: the root or a file is missing.
        ValueError: no root is given, a file or list is wrong, or the copy lacks what an option asks for.
    """
    return _open(config, 13)


def open_nyu40(config: DataConfig) -> SceneDataset:
    """Open NYU Depth v2 with 40 classes; all else is as in ``open_nyu13``.

    Where a copy stores otherprop as 255, class 39 never occurs: numbers do not compare with published ones.
    """
    return _open(config, 40)


def _open(config: DataConfig, count: Literal[13, 40]) -> SceneDataset:
    options, notes = NyuOptions(**config.options), TABLES["notes"]
    about = TABLES["about"] | {
        "name": f"nyu{count}",
        "title": f"NYU Depth v2 ({count} classes)",
        "classes": tuple(CLASSES[count]),
        "notes": notes["published"].replace("DEPTH", options.depth) + notes["border"] * options.crop_border,
    }
    colours = tuple(CLASSES[count].values())
    if path := find_mat(config):
        palette = tuple(tuple(bytes.fromhex(colour[1:])) for colour in colours)
        sensors = {"rgb": RGB, "depth": _depth(options.depth, options, dir="", kind="float").sensor}
        card = DatasetCard(**about, sensors=sensors, palette=palette, splits=(), native_size=(0, 0))
        return nyu_mat.NyuMatDataset(path, card, nyu_mat.classes_of_894(count), options)
    kinds = ("rgb", "depth_raw" if options.depth == "raw" else "depth", f"semantic_{count}")
    export = [f"{split}/{kind}" for split in ("train", "test") for kind in kinds]
    layouts = {TREE: ("rgb", f"label{count}"), "export of nicr-scene-analysis-datasets": export}
    root = existing_root(config)
    try:
        root, layout = choose_layout(root, layouts, "NYU Depth v2")
    except LayoutError as error:
        raise LayoutError(f"{error}\n{root} does not hold the original {MAT_NAME} either") from None
    about |= {"palette": colours, "splits": {"train": "train.txt", "test": "test.txt"}}
    if layout == TREE:
        return _open_tree(root, about, f"label{count}", options)
    return _open_export(root, about, kinds, options)


def find_mat(config: DataConfig) -> Path | None:
    """Find the original file that ``config.root`` is, or holds up to two folders deep; None where it holds none.

    Raises:
        FileNotFoundError: the root does not exist; proposes a neighbour.
        ValueError: no root is given, it is an archive, or holds several such files.
    """
    root = Path(config.root).expanduser().resolve()
    if root.is_file() and root.suffix.lower() not in ARCHIVES:
        return root
    if root.suffix.lower() == ".mat":
        existing(root, "file", "*.mat")
    root = existing_root(config)
    paths = [path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}*.mat")]
    found = [path for path in paths if path.name.lower() == MAT_NAME]
    if len(found) > 1:
        raise ValueError(f"{root} holds {len(found)} files {MAT_NAME}; give one as root: {', '.join(map(str, found))}")
    return found[0] if found else None


def _depth(statistics: str, options: NyuOptions, **files: Any) -> SensorFiles:
    """Return depth in metres; it is projected onto the picture in colour, so its focal length is that camera's."""
    width = INSIDE[1].stop - INSIDE[1].start if options.crop_border else FULL_SIZE[0]
    return SensorFiles(unit="m", invalid=(0,), focal=FOCAL_PX / width, **TABLES["depth"][statistics], **files)


def _open_tree(root: Path, about: dict[str, Any], label: str, options: NyuOptions) -> FolderDataset:
    if options != NyuOptions():
        raise ValueError(
            f"{root} is a tree of 8 bits: it has no raw depth, and as its pictures may be mirrored no known border; "
            f"options depth and crop_border need {MAT_NAME} or an export"
        )
    spec = FolderSpec(
        **about | {"notes": TABLES["notes"]["tree"]},
        rgb=ImageFiles(dir="rgb", ext=".jpg"),
        sensors={"depth": _depth("tree", options, dir="depth", ext=".png", kind="u8", scale=1 / 25.5)},
        label=LabelFiles(dir=label, ext=".png"),
    )
    return FolderDataset(spec, root, splits_of(spec, root))


def _open_export(root: Path, about: dict[str, Any], kinds: tuple[str, ...], options: NyuOptions) -> FolderDataset:
    rgb, depth, label = ({"dir": ".", "ext": ".png", "pattern": rf"(?:train|test)/{kind}/(\d+)"} for kind in kinds)
    spec = FolderSpec(
        **about,
        rgb=ImageFiles(**rgb),
        sensors={"depth": _depth(options.depth, options, **depth, kind="u16", scale=0.001)},
        label=LabelFiles(**label, offset=-1, ignore=()),
    )
    splits = splits_of(spec, root)
    listed = {"train": splits["train"] + splits["val"], "test": splits["test"]}
    official = nyu_mat.official_split(first=0)
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
        size = nyu_mat.cropped_size(self.card.native_size, crop_border, f"{root}, the first scene of train,")
        self.card = dataclasses.replace(self.card, native_size=size)

    def read(self, scene_id: str) -> Sample:
        """Read one scene; see ``SceneDataset.read``."""
        return nyu_mat.checked_scene(super().read(scene_id), self.crop_border, str(self._files[scene_id]["depth"]))

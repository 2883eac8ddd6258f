"""Read MFNet, PST900 and KP day-night, which pair a colour with a thermal camera; ``rgbt.toml`` holds their facts.

**MFNet** (https://www.mi.t.u-tokyo.ac.jp/static/projects/mil_multispectral/), streets by day and by night.
``images/00001D.png`` (8 bits, 640x480, four channels: R, G, B and thermal), ``labels/00001D.png`` (ids 0..8) and
``train.txt``, ``val.txt``, ``test.txt`` with 784, 392 and 393 stems; a stem ends in D by day and in N by night. Copies
with colour and thermal in files of their own are read as well. Guardrail has almost no pixels, so its IoU says little.
Source: Ha et al., "MFNet: Towards Real-Time Semantic Segmentation for Autonomous Vehicles with Multi-Spectral Scenes",
IROS 2017.

**PST900** (https://github.com/ShreyasSkandanS/pst900_thermal_rgb), tunnels and mines seen by a robot.
``{train,test}/{rgb,thermal,thermal_raw,depth,labels}/31_bag1a_rect_rgb_frame0000000007.png``, 1280x720, the same name
in every folder; ``rgb`` and ``thermal`` (after the camera's automatic gain) in 8 bits, ``thermal_raw`` in 16, ``depth``
in 16 as value / 2560 in an undocumented unit, presumably metres, ``labels`` with ids 0..4. Flat copies are read as
well: ``rgb/ thermal/ labels/ train.txt test.txt``, or the same with ``rgb_resize/ thermal_resize/ labels_resize/``.
Source: Shivakumar et al., "PST900: RGB-Thermal Calibration, Dataset and Segmentation Network", ICRA 2020.

**KP day-night** (https://github.com/yeong5366/MS-UDA), streets of the KAIST pedestrian dataset
(https://github.com/SoonminHwang/rgbt-ped-detection). 950 labelled pairs of 640x512 pixels in 8 bits, in the tree of
MS-UDA or in that of KAIST. Pictures without a label are not scenes. Lists are not read: the sets of KAIST make the
split. Thermal has three equal channels or one. Labels are train ids of Cityscapes; 19 (void) and above are ignored.
Source: Kim et al., "MS-UDA: Multi-Spectral Unsupervised Domain Adaptation for Thermal Image Semantic Segmentation",
RA-L 2021; Hwang et al., "Multispectral Pedestrian Detection: Benchmark Dataset and Baseline", CVPR 2015. The split is
that of Shin et al., "Complementary Random Masking for RGB-Thermal Semantic Segmentation", ICRA 2024.

Thermal is the camera's picture, not a temperature, in all three. The functions that open a copy raise FileNotFoundError
where the folder, a list or a file is missing, and ValueError where a folder is empty or files or lists are wrong.
"""

import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from crodino_lib.config import DataConfig
from crodino_lib.data.decode import decode
from crodino_lib.data.folder import FolderDataset, FolderSpec
from crodino_lib.data.image_files import ImageFiles, LabelFiles, SensorFiles, existing
from crodino_lib.data.layouts import choose_layout, existing_root, expect_counts, warn
from crodino_lib.data.sample import IGNORE, SceneDataset
from crodino_lib.data.splits import disjoint, read_list, scene_ids, with_val
from crodino_lib.settings import Strict

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
VAL_FRACTION = 0.12  # of train, where val is trained on or has no list
FLIPPED = "_flip"  # what MFNet's make_flip.py puts behind the stem of a mirrored picture


class MFNetOptions(Strict):
    """Options of MFNet."""

    classes: Literal[9, 8] = Field(
        9, description="9: unlabelled is a class, as in papers since RTFNet; 8: it is ignored, as in the first paper"
    )
    split: Literal["published", "trainval"] = Field(
        "published", description="trainval trains on train and val, as Sigma, and holds a part of both out for val"
    )


class Pst900Options(Strict):
    """Options of PST900."""

    thermal: Literal["agc", "raw"] = Field("agc", description="thermal/, 8 bits after the gain, or thermal_raw/, 16")
    depth: bool = Field(False, description="read depth/ as a sensor too")


def _files(table: Mapping[str, Any], entry: str, **own: Any) -> ImageFiles:
    """Return the files of one entry of a sample: what holds for all layouts, and what is this layout's own."""
    kind = {"rgb": ImageFiles, "label": LabelFiles}.get(entry, SensorFiles)
    return kind(**table.get(entry, {}) | own)


def _find(config: DataConfig, name: str) -> tuple[Path, str, dict[str, ImageFiles]]:
    """Return the folder of a copy, the layout it is in, and entry of a sample -> its files."""
    table, layouts = TABLES[name], {}
    for layout, entries in table["layouts"].items():
        layouts[layout] = {entry: _files(table, entry, **own) for entry, own in entries.items()}
    folders = {layout: [entry.dir for entry in files.values()] for layout, files in layouts.items()}
    root, layout = choose_layout(existing_root(config), folders, table["title"])
    return root, layout, layouts[layout]


def _spec(name: str, files: Mapping[str, ImageFiles], **own: Any) -> FolderSpec:
    """Return the meaning of the files, from the dataset's table where ``own`` does not say otherwise."""
    table = TABLES[name]
    facts = {key: table[key] for key in ("title", "homepage", "citation", "notes") if key in table}
    facts |= {"classes": list(table["classes"]), "palette": list(table["classes"].values())} | own
    sensors = {entry: value for entry, value in files.items() if entry not in ("rgb", "label")}
    return FolderSpec(name=name, rgb=files["rgb"], label=files["label"], sensors=sensors, **facts)


def open_mfnet(config: DataConfig) -> SceneDataset:
    """Open a copy of MFNet in any of its layouts; the options are ``MFNetOptions``.

    With trainval, Sigma selects on test; here val is held out of the 1176 scenes, so that a selection never uses test.
    """
    options = MFNetOptions(**config.options)
    root, _, files = _find(config, "mfnet")
    label = files["label"].model_copy(update={"offset": options.classes - 9})
    colours = dict(list(TABLES["mfnet"]["classes"].items())[-options.classes :])
    spec = _spec(
        "mfnet",
        files | {"label": label},
        title=f"MFNet ({options.classes} classes)",
        classes=list(colours),
        palette=list(colours.values()),
        notes=f"Protocol: {options.classes} classes, split {options.split}. Thermal has no scale of temperature.",
    )
    return FolderDataset(spec, root, _mfnet_splits(root, files["rgb"], options.split))


def _mfnet_splits(root: Path, files: ImageFiles, split: str) -> dict[str, list[str]]:
    published = TABLES["mfnet"]["published"]
    lists = {name: f"{name}.txt" for name in published}
    if split == "trainval" and (root / "train2.txt").is_file():  # Sigma's list of both
        lists = {"train": "train2.txt", "test": "test.txt"}
    elif not (root / "val.txt").is_file():
        del lists["val"]
    splits = {name: read_list(root / file, files) for name, file in lists.items()}
    if split == "trainval":
        published = {"train": published["train"] + published["val"], "test": published["test"]}
        if "val" in splits:
            splits = disjoint(splits, root)
            splits["train"] = splits["train"] + splits.pop("val")
    elif "val" not in splits:
        warn(f"{root} has no val.txt; val is held out of {lists['train']}")
    flipped = [scene_id for scene_id in splits["train"] if scene_id.endswith(FLIPPED)]
    splits["train"] = [scene_id for scene_id in splits["train"] if not scene_id.endswith(FLIPPED)]
    expect_counts(splits, published, "MFNet")
    splits = with_val(splits, VAL_FRACTION)
    held = {scene_id + FLIPPED for name in ("val", "test") for scene_id in splits[name]}
    if leaking := [scene_id for scene_id in flipped if scene_id in held]:
        warn(f"{root}: {len(leaking)} mirrored pictures of val or test are left out of train: {leaking[:10]}")
    splits["train"] += [scene_id for scene_id in flipped if scene_id not in held]
    return splits | _by_light(root, files, splits["test"])


def _by_light(root: Path, files: ImageFiles, test: list[str]) -> dict[str, list[str]]:
    """Return test_day and test_night: by list where there is one, else by the last letter of the stem."""
    splits: dict[str, list[str]] = {}
    for name, own, other in (("test_day", "D", "N"), ("test_night", "N", "D")):
        path = root / f"{name}.txt"
        ids = read_list(path, files) if path.is_file() else [scene_id for scene_id in test if scene_id.endswith(own)]
        if wrong := [scene_id for scene_id in ids if scene_id.endswith(other) or scene_id not in test]:
            raise ValueError(f"{path} names {len(wrong)} scene(s) not of test or not of that light: {wrong[:5]}")
        if ids:
            splits[name] = ids
    if rest := sorted(set(test).difference(*splits.values())):
        warn(f"{root}: {len(rest)} scene(s) of test are in neither test_day nor test_night: {rest[:10]}")
    return splits


def open_pst900(config: DataConfig) -> SceneDataset:
    """Open a copy of PST900, as published or flat; the options are ``Pst900Options``.

    Val is whole recordings of train: frames whose names are equal up to the number.
    """
    options, table = Pst900Options(**config.options), TABLES["pst900"]
    folders = {"rgb": "rgb", "label": "labels", "thermal": "thermal_raw" if options.thermal == "raw" else "thermal"}
    folders |= {"depth": "depth"} if options.depth else {}
    layouts = {"published": ["train/rgb"], "flat": ["rgb", "labels"], "resized": ["rgb_resize", "labels_resize"]}
    root, layout = choose_layout(existing_root(config), layouts, table["title"])
    table = table | {"thermal": table[options.thermal]}
    if layout == "published":
        own = {entry: {"dir": ".", "pattern": f"(?:train|test)/{folder}/([^/]+)"} for entry, folder in folders.items()}
    else:
        own = {entry: {"dir": folder + "_resize" * (layout == "resized")} for entry, folder in folders.items()}
    files = {entry: _files(table, entry, **own[entry]) for entry in folders}
    if layout == "published":
        splits = _splits_by_folder(root, list(folders.values()), files)
    else:
        splits = {split: read_list(root / f"{split}.txt", files["rgb"]) for split in ("train", "test")}
    expect_counts(splits, table["published"], "PST900")
    splits = with_val(splits | {"train": sorted(splits["train"])}, VAL_FRACTION)
    return FolderDataset(_spec("pst900", files), root, splits)


def _splits_by_folder(root: Path, folders: list[str], files: Mapping[str, ImageFiles]) -> dict[str, list[str]]:
    """Return the names of all pictures below ``train`` and ``test``, sorted; an error where a folder has none."""
    for split, folder in itertools.product(("train", "test"), folders):
        existing(root / split / folder)
    names: dict[str, set[str]] = {"train": set(), "test": set()}
    for entry in files.values():
        for name, path in entry.index(root).items():
            names[path.relative_to(root).parts[0]].add(name)
    if empty := [split for split, found in names.items() if not found]:
        raise ValueError(f"{root / empty[0]} holds no picture: expected .png files in {', '.join(folders)}")
    return {split: sorted(found) for split, found in names.items()}


def open_kp(config: DataConfig) -> SceneDataset:
    """Open a copy of KP day-night in the tree of MS-UDA or of KAIST; there are no options."""
    table = TABLES["kp"]
    root, layout, files = _find(config, "kp")
    void = len(table["classes"])
    files["label"] = files["label"].model_copy(update={"ignore": tuple(range(void, IGNORE + 1))})
    labels = files["label"].index(root)
    if not labels:
        raise ValueError(f"{root / 'labels'} holds no label that is named like set00_V000_I00050.png")
    _warn_of_labels(root, files["label"], labels, files["rgb"].index(root) if layout == "MS-UDA" else {})
    splits = {split: [i for i in sorted(labels) if i[:5] in sets] for split, sets in table["sets"].items()}
    expect_counts(splits, table["published"], table["title"])
    dataset = FolderDataset(_spec("kp", files), root, {split: ids for split, ids in splits.items() if ids})
    train = dataset.ids("train")
    for path in (labels[scene_id] for scene_id in train[:: max(1, len(train) // 8)]):
        if odd := np.setdiff1d(decode(path), [*range(void + 1), IGNORE]).tolist():  # label ids, not train ids
            warn(f"{path} holds the ids {odd[:8]}, which are ignored; expected Cityscapes train ids 0..18, 19 or 255")
    return dataset


def _warn_of_labels(root: Path, files: ImageFiles, labels: Mapping[str, Path], pictures: Mapping[str, Path]) -> None:
    """Warn of label files whose names are not read, and of pictures and scenes of lists without a label."""
    there = ImageFiles(dir="labels", ext=".png").index(root).values()
    if strange := sorted(path for path in set(there) - set(labels.values()) if "visualize" not in path.parts):
        warn(f"{len(strange)} label file(s) have other names than labels and are not read: {strange[0]}")
    lists = [path for name in ("train", "val", "test") if (path := root / f"{name}.txt").is_file()]
    listed = [scene_id.replace("_", "/") for path in lists for scene_id in scene_ids(path.read_text(), files)]
    if lacking := sorted({*pictures, *listed} - set(labels)):
        warn(f"{root}: {len(lacking)} scene(s) of pictures or lists have no label: {', '.join(lacking[:5])}")

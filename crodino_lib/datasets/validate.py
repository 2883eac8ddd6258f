"""Validate a dataset folder before anybody trains on it: `crodino inspect FOLDER`."""

import os
import textwrap
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crodino_lib.config import DataConfig
from crodino_lib.data.checks import SplitStatistics
from crodino_lib.data.decode import SUFFIXES, open_picture
from crodino_lib.data.folder_spec import PRESETS
from crodino_lib.data.layouts import LayoutError
from crodino_lib.data.registry import DATASETS, check_data, open_dataset
from crodino_lib.data.sample import IGNORE, Sample, SceneDataset, check_sample
from crodino_lib.data.scene_cache import read_ahead
from crodino_lib.io import bar

SPREAD = 8  # scenes of a split, evenly spread over it, that are read unless all are asked for
SHOWN = 2  # scenes of a split on the contact sheet
FILE_ROWS = 40


@dataclass
class Inspection:
    """Result of ``inspect_folder``.

    ``readings`` is dataset name -> the error with which the folder does not open as it, empty where it opens;
    ``classes`` each class's share of a split's labelled pixels in per cent, its last row a share of all pixels.
    """

    files: pd.DataFrame  # one row per folder and ending: how many files, and what the first of them holds
    readings: dict[str, str] = field(default_factory=dict)
    dataset: SceneDataset | None = None  # the folder opened as the first dataset that it is
    splits: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row per split: scenes, scenes read, their sizes
    sensors: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row per sensor and split, in the sensor's unit
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples: list[Sample] = field(default_factory=list)  # the scenes of the contact sheet
    warnings: list[str] = field(default_factory=list)  # what does not stop training and should be known
    problems: list[str] = field(default_factory=list)  # what makes training fail or its numbers wrong


def inspect_folder(
    root: Path, name: str = "", options: dict[str, Any] | None = None, everything: bool = False
) -> Inspection:
    """Find out which dataset ``root`` is, read scenes of it, and list what is wrong with them.

    Args:
        root: the folder, or the file of a dataset that is one.
        name: dataset it should be, with its ``options``; all datasets and presets are tried where none is named.
        everything: read all scenes instead of some of every split.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no such dataset or option.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist")
    result = Inspection(file_table(root))
    candidates = {name: (name, options or {})}
    if not name:  # presets only where no dataset.toml states what the folder holds
        presets = () if (root / "dataset.toml").exists() else PRESETS
        candidates = {dataset: (dataset, {}) for dataset, entry in DATASETS.items() if entry.needs_root}
        candidates |= {f"folder preset={preset}": ("folder", {"preset": preset}) for preset in presets}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for candidate, (dataset, chosen) in candidates.items():
            config, known = DataConfig(dataset=dataset, root=str(root), options=chosen), len(caught)
            check_data(config)
            try:
                opened = open_dataset(config)
                result.readings[candidate] = ""
            except (ValueError, OSError, ImportError) as error:
                opened, result.readings[candidate] = None, str(error)
                if name or not isinstance(error, LayoutError):
                    result.problems.append(f"as {candidate}: {error}")
            if opened is None or result.dataset is not None:
                del caught[known:]  # of a dataset that is not looked at
            result.dataset = result.dataset or opened
        if result.dataset is not None:
            result.problems = []  # of datasets that it is not
            _read_scenes(result, everything)
        elif not name and not (root / "dataset.toml").exists():
            near = [str(path) for path in (*sorted(root.glob("*/dataset.toml")), *sorted(root.glob("dataset.toml?*")))]
            hint = f"is {near[0]} meant?" if near else f"crodino inspect {root} --draft writes one from what lies there"
            result.problems.append(f"unknown layout, and no dataset.toml says what {root} holds: {hint}")
    result.warnings += dict.fromkeys(str(warning.message) for warning in caught)
    return result


def file_table(root: Path) -> pd.DataFrame:
    """Return one row per folder and ending below ``root``: how many files, and what the first of them holds."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for parent, folders, names in os.walk(root) if root.is_dir() else [(root.parent, [], [root.name])]:
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in sorted(Path(parent, name) for name in names if not name.startswith(".")):
            groups.setdefault((os.path.relpath(parent, root), path.suffix.lower()), []).append(path)
    shown = list(groups.items())[:FILE_ROWS]
    rows = [(*key, len(paths), paths[0].name, contents(paths[0])) for key, paths in shown]
    if len(groups) > FILE_ROWS:
        rows.append((f"and {len(groups) - FILE_ROWS} more", "", "", "", ""))
    return pd.DataFrame(rows, columns=["folder", "ending", "files", "first", "holds"])


def contents(path: Path) -> str:
    """Return the type, size, channels and values of one file; the reason, where it cannot be read."""
    if path.suffix.lower() not in SUFFIXES:
        return f"{path.stat().st_size:,} bytes" if path.exists() else "a link to nothing"
    try:
        pixels, no_data, turn = open_picture(path)
    except (ValueError, OSError, ImportError) as error:
        return f"unreadable: {error}"
    if not pixels.size or pixels.ndim < 2 or pixels.dtype.kind not in "uif":
        return f"{pixels.dtype} of shape {pixels.shape}"
    values = np.unique(pixels)
    size = "x".join(map(str, (pixels.shape[1], pixels.shape[0], *pixels.shape[2:])))
    ids = f", ids {' '.join(map(str, values))}" if len(values) <= 45 and pixels.dtype.kind in "iu" else ""
    tags = "" if no_data is None else f", no-data {no_data:g}"
    tags += f", orientation {turn}" if turn > 1 else ""
    return f"{pixels.dtype} {size}, {values[0]}..{values[-1]}{ids}{tags}"


def _read_scenes(result: Inspection, everything: bool) -> None:
    """Read scenes of every split and fill in the tables, warnings and problems."""
    dataset, card = result.dataset, result.dataset.card

    def read(scene_id: str) -> tuple[str, Sample | Exception]:
        try:
            return scene_id, check_sample(dataset.read(scene_id), card)
        except (ValueError, OSError) as error:
            return scene_id, error

    done: dict[str, str] = {}  # scene -> its size; splits of test may share scenes
    splits, sensors, classes, occurring = {}, {}, {}, np.zeros(256, bool)
    for split in card.splits:
        ids = dataset.ids(split)
        ids = ids if everything else ids[:: max(1, len(ids) // SPREAD)][:SPREAD]
        statistics = SplitStatistics(card)
        new = [scene_id for scene_id in ids if scene_id not in done]
        shown = len(result.samples) + SHOWN
        for scene_id, sample in bar(read_ahead(read, new), total=len(new), label=f"reading {split}", unit="scene"):
            if isinstance(sample, Exception):
                result.problems.append(str(sample))
                continue
            done[scene_id] = "{1}x{0}".format(*sample["label"].shape)
            result.warnings += statistics.add(sample)
            if len(result.samples) < shown:
                result.samples.append(sample)
        result.problems += statistics.problems(split)
        sizes = Counter(done[scene_id] for scene_id in ids if scene_id in done).most_common(4)
        listed = ", ".join(f"{size} ({count})" for size, count in sizes)
        splits[split] = {"scenes": len(dataset.ids(split)), "read": len(ids), "sizes": listed}
        if not statistics.scenes.any():
            continue
        occurring |= statistics.scenes > 0
        counts = statistics.pixels
        percent = 100 * counts[: len(card.classes)] / max(1, counts[:IGNORE].sum())
        classes[split] = [*percent.round(2), round(100 * counts[IGNORE] / counts.sum(), 2)]
        for name, sensor in card.sensors.items():
            *values, valid = statistics.values(name)
            row = dict(zip(("lowest", "mean", "highest", "std"), [f"{value:.4g}" for value in values], strict=True))
            sensors[f"{name}, {split}"] = {"unit": sensor.unit, **row, "valid %": round(100 * valid, 1)}
    result.splits, result.sensors = pd.DataFrame(splits).T, pd.DataFrame(sensors).T
    result.classes = pd.DataFrame(classes, index=[*card.classes, "(ignored, of all pixels)"])
    if len({round(np.divide(*map(int, size.split("x"))), 2) for size in done.values()}) > 1:
        result.warnings.append("pictures have several ratios of width to height; all are stretched to one size")
    never = [name for index, name in enumerate(card.classes) if not occurring[index]]
    if everything and never and occurring.any():
        result.warnings.append(f"these classes never occur: {', '.join(never)}; the mean over classes leaves them out")


def describe(result: Inspection) -> str:
    """Return the text that `crodino inspect` prints: tables, warnings, problems and a verdict."""
    shortened = {name: textwrap.shorten(error, 150, placeholder=" ...") for name, error in result.readings.items()}
    readings = [f"{name:28} {'no: ' + error if error else 'yes'}" for name, error in shortened.items()]
    parts = [result.files.to_string(index=False), "\n".join(readings)]
    if result.dataset:
        parts.append(f"read as {result.dataset.card.title}")
    parts += [table.to_string() for table in (result.splits, result.sensors, result.classes) if len(table)]
    parts += [f"warning: {line}" for line in result.warnings] + [f"PROBLEM: {line}" for line in result.problems]
    sound = f"No problem was found in the {result.splits['read'].sum()} scenes read." if len(result.splits) else ""
    return "\n\n".join([*parts, "Do not train on this." if result.problems else sound])

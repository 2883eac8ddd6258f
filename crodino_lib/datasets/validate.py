"""What a folder is, or is not, before anybody trains on it: `crodino inspect FOLDER`."""

from __future__ import annotations

import os
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from crodino_lib.config import DataConfig
from crodino_lib.data.folder import PRESETS
from crodino_lib.data.image_files import SUFFIXES, decode
from crodino_lib.data.layouts import LayoutError
from crodino_lib.data.registry import DATASETS, open_dataset
from crodino_lib.data.sample import IGNORE, Sample, SceneDataset, Sensor, check_sample
from crodino_lib.io import bar

FIRST = 3  # scenes of a split that are looked at unless all are asked for
ODD_STDS = 3  # a sensor whose mean is further from the stated one, in stated deviations, has another unit or scale
ODD_SPREAD = 10  # times more or less than the stated deviation, likewise
KIND_ROWS = 40
SCENES_AHEAD = 32


@dataclass
class Inspection:
    """What was found.

    Attributes:
        files: one row per folder and ending: how many files, and what the first of them holds.
        readings: dataset name -> what opening the folder as that dataset said; empty where it opens.
        dataset: the folder opened as the first dataset it is, or None.
        splits: one row per split: scenes, scenes looked at, sizes.
        sensors: one row per sensor: values as a network's normalisation meets them.
        classes: one row per class: its share of the labelled pixels looked at, and in how many scenes it occurs.
        samples: the scenes of the contact sheet.
        warnings: what does not stop training and should be known.
        problems: what makes training fail or its numbers wrong.
    """

    files: pd.DataFrame
    readings: dict[str, str]
    dataset: SceneDataset | None = None
    splits: pd.DataFrame = field(default_factory=pd.DataFrame)
    sensors: pd.DataFrame = field(default_factory=pd.DataFrame)
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples: list[Sample] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect_folder(
    root: Path, name: str = "", options: dict[str, Any] | None = None, everything: bool = False
) -> Inspection:
    """Say what ``root`` is and look at its scenes.

    Args:
        root: the folder, or the file of a dataset that is one.
        name: dataset it is meant to be; every one of the registry, and every preset, is tried where none is named.
        options: of that dataset.
        everything: read all scenes instead of the first of every split.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist")
    found = Inspection(file_table(root), {})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for candidate, chosen in {name: (name, options or {})}.items() if name else _candidates(root).items():
            config = DataConfig.parse({"dataset": chosen[0], "root": str(root), "options": chosen[1]})
            before = len(told)
            try:
                dataset = open_dataset(config)
            except (ValueError, OSError, ImportError) as error:
                found.readings[candidate] = str(error)
                if name or not isinstance(error, LayoutError):
                    found.problems.append(f"as {candidate}: {error}")
                del told[before:]
                continue
            found.readings[candidate] = ""
            if found.dataset is None:
                found.dataset = dataset
            else:
                del told[before:]
        if found.dataset is None:
            found.problems = found.problems or ["this is no dataset that is known; a dataset.toml can say what it is"]
        else:
            found.problems = []  # what it is not does not matter
            _look(found, everything)
    found.warnings += dict.fromkeys(str(warning.message) for warning in told)
    return found


def _candidates(root: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a folder may be: printed name -> dataset and options; one that says what it is, is no preset."""
    known = {name: (name, {}) for name, entry in DATASETS.items() if entry.needs_root}
    presets = {} if (root / "dataset.toml").exists() else tomllib.loads(PRESETS.read_text())
    return known | {f"folder preset={preset}": ("folder", {"preset": preset}) for preset in presets}


def file_table(root: Path) -> pd.DataFrame:
    """One row per folder and ending below ``root``: how many files there are, and what the first of them holds."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for parent, folders, names in os.walk(root if root.is_dir() else root.parent):
        folders.sort()
        for path in sorted(Path(parent, name) for name in names if not name.startswith(".")):
            if root.is_dir() or path == root:
                groups.setdefault((os.path.relpath(parent, root), path.suffix.lower()), []).append(path)
    rows = [
        {"folder": folder, "ending": ending, "files": len(paths), "first": paths[0].name, "holds": contents(paths[0])}
        for (folder, ending), paths in list(groups.items())[:KIND_ROWS]
    ]
    if len(groups) > KIND_ROWS:
        rows.append(
            {"folder": f"and {len(groups) - KIND_ROWS} more", "ending": "", "files": "", "first": "", "holds": ""}
        )
    return pd.DataFrame(rows, columns=["folder", "ending", "files", "first", "holds"])


def contents(path: Path) -> str:
    """Type, size, channels and values of one file, TIFF tags included; why not, where it cannot be read."""
    if path.suffix.lower() not in SUFFIXES:
        return f"{path.stat().st_size:,} bytes"
    try:
        pixels = decode(path)
        mode = "" if path.suffix.lower() in (".npy", ".tif", ".tiff") else f" mode {_mode(path)}"
    except (ValueError, OSError, ImportError) as error:
        return f"unreadable: {error}"
    if not pixels.size or pixels.dtype.kind not in "buif":
        return f"{pixels.dtype} of shape {pixels.shape}"
    size = (
        "x".join(str(side) for side in (pixels.shape[1], pixels.shape[0], *pixels.shape[2:]))
        if pixels.ndim > 1
        else pixels.size
    )
    values = np.unique(pixels)
    told = f"{pixels.dtype} {size}{mode}, {values.min()}..{values.max()}"
    if pixels.ndim == 2 and len(values) <= 64 and pixels.dtype.kind in "iu":
        told += f", ids {' '.join(map(str, values.tolist()))}"
    return told + _tiff_tags(path)


def _mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def _tiff_tags(path: Path) -> str:
    if path.suffix.lower() not in (".tif", ".tiff"):
        return ""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        return f", {page.compression.name} {page.photometric.name} {page.rowsperstrip} rows a strip, axes {page.axes}"


def _look(found: Inspection, everything: bool) -> None:
    """Read scenes and fill in what they say."""
    dataset, card = found.dataset, found.dataset.card
    chosen = {split: dataset.ids(split) if everything else dataset.ids(split)[:FIRST] for split in card.splits}
    ids = list(dict.fromkeys(scene_id for part in chosen.values() for scene_id in part))
    sizes: dict[str, tuple[int, int]] = {}
    values: dict[str, list[tuple[float, ...]]] = {name: [] for name in card.sensors}
    counts, occurs = np.zeros(256, np.int64), Counter()
    for scene_id, sample in bar(_samples(dataset, ids), total=len(ids), label="looking", unit="scene"):
        if isinstance(sample, Exception):
            found.problems.append(str(sample))
            continue
        sizes[scene_id] = sample["label"].shape
        scene_counts = np.bincount(sample["label"].ravel(), minlength=256)
        counts += scene_counts
        occurs.update(np.flatnonzero(scene_counts).tolist())
        for name in card.sensors:
            values[name].append(_statistics(sample, name))
        found.warnings += _oddities(sample, card.sensors)
        if len(found.samples) < 2 * FIRST:
            found.samples.append(sample)
    found.splits = pd.DataFrame({split: _split_row(dataset, split, part, sizes) for split, part in chosen.items()}).T
    found.sensors = pd.DataFrame(
        {name: _sensor_row(rows, card.sensors[name]) for name, rows in values.items() if rows}
    ).T
    found.classes = _class_table(card.classes, counts, occurs)
    _judge_sensors(found, card.sensors)
    if len({round(width / height, 2) for height, width in sizes.values()}) > 1:
        found.warnings.append("pictures have several ratios of width to height; all are stretched to one size")
    never = [name for index, name in enumerate(card.classes) if not occurs[index]]
    if sizes and len(never) == len(card.classes):
        found.problems.append("no pixel that was looked at has a label")
    elif everything and never:
        found.warnings.append(f"these classes never occur: {', '.join(never)}; the mean over classes leaves them out")


def _split_row(
    dataset: SceneDataset, split: str, looked_at: list[str], sizes: dict[str, tuple[int, int]]
) -> dict[str, Any]:
    common = Counter(sizes[scene_id] for scene_id in looked_at if scene_id in sizes).most_common(4)
    return {
        "scenes": len(dataset.ids(split)),
        "looked at": len(looked_at),
        "sizes": ", ".join(f"{width}x{height} ({count})" for (height, width), count in common),
    }


def _class_table(classes: tuple[str, ...], counts: np.ndarray, occurs: Counter) -> pd.DataFrame:
    labelled = counts[: len(classes)]
    percent = 100 * labelled / max(1, labelled.sum())
    table = pd.DataFrame(
        {"percent of labelled": percent, "scenes": [occurs[index] for index in range(len(classes))]}, index=classes
    )
    table.loc["(ignored, of all pixels)"] = [100 * counts[IGNORE] / max(1, counts.sum()), occurs[IGNORE]]
    return table.round(2)


def _judge_sensors(found: Inspection, sensors: dict[str, Sensor]) -> None:
    """Compare what was measured with what networks are normalised by."""
    for name, row in found.sensors.iterrows():
        mean, std = np.mean(sensors[name].mean), np.mean(sensors[name].std)
        if abs(row["mean"] - mean) > ODD_STDS * std:
            found.problems.append(
                f"{name} has the mean {row['mean']:.3g} {row['unit']}, far from the {mean:.3g} +- {std:.3g} that "
                "networks are normalised by: is its scale or unit another?"
            )
        if not std / ODD_SPREAD < row["std"] < std * ODD_SPREAD:
            found.problems.append(
                f"{name} varies by {row['std']:.3g} {row['unit']}, far from the {std:.3g} networks are normalised by"
            )


def _samples(dataset: SceneDataset, ids: Iterable[str]) -> Iterator[tuple[str, Sample | Exception]]:
    def read(scene_id: str) -> tuple[str, Sample | Exception]:
        try:
            sample = dataset.read(scene_id)
            check_sample(sample, dataset.card)
        except (ValueError, OSError) as error:
            return scene_id, error
        return scene_id, sample

    ids = list(ids)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(ids), SCENES_AHEAD):  # a whole dataset does not fit in memory
            yield from pool.map(read, ids[start : start + SCENES_AHEAD])


def _statistics(sample: Sample, name: str) -> tuple[float, ...]:
    """Smallest, mean, largest valid value, their standard deviation, and the valid share."""
    valid = sample.get(f"{name}_valid", np.ones((1, *sample["label"].shape), bool))
    image = sample[name][:, valid[0]].astype(np.float64)
    if not image.size:
        return np.nan, np.nan, np.nan, np.nan, 0.0
    return image.min(), image.mean(), image.max(), image.std(), valid.mean()


def _sensor_row(rows: list[tuple[float, ...]], sensor: Sensor) -> dict[str, Any]:
    found = np.array(rows)
    held = np.isfinite(found[:, 0])
    low, mean, high, std = found[held, :4].T if held.any() else np.full((4, 1), np.nan)
    return {
        "unit": sensor.unit,
        "lowest": low.min(),
        "mean": mean.mean(),
        "highest": high.max(),
        "std": np.sqrt((std**2).mean() + mean.var()),
        "valid %": round(100 * found[:, 4].mean(), 1),
    }


def _oddities(sample: Sample, sensors: Iterable[str]) -> list[str]:
    """What is odd about a scene that keeps the contract."""
    told = []
    for name in sensors:
        low, _, high, _, valid = _statistics(sample, name)
        if not valid:
            told.append(f"scene {sample['id']!r}: {name} has no valid pixel")
        elif low == high:
            told.append(f"scene {sample['id']!r}: {name} is {low:g} everywhere")
    if (sample["label"] == IGNORE).all():
        told.append(f"scene {sample['id']!r}: no pixel has a label")
    return told

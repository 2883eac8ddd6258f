"""What the explorer draws, as one JSON-able dictionary: every picture once per scene, numbers as base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from PIL import Image

from crodino_lib.config import choose
from crodino_lib.data.encodings import measured
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes
from crodino_lib.figures.base import MISSING_COLOUR, SENSOR_COLOURS, SPARE_STYLES, class_colours, sensor_styles
from crodino_lib.figures.image_grids import COLOUR_MAPS

BLOCKS = ("shared", "private")
ROW_COLUMNS = ("image", "class", "left", "top", "right", "bottom")
FINEST = 65535  # of a coordinate: far below a pixel of any screen
QUALITY = 82  # of a photograph as WebP: three hundred scenes of 256 x 192 pixels stay under 15 MB
RAMP = "cividis"
LEVEL_COLOURS = (*SENSOR_COLOURS.values(), *(colour for colour, _ in SPARE_STYLES[:3]))


@dataclass(frozen=True)
class Cloud:
    """One two-dimensional picture of a block.

    Attributes:
        block: ``shared`` or ``private``.
        embedding: how it was made: ``UMAP``, ``PCA``.
        caption: how far it can be believed, in words.
        points: (sensors * rows, 2) float, all rows of the first sensor, then those of the second.

    Raises:
        ValueError: another block, another shape, or coordinates that are not finite.
    """

    block: str
    embedding: str
    caption: str
    points: np.ndarray

    def __post_init__(self):
        choose(self.block, BLOCKS, "block")
        if self.points.ndim != 2 or self.points.shape[1] != 2:
            raise ValueError(f"{self.where}: points are {self.points.shape}, expected (points, 2)")
        if not np.isfinite(self.points).all():
            wrong = int((~np.isfinite(self.points).all(axis=1)).sum())
            raise ValueError(f"{self.where}: {wrong} of {len(self.points)} points are not finite")

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"cloud {self.block}/{self.embedding}"


@dataclass(frozen=True)
class ExploredRun:
    """What one run made of a split: its regions, their pictures in two dimensions, and its predictions.

    Attributes:
        name: shown in the menu.
        sensors: whose regions they are.
        rows: ``Latents.rows``; point number ``i`` is row ``i % len(rows)`` seen by sensor ``i // len(rows)``.
        clouds: at least one.
        errors: ``shared`` or ``private`` -> (sensors * rows,) float in [0, 1], how wrong a probe of that block is
            about a point; NaN where no probe was asked.
        predictions: sensor -> (images, H, W) uint8 class maps, in the order of the scenes' ids.

    Raises:
        ValueError: names what does not fit, what was found and what was expected.
    """

    name: str
    sensors: tuple[str, ...]
    rows: pd.DataFrame
    clouds: list[Cloud]
    errors: dict[str, np.ndarray] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        if missing := [name for name in ROW_COLUMNS if name not in self.rows]:
            raise ValueError(f"run {self.name!r}: rows have {', '.join(self.rows)}, but no {', '.join(missing)}")
        for what, found in {"sensors": self.sensors, "rows": self.rows, "clouds": self.clouds}.items():
            if not len(found):
                raise ValueError(f"run {self.name!r}: {what} are empty, expected at least one")
        expected = len(self.sensors) * len(self.rows)
        sizes = f"{len(self.sensors)} sensors x {len(self.rows)} rows = {expected}"
        for cloud in self.clouds:
            if len(cloud.points) != expected:
                raise ValueError(f"run {self.name!r}: {cloud.where} has {len(cloud.points)} points, expected {sizes}")
        for block, errors in self.errors.items():
            choose(block, BLOCKS, "block of errors")
            if np.shape(errors) != (expected,):
                raise ValueError(f"run {self.name!r}: errors of {block} are {np.shape(errors)}, expected {sizes}")
            if ((errors < 0) | (errors > 1)).any():
                span = f"{np.nanmin(errors):g}..{np.nanmax(errors):g}"
                raise ValueError(f"run {self.name!r}: errors of {block} are {span}, expected 0..1 or NaN")
        for sensor in self.predictions:
            choose(sensor, self.sensors, f"run {self.name!r}: sensor of predictions")


def payload(title: str, card: DatasetCard, scenes: Scenes, runs: Sequence[ExploredRun]) -> dict:
    """Everything the explorer draws, for ``write_page``.

    Args:
        title: its heading.
        card: of the dataset.
        scenes: the split that the runs looked at; its factors, where there are any, can be coloured by.
        runs: at least one; their names differ.

    Returns:
        Text, numbers, lists and dictionaries only. A scene is stored where a row of any run is in it, in the order of
        ``scenes.ids``; pictures are data URLs, arrays base64 of little-endian numbers.

    Raises:
        ValueError: names what does not fit the scenes, what was found and what was expected.
    """
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"runs are {', '.join(names) or 'none'}; expected one or more of different names")
    for run in runs:
        _check(run, card, scenes)
    if scenes.factors is not None and len(scenes.factors) != len(scenes):
        raise ValueError(f"factors have {len(scenes.factors)} rows, expected one for each of {len(scenes)} scenes")
    sensors = tuple(dict.fromkeys(sensor for run in runs for sensor in run.sensors))
    kept = np.unique(np.concatenate([_positions(run, scenes) for run in runs]))
    styles = sensor_styles(sensors)
    return {
        "title": title,
        "dataset": card.title,
        "licensed": card.licensed,
        "classes": [{"name": name, "colour": to_hex(colour)} for name, colour in class_colours(card).items()],
        "sensors": [{"name": name, "colour": styles[name][0], "marker": styles[name][1]} for name in sensors],
        "missing": to_hex(MISSING_COLOUR),
        "ramp": [to_hex(colour) for colour in mpl.colormaps[RAMP](np.linspace(0, 1, 17))],
        "levels": list(LEVEL_COLOURS),
        "factors": [] if scenes.factors is None else [_factor(scenes.factors.iloc[kept][n]) for n in scenes.factors],
        "scenes": {
            "ids": [scenes.ids[index] for index in kept],
            "pictures": {sensor: _pictures(scenes, card, sensor, kept) for sensor in sensors},
            "truth": [_label_picture(labels, card) for labels in scenes.labels[kept]],
        },
        "runs": [_run(run, card, scenes, kept) for run in runs],
    }


def _positions(run: ExploredRun, scenes: Scenes) -> np.ndarray:
    """(rows,) int: where each row's image is in ``scenes``; -1 where it is not."""
    return pd.Index(scenes.ids).get_indexer(run.rows["image"])


def _check(run: ExploredRun, card: DatasetCard, scenes: Scenes) -> None:
    for sensor in run.sensors:
        choose(sensor, scenes.images, f"run {run.name!r}: sensor")
    absent = run.rows["image"][_positions(run, scenes) < 0]
    if len(absent):
        raise ValueError(
            f"run {run.name!r}: {len(absent)} of {len(run.rows)} rows are of images that are none of the "
            f"{len(scenes)} scenes, such as {absent.iloc[0]!r}; expected ids such as {scenes.ids[0]!r}"
        )
    for sensor, maps in run.predictions.items():
        if maps.shape != scenes.labels.shape:
            raise ValueError(
                f"run {run.name!r}: predictions of {sensor} are {maps.shape}, expected {scenes.labels.shape}"
            )
    classes = np.setdiff1d(run.rows["class"], [*range(len(card.classes)), IGNORE])
    if len(classes):
        raise ValueError(
            f"run {run.name!r}: rows are of class {classes[:8].tolist()}, expected 0..{len(card.classes) - 1} "
            f"or {IGNORE} (none)"
        )


def _run(run: ExploredRun, card: DatasetCard, scenes: Scenes, kept: np.ndarray) -> dict:
    """Classes past the last are those of rows without one; scenes are counted among those kept."""
    return {
        "name": run.name,
        "sensors": list(run.sensors),
        "scene": packed(np.searchsorted(kept, _positions(run, scenes)), "<u4"),
        "class": packed(np.minimum(run.rows["class"], len(card.classes)), "u1"),
        "box": packed(run.rows[["left", "top", "right", "bottom"]], "<u2"),
        "clouds": [
            {"block": c.block, "embedding": c.embedding, "caption": c.caption, "points": packed(quantised(c.points))}
            for c in run.clouds
        ],
        "errors": {block: packed(errors, "<f4") for block, errors in run.errors.items()},
        "predictions": {
            sensor: [_label_picture(labels, card) for labels in maps[kept]] for sensor, maps in run.predictions.items()
        },
    }


def packed(values: np.ndarray, kind: str = "<u2") -> str:
    """``values`` as base64 of numbers of NumPy's ``kind``, in C order."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def quantised(points: np.ndarray) -> np.ndarray:
    """(n, 2) in 0..65535: ``points`` moved and scaled, equally along both axes, until the wider one fills the range."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = max((high - low).max(), np.finfo(float).tiny)
    return np.rint(((points - (low + high) / 2) / span + 0.5) * FINEST)


def _factor(values: pd.Series) -> dict:
    """One number per scene: the factor's own, or which of its levels, the most frequent first; NaN where unknown."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return {
            "name": str(values.name),
            "levels": None,
            "values": packed(values.to_numpy(float, na_value=np.nan), "<f4"),
        }
    levels = values.astype(str).where(values.notna()).value_counts().index
    codes = levels.get_indexer(values.astype(str)).astype(float)
    codes[codes < 0] = np.nan
    return {"name": str(values.name), "levels": list(levels), "values": packed(codes, "<f4")}


def _pictures(scenes: Scenes, card: DatasetCard, sensor: str, kept: np.ndarray) -> dict:
    """Every kept scene as a sensor saw it; colours span the middle 98 % of all of them, grey is no value."""
    images = scenes.images[sensor][kept]
    if sensor == "rgb":
        return {"unit": "", "low": None, "high": None, "urls": [_photograph(i.transpose(1, 2, 0)) for i in images]}
    valid = scenes.valid[sensor][kept]
    known = images[np.broadcast_to(valid, images.shape)].astype(np.float32)
    low, high = (float(value) for value in np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)
    colour_map = mpl.colormaps[COLOUR_MAPS.get(sensor, RAMP)]
    urls = []
    for image, seen in zip(images, valid, strict=True):
        shares = np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1).transpose(1, 2, 0)
        colours = shares if shares.shape[2] == 3 else colour_map(shares[..., 0])[..., :3]  # 3: such as normals
        shown = np.where(seen.transpose(1, 2, 0), colours, MISSING_COLOUR)
        urls.append(_photograph(np.rint(255 * shown).astype(np.uint8)))
    return {"unit": measured(card).sensors[sensor].unit, "low": low, "high": high, "urls": urls}


def _photograph(pixels: np.ndarray) -> str:
    """A data URL of an (H, W, 3) uint8 picture, a little lossy."""
    return _data_url(Image.fromarray(pixels), "webp", quality=QUALITY, method=2)


def _label_picture(labels: np.ndarray, card: DatasetCard) -> str:
    """A data URL of (H, W) class indices as a lossless picture in the classes' colours; grey is not labelled."""
    grey = tuple(round(255 * part) for part in MISSING_COLOUR)
    picture = Image.fromarray(np.minimum(labels, len(card.classes)).astype(np.uint8), "P")
    picture.putpalette([part for colour in (*card.palette, grey) for part in colour])
    return _data_url(picture, "png")


def _data_url(picture: Image.Image, kind: str, **settings: Mapping) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

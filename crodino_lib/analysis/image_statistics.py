"""Compute plain statistics of every image: factors that any dataset has, where none were recorded."""

import numpy as np
import pandas as pd
from scipy import ndimage

from crodino_lib.data.sample import Scenes


def image_statistics(scenes: Scenes, sensors: tuple[str, ...]) -> pd.DataFrame:
    """Compute low-level factors of every scene: a row per scene, indexed by id, and a column per sensor and statistic.

    ``rgb brightness`` (0..1), ``rgb contrast``, ``rgb saturation``, ``rgb hue_x`` and ``rgb hue_y`` (cosine and sine of
    the mean hue, weighted by saturation), ``rgb edges`` (mean gradient) and ``rgb fine`` (mean absolute second
    difference along rows, of noise and texture); for other sensors ``level`` and ``spread`` in their unit, ``edges``,
    ``fine``, and ``holes`` (share of pixels without a value). Holes count nowhere else.
    """
    columns: dict[str, list[float]] = {}
    for index in range(len(scenes)):
        for sensor in sensors:
            image = scenes.images[sensor][index].astype(np.float64)
            if sensor == "rgb":
                statistics = _colour(image / 255)
            else:
                valid = scenes.valid[sensor][index, 0]
                plane = image.mean(axis=0)
                statistics = {"level": _mean(plane, valid), "spread": plane[valid].std() if valid.any() else 0.0}
                statistics |= _grain(plane, valid) | {"holes": 1 - valid.mean()}
            for name, value in statistics.items():
                columns.setdefault(f"{sensor} {name}", []).append(float(value))
    return pd.DataFrame(columns, index=pd.Index(scenes.ids, name="id"))


def _colour(image: np.ndarray) -> dict[str, float]:
    red, green, blue = image
    grey, chroma = image.mean(axis=0), np.ptp(image, axis=0)
    angle = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
    total = chroma.sum() + 1e-9  # a grey image has no hue: (0, 0)
    hue = {"hue_x": (np.cos(angle) * chroma).sum() / total, "hue_y": (np.sin(angle) * chroma).sum() / total}
    light = {"brightness": grey.mean(), "contrast": grey.std(), "saturation": chroma.mean()}
    return light | hue | _grain(grey, np.ones(grey.shape, bool))


def _grain(plane: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Compute gradients and second differences, where all pixels they are computed from have values."""
    edges = np.hypot(ndimage.sobel(plane, 0), ndimage.sobel(plane, 1)) / 8
    fine = np.abs(plane[:, 2:] + plane[:, :-2] - 2 * plane[:, 1:-1])
    whole = ndimage.binary_erosion(valid, np.ones((3, 3)), border_value=1)
    return {"edges": _mean(edges, whole), "fine": _mean(fine, valid[:, 2:] & valid[:, :-2] & valid[:, 1:-1])}


def _mean(plane: np.ndarray, counted: np.ndarray) -> float:
    return float(plane[counted].mean()) if counted.any() else 0.0

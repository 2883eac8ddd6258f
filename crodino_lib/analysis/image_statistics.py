"""Plain statistics of every picture: factors that any dataset has, where none were recorded."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from crodino_lib.data.sample import Scenes


def picture_statistics(scenes: Scenes, sensors: tuple[str, ...]) -> pd.DataFrame:
    """Low-level factors of every scene, one column per sensor and statistic.

    Args:
        scenes: one split, as measured.
        sensors: whose pictures.

    Returns:
        One row per scene, indexed by id: ``rgb brightness`` (0..1), ``rgb contrast``, ``rgb saturation``, ``rgb hue_x``
        and ``rgb hue_y`` (cosine and sine of the mean hue, weighted by saturation), ``rgb edges`` (mean gradient) and
        ``rgb fine`` (mean absolute second difference, across, of noise and texture); for other sensors ``level`` and
        ``spread`` in their unit, ``edges``, ``fine``, and ``holes`` (share of pixels without a value). Holes count
        nowhere else.
    """
    columns: dict[str, list[float]] = {}
    for index in range(len(scenes)):
        for sensor in sensors:
            image = scenes.images[sensor][index].astype(np.float64)
            if sensor == "rgb":
                found = _colour(image / 255)
            else:
                valid = scenes.valid[sensor][index, 0]
                plane = image.mean(axis=0)
                found = {"level": _mean(plane, valid), "spread": float(plane[valid].std()) if valid.any() else 0.0}
                found |= _grain(plane, valid) | {"holes": float(1 - valid.mean())}
            for name, value in found.items():
                columns.setdefault(f"{sensor} {name}", []).append(value)
    return pd.DataFrame(columns, index=pd.Index(scenes.ids, name="id"))


def _colour(image: np.ndarray) -> dict[str, float]:
    red, green, blue = image
    grey = image.mean(axis=0)
    angle = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
    chroma = np.ptp(image, axis=0)
    total = chroma.sum() + 1e-9  # a grey picture has no hue: (0, 0)
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "saturation": float(chroma.mean()),
        "hue_x": float((np.cos(angle) * chroma).sum() / total),
        "hue_y": float((np.sin(angle) * chroma).sum() / total),
        **_grain(grey, np.ones(grey.shape, bool)),
    }


def _grain(plane: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Gradients, and what is finer than they are, where the pixels they are computed from have values."""
    edges = np.hypot(ndimage.sobel(plane, 0), ndimage.sobel(plane, 1)) / 8
    fine = np.abs(plane[:, 2:] + plane[:, :-2] - 2 * plane[:, 1:-1])
    whole = ndimage.binary_erosion(valid, np.ones((3, 3)), border_value=1)
    return {"edges": _mean(edges, whole), "fine": _mean(fine, valid[:, 2:] & valid[:, :-2] & valid[:, 1:-1])}


def _mean(plane: np.ndarray, counted: np.ndarray) -> float:
    return float(plane[counted].mean()) if counted.any() else 0.0

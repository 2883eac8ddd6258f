"""Define what all metrics share: the form of a result, and the pairs of blocks that are compared."""

from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import normalize

from crodino_lib.analysis.extraction import Latents


class Result(NamedTuple):
    """One number of a metric; NaN where it is not defined.

    ``sensor`` is empty where two sensors are compared, ``half`` where the number is about both halves; ``target`` is
    what a probe predicts: ``class``, ``modality`` or a factor.
    """

    measure: str
    value: float
    sensor: str = ""
    half: str = ""
    target: str = ""


def check_two_sensors(latents: Latents) -> Latents:
    """Return latents unchanged.

    Raises:
        ValueError: not exactly two sensors, or a half is missing.
    """
    if len(latents.sensors) != 2:
        raise ValueError(f"latents must have blocks of exactly two sensors, found {', '.join(latents.sensors)}")
    for name in ((sensor, half) for sensor in latents.sensors for half in ("shared", "private")):
        if name not in latents.blocks:
            raise ValueError(f"latents have no block {'/'.join(name)}, only {', '.join(map(str, latents.blocks))}")
    return latents


def across(latents: Latents) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return half -> the blocks of the first and of the second sensor."""
    one, other = latents.sensors
    return {half: (latents.blocks[one, half], latents.blocks[other, half]) for half in latents.halves}


def same_width(u: np.ndarray, v: np.ndarray) -> bool:
    """Return whether two blocks (n, d) have equally many channels, so that their rows can be compared."""
    return u.shape[1] == v.shape[1]


def directions(x: np.ndarray) -> np.ndarray:
    """Scale rows (n, d) to length one, float64; rows of zeros stay zeros."""
    return normalize(np.asarray(x, float))


def is_constant(x: np.ndarray) -> bool:
    """Return whether all rows (n, d) are equal, up to float32 rounding; always true for a single row."""
    x = np.asarray(x, float)
    return bool(np.linalg.norm(x - x.mean(axis=0)) <= 1e-6 * np.linalg.norm(x))

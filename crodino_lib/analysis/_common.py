"""Define what all metrics share: the form of a result, and which blocks can be compared."""

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


def across(latents: Latents) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return half -> the blocks of the first and of the second sensor."""
    one, other = latents.sensors
    return {half: (latents.blocks[one, half], latents.blocks[other, half]) for half in latents.halves}


def directions(x: np.ndarray) -> np.ndarray:
    """Scale rows (n, d) to length one, float64; rows of zeros stay zeros."""
    return normalize(np.asarray(x, float))


def spread(x: np.ndarray) -> float:
    """Compute ``sqrt(sum_i |x_i - mean|^2 / sum_i |x_i|^2)``: 0 for equal rows, 1 around a mean of 0, NaN for zeros.

    A rank does not see a block that shrinks to a point, because what is left of its variance may point everywhere.
    """
    x = np.asarray(x, float)
    return float(np.linalg.norm(x - x.mean(axis=0)) / np.linalg.norm(x)) if x.any() else np.nan


def is_constant(x: np.ndarray) -> bool:
    """Return whether all rows (n, d) are equal, up to float32 rounding; always true for a single row."""
    return not spread(x) > 1e-6


def comparable(u: np.ndarray, v: np.ndarray) -> bool:
    """Return whether rows of two blocks (n, d) can be compared: equally wide, and neither of them constant."""
    return u.shape[1] == v.shape[1] and not (is_constant(u) or is_constant(v))

"""Measure how alike the blocks of two sensors are: CKA, modality gap, and neighbours from the other sensor."""

import numpy as np
from sklearn.preprocessing import normalize

from crodino_lib.analysis import Result
from crodino_lib.analysis.collapse import is_constant
from crodino_lib.analysis.embedding_quality import NEIGHBOURS, class_purity, cross_modality_fraction
from crodino_lib.analysis.extraction import Latents

MIXING = ("class_purity", "cross_modality", "cross_within_class")


def directions(x: np.ndarray) -> np.ndarray:
    """Scale rows (n, d) to length one, float64; rows of zeros stay zeros."""
    return normalize(np.asarray(x, float))


def comparable(u: np.ndarray, v: np.ndarray) -> bool:
    """Return whether rows of two blocks (n, d) can be compared: equally wide, and neither of them constant."""
    return u.shape[1] == v.shape[1] and not (is_constant(u) or is_constant(v))


def linear_cka(x: np.ndarray, y: np.ndarray, debiased: bool = True) -> float:
    """Compute how alike the similarities between rows are in two blocks: 1 if equal, 0 if linearly unrelated.

    ``|X'Y|^2 / (|X'X| |Y'Y|)`` of centred blocks. Debiased, every squared norm becomes ``D(X, Y) = |X'Y|^2 -
    n/(n-2) sum_i |x_i|^2 |y_i|^2 + (sum_i |x_i|^2) (sum_i |y_i|^2) / ((n-1)(n-2))``: without it independent normal
    features with n = 100 and d = 128 have 0.57.

    Args:
        x: (n, d) float.
        y: (n, e) float, the same rows.
        debiased: whether independent blocks give 0 in the mean; the result can then be negative.

    Returns:
        At most 1; unchanged by rotations, shifts and a common scale of either side. NaN with fewer than 4 rows, where
        a block is constant, or so short of rows for its channels that no variance is left without the bias.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019; the debiased form of
    google-research/representation_similarity, Demo.ipynb. Explained in notebook 07.
    """
    if len(x) < 4 or is_constant(x) or is_constant(y):
        return np.nan
    x, y = (np.asarray(block, float) - np.mean(block, axis=0, dtype=float) for block in (x, y))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)  # CKA ignores the scale, and this way it cannot overflow
    plain = [np.linalg.norm(block.T @ block) for block in (x, y)]
    if not debiased:
        return float(np.linalg.norm(x.T @ y) ** 2 / (plain[0] * plain[1]))
    own = [_debiased_norm(block, block) for block in (x, y)]
    if min(own[0] / plain[0] ** 2, own[1] / plain[1] ** 2) <= 1e-9:  # nothing but rounding is left
        return np.nan
    return float(_debiased_norm(x, y) / np.sqrt(own[0] * own[1]))


def _debiased_norm(x: np.ndarray, y: np.ndarray) -> float:
    """Compute D(X, Y) of centred blocks, see ``linear_cka``."""
    n, x_squared, y_squared = len(x), np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    total = np.square(x.T @ y).sum() - n / (n - 2) * (x_squared @ y_squared)
    return total + x_squared.sum() * y_squared.sum() / ((n - 1) * (n - 2))


def cka(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute ``cka`` of each half across the sensors, and ``cka_halves`` between both halves of each sensor."""
    results = [Result("cka", linear_cka(*pair), half=half) for half, pair in latents.pairs.items()]
    for sensor in latents.sensors:
        halves = [latents.blocks[sensor, half] for half in latents.halves]
        results.append(Result("cka_halves", linear_cka(*halves), sensor))
    return results


def modality_gap(u: np.ndarray, v: np.ndarray) -> float:
    """Compute ``|mean_i u_i/|u_i| - mean_i v_i/|v_i||`` of two blocks (n, d), in [0, 2]; NaN for zeros, other widths.

    A gap may be harmless, because a decoder can subtract a constant offset; sensors of equal means may still differ.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 2. Explained in notebook 07.
    """
    if u.shape[1] != v.shape[1] or not (np.any(u) and np.any(v)):
        return np.nan
    return float(np.linalg.norm(directions(u).mean(axis=0) - directions(v).mean(axis=0)))


def gap(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute ``gap`` of each half, the ``modality_gap``."""
    return [Result("gap", modality_gap(*pair), half=half) for half, pair in latents.pairs.items()]


def cross_within_class(points: np.ndarray, sensors: np.ndarray, classes: np.ndarray) -> float:
    """Compute the mean share of neighbours from the other sensor, among the points (2n, d) of a point's own class.

    Otherwise classes that only one sensor can tell apart would hide how the sensors mix. 0 where the sensors lie apart,
    about 0.5 where they are mixed. Classes with a single row per sensor are left out; NaN if none is left.
    """
    shares = []
    for index in np.unique(classes):
        own = classes == index
        if k := min(NEIGHBOURS, own.sum() // 2 - 1):
            shares += [cross_modality_fraction(points[own], sensors[own], k)] * own.sum()
    return float(np.mean(shares)) if shares else np.nan


def mixing(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute neighbour shares of the regions of both sensors, in each half, by the cosine of the full vectors.

    Of the 15 nearest neighbours, or one fewer than there are rows, ``class_purity``: share of the own class;
    ``cross_modality``: share from the other sensor; ``cross_within_class``. NaN where blocks are not ``comparable``,
    and with a single row; ``class_purity`` also with one class.
    """
    results = []
    for half, pair in latents.pairs.items():
        values = [np.nan] * len(MIXING)
        if comparable(*pair):
            vectors, rows = latents.stacked(half)
            points, k = directions(vectors), min(NEIGHBOURS, len(latents) - 1)
            sensors, classes = rows["sensor"].to_numpy(), rows["class"].to_numpy()
            purity = class_purity(points, classes, k) if len(np.unique(classes)) > 1 else np.nan
            mixed = cross_modality_fraction(points, sensors, k)
            values = [purity, mixed, cross_within_class(points, sensors, classes)]
        results += [Result(measure, value, half=half) for measure, value in zip(MIXING, values, strict=True)]
    return results

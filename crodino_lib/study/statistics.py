"""Estimate the uncertainty of scores by resampling test images."""

import numpy as np
from scipy import stats

from crodino_lib.evaluate import class_iou, mean_present


def resampled_mious(confusion: np.ndarray, seed: int, draws: int = 1000) -> np.ndarray:
    """Return the mIoU of resampled splits.

    The same seed resamples the same images, so differences between methods are paired.

    Args:
        confusion: (N, K, K) counts per image.
        seed: of the resampling.
        draws: number of resampled splits.

    Returns:
        (draws,) in 0..1; NaN for a draw without a labelled pixel.
    """
    images, classes = confusion.shape[:2]
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    totals = weights.astype(np.float64) @ confusion.reshape(images, -1)  # float64: integers take no fast product
    return mean_present(class_iou(totals.reshape(draws, classes, classes)))


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval that holds ``level`` of the values that are not NaN; NaN where all are."""
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_interval(differences: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return Student's interval of the mean of differences between paired seeds; NaN where there are fewer than three.

    It covers seeds (start, order, which scenes carry labels), not another draw of test images.
    """
    if len(differences) < 3:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(differences) - 1) * stats.sem(differences)
    return float(differences.mean() - half), float(differences.mean() + half)

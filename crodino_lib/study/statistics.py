"""Estimate means over seeds with their uncertainty over seeds and test images, and test them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from crodino_lib.evaluate import class_iou, mean_present

FEWEST_SEEDS = 3  # of an interval over seeds: Student's with two is 13 times as wide as their standard error
ENOUGH_SEEDS = 8  # of a test: Wilcoxon's exact p of n seeds is at least 2 / 2^n, and Holm multiplies it
MARGIN = 1.0  # points of mIoU: differences inside of it are called equivalent


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

    It covers seeds (start, order, which scenes carry labels), not another draw of test images: see ``Estimate``.
    """
    if len(differences) < FEWEST_SEEDS:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(differences) - 1) * stats.sem(differences)
    return float(differences.mean() - half), float(differences.mean() + half)


def interval_over(fewest: int, most: int = 0) -> str:
    """Return what the intervals of an ``Estimate`` of ``fewest`` seeds, or of up to ``most``, cover, in words."""
    several, few = "paired seeds and test images", "resampled test images, not over other seeds"
    if fewest < FEWEST_SEEDS <= most:
        return f"{several}, with fewer than three seeds over {few}"
    return several if fewest >= FEWEST_SEEDS else few


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, such as that of the difference to a control, with its uncertainty.

    All seeds are tested on the same images, so a result has two sources of chance. From three seeds on, the interval
    is the wider one of Student's over seeds, and of one whose variance is that over seeds plus that over images, with
    Satterthwaite's degrees of freedom (Biometrics Bulletin 1946). To resample seeds and then images instead covers too
    little: three seeds show too little of their spread (``tests/study/test_statistics.py`` simulates both). Fewer
    seeds have the percentile interval over images alone.

    Args:
        values: (S,) one value per seed.
        draws: (B,) their mean over seeds, on B resampled test splits.
        images: number of test images.
    """

    values: np.ndarray
    draws: np.ndarray
    images: int

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(self.values.mean())

    @property
    def effect_size(self) -> float:
        """Mean in standard deviations over seeds (Cohen's d of paired values); NaN for fewer than three seeds."""
        if len(self.values) < FEWEST_SEEDS or not (spread := self.values.std(ddof=1)):
            return float("nan")
        return float(self.mean / spread)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the mean."""
        if len(self.values) < FEWEST_SEEDS:
            return interval(self.draws, level)
        half = max(error * stats.t.ppf((1 + level) / 2, df) for error, df in self._errors())
        return self.mean - half, self.mean + half

    def p_difference(self) -> float:
        """Return the p of the mean being zero; NaN for fewer than eight seeds.

        It is the larger of Wilcoxon's exact signed-rank test over seeds, which is blind to other test images, and of
        the t tests of the interval.
        """
        if len(self.values) < ENOUGH_SEEDS or not self.values.any():
            return 1.0 if len(self.values) >= ENOUGH_SEEDS else float("nan")
        exact = stats.wilcoxon(self.values, method="exact").pvalue
        errors = [(error, df) for error, df in self._errors() if error]  # without chance the p of a t test is 0
        return float(max([exact, *(2 * stats.t.sf(abs(self.mean) / error, df) for error, df in errors)]))

    def p_equivalence(self, margin: float = MARGIN) -> float:
        """Return the p of two one-sided tests against +-margin (Schuirmann, 1987); NaN for fewer than eight seeds."""
        if len(self.values) < ENOUGH_SEEDS:
            return float("nan")
        room = margin - abs(self.mean)
        return float(max(stats.t.sf(room / error, df) if error else float(room <= 0) for error, df in self._errors()))

    def _errors(self) -> list[tuple[float, float]]:
        """Return standard error and degrees of freedom: of seeds alone, and of seeds and images."""
        s, n = len(self.values), self.images
        seeds, images = self.values.var(ddof=1) / s, np.nanvar(self.draws) * n / max(n - 1, 1)
        both, parts = seeds + images, seeds**2 / (s - 1) + images**2 / max(n - 1, 1)
        return [(float(seeds**0.5), s - 1), (float(both**0.5), float(both**2 / parts) if parts else np.inf)]


def holm(p: Sequence[float]) -> np.ndarray:
    """Return the p of a family of tests, corrected by Holm (1979); NaN for the tests that were not made."""
    p = np.array(p, float)  # statsmodels' multipletests runs the garbage collector, half a second a call
    order = np.argsort(p)[: np.sum(~np.isnan(p))]
    p[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return p

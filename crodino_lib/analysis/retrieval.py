"""Whether a place seen by one sensor can be found among those seen by the other: retrieval by cosine."""

from __future__ import annotations

import numpy as np
from scipy.linalg import orthogonal_procrustes
from sklearn.metrics import label_ranking_average_precision_score

from crodino_lib.analysis._common import across, counts, directions, drawn, is_constant, share_channels
from crodino_lib.analysis.extraction import Latents

DEPTHS = (1, 5, 10)  # first answers among which the right one is sought
RANKED = (*(f"recall_{k}" for k in DEPTHS), "median_rank", "mrr")
MEASURES = (*RANKED, *(f"chance_{name}" for name in RANKED), "map", "chance_map", "rotated_recall_1", "rotated_mrr")
PAIRED = (*RANKED, "map", "rotated_recall_1", "rotated_mrr")  # row i must be the same place in both sensors
FEWEST_FITTED = 0.5  # rows that a rotation is fitted on, in channels: below, identical blocks are not found again
TIE = 1e-9  # cosines this close are equal but for rounding


def standings(queries: np.ndarray, answers: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How the right answer of every query stands among the candidates: all answers of the query's group.

    Args:
        queries: (n, d) float, rows of length one.
        answers: (n, d) float, rows of length one; row i is the right answer to query i.
        groups: (n,) int.

    Returns:
        (n, 3) int: candidates ``better`` than the right one by cosine, others ``tied`` with it, all ``candidates``.
    """
    found = np.zeros((len(queries), 3), int)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        lead = queries[own] @ answers[own].T
        lead -= np.diag(lead)[:, None]
        better, tied = (lead > TIE).sum(axis=1), (np.abs(lead) <= TIE).sum(axis=1) - 1  # the right one ties with itself
        found[own] = np.stack([better, tied, np.full(len(own), len(own))], axis=1)
    return found


def scores(found: np.ndarray) -> dict[str, float]:
    """Recalls, median rank and mean reciprocal rank of queries with two candidates or more; NaN if there are none.

    Ties are fair: the right answer stands at the mean of the ranks that are tied, and counts for recall with the
    probability that an order of the tied by lot brings it to the top.

    Args:
        found: (n, 3) int, of ``standings``.
    """
    better, tied = found[found[:, 2] > 1, :2].T
    if not len(better):
        return dict.fromkeys(RANKED, np.nan)
    ranks = 1 + better + tied / 2
    recalls = {f"recall_{k}": float(np.clip((k - better) / (tied + 1), 0, 1).mean()) for k in DEPTHS}
    return recalls | {"median_rank": float(np.median(ranks)), "mrr": float((1 / ranks).mean())}


def chance(candidates: np.ndarray) -> dict[str, float]:
    """The same scores of answers in an order by lot: recall k / N, reciprocal rank H_N / N, with N candidates.

    Args:
        candidates: (n,) int, N of every query; those of one candidate are left out. NaN if none is left.
    """
    sizes, times = np.unique(candidates[candidates > 1], return_counts=True)
    if not len(sizes):
        return dict.fromkeys([f"chance_{name}" for name in RANKED], np.nan)
    ranks = np.arange(1, sizes.max() + 1)
    reached = np.average(np.minimum(1, ranks / sizes[:, None]), axis=0, weights=times)  # queries answered by each rank
    recalls = {f"chance_recall_{k}": float(reached[min(k, len(ranks)) - 1]) for k in DEPTHS}
    reciprocal = np.average(np.cumsum(1 / ranks)[sizes - 1] / sizes, weights=times)
    median = (np.searchsorted(reached, 0.5 - 1e-12) + np.searchsorted(reached, 0.5 + 1e-12, side="right")) / 2 + 1
    return recalls | {"chance_median_rank": float(median), "chance_mrr": float(reciprocal)}


def class_map(queries: np.ndarray, answers: np.ndarray, classes: np.ndarray) -> float:
    """Mean average precision of finding any row of the query's class among all rows of the other sensor.

    Args:
        queries: (n, d) float, rows of length one.
        answers: (n, d) float, rows of length one.
        classes: (n,) int class of row i of both.

    Returns:
        In (0, 1]; tied answers count as if the wrong ones came first. NaN with one class.

    Source: ``sklearn.metrics.label_ranking_average_precision_score``.
    """
    if len(np.unique(classes)) < 2:
        return np.nan
    relevant = classes[:, None] == classes[None]
    return float(label_ranking_average_precision_score(relevant, np.round(queries @ answers.T, 9)))


def chance_map(classes: np.ndarray) -> float:
    """Mean average precision of answers in an order by lot.

    With R relevant of N: ``(H_N + (N - H_N) (R - 1) / (N - 1)) / N``, slightly above R / N. NaN with one class.
    """
    sizes = np.unique(classes, return_counts=True)[1]
    if len(sizes) < 2:
        return np.nan
    n = len(classes)
    harmonic = (1 / np.arange(1, n + 1)).sum()
    return float(np.average((harmonic + (n - harmonic) * (sizes - 1) / (n - 1)) / n, weights=sizes))


def fitted_rows(images: np.ndarray) -> int:
    """About how many rows a rotation is fitted on: those of half of the images; 0 with a single image."""
    return len(images) // 2 if len(np.unique(images)) > 1 else 0


def rotated_standings(
    u: np.ndarray, v: np.ndarray, groups: np.ndarray, images: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Standings after a rotation of one sensor's space onto the other's, fitted on other images than the query's.

    Tells *not aligned*, which a rotation mends, from *not shared*, which it does not. The images fall by lot into two
    halves; the rotation fitted on the one serves the queries of the other, and the other way round. Candidates stay
    those of ``standings``, so that only the rotation differs.

    Args:
        u: (n, d) float, rows of length one, of the one sensor.
        v: (n, d) float, the same places seen by the other.
        groups: (n,) int.
        images: (n,) int, image of every row, of two images or more.
        generator: halves the images.

    Returns:
        (n, 3) int for queries of u among v, and of v among u.

    Source: Schoenemann, 1966; ``scipy.linalg.orthogonal_procrustes``. Explained in notebook 07.
    """
    names = generator.permutation(np.unique(images))
    first = np.isin(images, names[: len(names) // 2])
    there, back = np.zeros((len(u), 3), int), np.zeros((len(u), 3), int)
    for asked in (first, ~first):
        turned = u @ orthogonal_procrustes(u[~asked], v[~asked])[0]
        there[asked] = standings(turned, v, groups)[asked]
        back[asked] = standings(v, turned, groups)[asked]
    return there, back


def retrieved(
    u: np.ndarray,
    v: np.ndarray,
    classes: np.ndarray | None,
    images: np.ndarray,
    generator: np.random.Generator,
) -> dict[str, float]:
    """Every score of one half, as mean of both directions; arguments as ``rotated_standings``, ``None``: no classes."""
    groups = classes if classes is not None else np.zeros(len(u), int)
    found = [standings(u, v, groups), standings(v, u, groups)]
    both = [scores(one) for one in found]
    result = {name: (both[0][name] + both[1][name]) / 2 for name in both[0]} | chance(found[0][:, 2])
    if classes is not None:
        result["map"] = (class_map(u, v, classes) + class_map(v, u, classes)) / 2
        result["chance_map"] = chance_map(classes)
    if fitted_rows(images) >= FEWEST_FITTED * u.shape[1]:
        both = [scores(one) for one in rotated_standings(u, v, groups, images, generator)]
        result |= {f"rotated_{name}": (both[0][name] + both[1][name]) / 2 for name in ("recall_1", "mrr")}
    return result


def compute(latents: Latents, n: int, generator: np.random.Generator) -> dict[str, float]:
    """How well places are found across the sensors, in each half.

    Candidates are all images where rows are images. Where they are regions or pixels, they are the rows of the same
    class, so that an instance must be told, not its class.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used. More rows are more candidates: compare only what has as many.
        generator: draws them and halves the images.

    Returns:
        ``recall_1``, ``recall_5``, ``recall_10``, ``median_rank`` and ``mrr`` of ``shared`` and ``private``, and what
        chance gives (``chance_recall_1`` and so on); ``map`` and ``chance_map`` (any row of the class is right, among
        all rows); ``rotated_recall_1`` and ``rotated_mrr`` (after a rotation fitted on other images; chance gives the
        same as without it); ``rows``, ``images``. NaN where a block is constant, the sensors have different
        numbers of channels, or no query has two candidates; the ``map`` also with one class or whole images, the
        rotated also with one image, or where it would be fitted on fewer rows than half the channels.

    Raises:
        ValueError: see ``drawn``.

    Explained in notebook 07.
    """
    latents = drawn(latents, n, generator)
    classes = None if latents.unit == "image" else latents.classes
    found = {}
    for half, (u, v) in across(latents).items():
        measured = dict.fromkeys(MEASURES, np.nan)
        if share_channels(u, v) and not (is_constant(u) or is_constant(v)):
            unit = [directions(block) for block in (u, v)]
            measured |= retrieved(*unit, classes, latents.images, generator)
        found |= {f"{name} {half}": value for name, value in measured.items()}
    return found | counts(latents)

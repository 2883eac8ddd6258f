"""Measure whether a place seen by one sensor is found among those seen by the other: retrieval by cosine."""

import numpy as np
from scipy.linalg import orthogonal_procrustes

from crodino_lib.analysis import Result
from crodino_lib.analysis.extraction import Latents
from crodino_lib.analysis.similarity import comparable, directions

DEPTHS = (1, 5, 10)  # first answers among which the right one is sought
SCORES = (*(f"recall_{k}" for k in DEPTHS), "mrr")
MEASURES = (*SCORES, *(f"chance_{name}" for name in SCORES), "rotated_recall_1")
FEWEST_FITTED = 0.5  # rows that a rotation is fitted on, in channels: below, identical blocks are not found again
TIE = 1e-9  # cosines this close are equal but for rounding


def rank_answers(queries: np.ndarray, answers: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Count how many candidates beat or tie with the right answer of every query.

    Row i of the answers (n, d), of length one as those of the queries, is the right answer to query i. The candidates
    of a query are all answers of its group (n,). Returns (n, 3) int: candidates ``better`` than the right one by
    cosine, others ``tied`` with it, all ``candidates``.
    """
    counts = np.zeros((len(queries), 3), int)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        lead = queries[own] @ answers[own].T
        lead -= np.diag(lead)[:, None]
        better, tied = (lead > TIE).sum(axis=1), (np.abs(lead) <= TIE).sum(axis=1) - 1  # the right one ties with itself
        counts[own] = np.stack([better, tied, np.full(len(own), len(own))], axis=1)
    return counts


def scores(counts: np.ndarray) -> np.ndarray:
    """Compute ``SCORES``, recalls and mean reciprocal rank, of the ``rank_answers`` of queries; NaN if there are none.

    Queries with a single candidate are left out. Ties are fair: the right answer has the mean of the tied ranks, and
    counts for recall with the probability that a random order of the tied answers brings it to the top.
    """
    better, tied = counts[counts[:, 2] > 1, :2].T
    if not len(better):
        return np.full(len(SCORES), np.nan)
    recalls = [np.clip((k - better) / (tied + 1), 0, 1).mean() for k in DEPTHS]
    return np.array([*recalls, (1 / (1 + better + tied / 2)).mean()])


def chance(candidates: np.ndarray) -> np.ndarray:
    """Compute ``SCORES`` for answers in random order: recall k / N, reciprocal rank H_N / N, of (n,) N candidates."""
    sizes = candidates[candidates > 1]
    if not len(sizes):
        return np.full(len(SCORES), np.nan)
    harmonic = np.cumsum(1 / np.arange(1, sizes.max() + 1))
    return np.array([*(np.minimum(1, k / sizes).mean() for k in DEPTHS), (harmonic[sizes - 1] / sizes).mean()])


def rank_rotated(
    u: np.ndarray, v: np.ndarray, groups: np.ndarray, images: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rank answers after a rotation of one sensor onto the other, fitted on other images.

    This distinguishes *not aligned*, which a rotation mends, from *not shared*, which it does not. The images (n,), two
    or more, are divided at random into two parts; the rotation fitted on one part serves the queries of the other.
    Candidates stay those of ``rank_answers``, so that only the rotation differs. Returns the counts for queries of u
    among v, and of v among u. Source: Schoenemann, 1966. Explained in notebook 15.
    """
    names = generator.permutation(np.unique(images))
    first = np.isin(images, names[: len(names) // 2])
    there, back = np.zeros((2, len(u), 3), int)
    for part in (first, ~first):
        turned = u @ orthogonal_procrustes(u[~part], v[~part])[0]
        there[part] = rank_answers(turned, v, groups)[part]
        back[part] = rank_answers(v, turned, groups)[part]
    return there, back


def retrieval(latents: Latents, generator: np.random.Generator) -> list[Result]:
    """Compute how well places are found across the sensors, in each half, as the mean of both directions.

    Candidates are all images where rows are images, else the rows of the same class, so that the instance must be
    recognised, not its class. More rows are more candidates: compare only results of equally many rows.

    Returns ``SCORES``, the same at random (``chance_recall_1`` and so on), and ``rotated_recall_1``. NaN where blocks
    are not ``comparable`` or no query has two candidates; the rotated one also with a single image, or where the
    rotation would be fitted on fewer rows than half the channels.
    """
    images, results = latents.images, []
    groups = np.zeros(len(latents), int) if latents.unit == "image" else latents.classes
    for half, (u, v) in latents.pairs.items():
        values = np.full(len(MEASURES), np.nan)
        if comparable(u, v):
            u, v = directions(u), directions(v)
            counts = rank_answers(u, v, groups)
            found = (scores(counts) + scores(rank_answers(v, u, groups))) / 2
            values[:-1] = [*found, *chance(counts[:, 2])]
            if images.max() > 0 and len(u) // 2 >= FEWEST_FITTED * u.shape[1]:
                values[-1] = np.mean([scores(each)[0] for each in rank_rotated(u, v, groups, images, generator)])
        results += [Result(name, value, half=half) for name, value in zip(MEASURES, values.tolist(), strict=True)]
    return results

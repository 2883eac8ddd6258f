"""Whether two blocks depend on each other in any way, not in a linear one alone: HSIC and its permutation test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import gammaln
from sklearn.metrics.pairwise import euclidean_distances

from crodino_lib.analysis._common import across, counts, drawn, is_constant, within
from crodino_lib.analysis.extraction import Latents

PAIRED = ("hsic", "rbf_cka", "hsic_p")  # across sensors, row i must be the same place in both


def rbf_kernel(x: np.ndarray) -> np.ndarray:
    """Likeness of every two rows, ``exp(-|x_i - x_j|^2 / (2 m))`` with m the median squared distance of two rows.

    Args:
        x: (n, d) float.

    Returns:
        (n, n) float64 in (0, 1]; all NaN where the bandwidth is 0: a constant block, or over half of the pairs equal.

    Source: Kornblith et al., ICML 2019, for the bandwidth; theirs counts a row with itself as a pair, ours does not.
    """
    x = np.asarray(x, float)
    if is_constant(x):
        return np.full((len(x), len(x)), np.nan)
    squared = euclidean_distances(x - x.mean(axis=0), squared=True)  # centred: shifts cost no digits
    n = len(x)
    median = np.median(squared.ravel()[1:].reshape(n - 1, n + 1)[:, :-1])  # a view without the diagonal
    return np.exp(squared / (-2.0 * median)) if median > 0 else np.full((n, n), np.nan)


def u_centred(kernel: np.ndarray) -> np.ndarray:
    """The kernel (n, n) with a diagonal of zeros, and so shifted that rows and columns sum to 0.

    Source: Szekely and Rizzo, Partial Distance Correlation, Annals of Statistics 2014, definition 2.
    """
    n = len(kernel)
    centred = kernel - np.diag(np.diag(kernel))
    means = centred.sum(axis=0) / (n - 2)
    centred = centred - means[:, None] - means[None] + means.sum() / (n - 1)
    np.fill_diagonal(centred, 0.0)
    return centred


def unbiased_hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741 (K and L as in the paper)
    """Dependence of two sets of rows by their kernels; 0 in the mean if they are independent.

    ``(tr(KL) + (1'K1)(1'L1) / ((n-1)(n-2)) - 2/(n-2) 1'KL1) / (n(n-3))`` with diagonals of zeros; the same as the sum
    of products of the U-centred kernels, over n(n-3).

    Args:
        k: (n, n) float, kernel of the one.
        l: (n, n) float, kernel of the other.

    Returns:
        Can be slightly negative; NaN with fewer than 4 rows or a kernel of NaN.

    Source: Song et al., Feature Selection via Dependence Maximization, JMLR 2012, equation 4. Explained in notebook 07.
    """
    n = len(k)
    return float(np.vdot(u_centred(k), u_centred(l)) / (n * (n - 3))) if n > 3 else np.nan


def rbf_cka(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741 (K and L as in the paper)
    """HSIC of two kernels as a share of the largest possible: 1 for equal kernels, 0 in the mean if independent.

    Returns:
        ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))``, at most 1; NaN as ``unbiased_hsic``, or where a root is of 0.

    Source: Kornblith et al., ICML 2019, with unbiased HSIC. Explained in notebook 07.
    """
    own = [unbiased_hsic(k, k), unbiased_hsic(l, l)]
    return float(unbiased_hsic(k, l) / np.sqrt(own[0] * own[1])) if min(own) > 0 else np.nan


def shuffled_images(images: np.ndarray, permutations: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """(n,) positions of the rows with images exchanged for others of as many rows; rows of an image stay together.

    Exchanging images of unequal size would lay the rows of one beside those of several, and so break what is dependent
    within an image, which the true order keeps: independent features would look dependent.

    Args:
        images: (n,) int, image of every row, in order of image.
        permutations: how many orders.
        generator: draws them.
    """
    groups = np.split(np.arange(len(images)), np.flatnonzero(np.diff(images)) + 1)
    sizes = np.array([len(group) for group in groups])
    alike = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    for _ in range(permutations):
        order = np.empty(len(groups), int)
        for members in alike:
            order[members] = generator.permutation(members)
        yield np.concatenate([groups[index] for index in order])


def smallest_p(images: np.ndarray, permutations: int) -> float:
    """The smallest p-value that shuffling these images can give: ``1 / (1 + B)``, or more where few can be exchanged.

    Args:
        images: (n,) int, image of every row.
        permutations: B.

    Returns:
        1 where all images have different numbers of rows, so that none can be exchanged.
    """
    sizes = np.unique(images, return_counts=True)[1]
    orders = np.exp(min(gammaln(np.unique(sizes, return_counts=True)[1] + 1.0).sum(), 700.0))  # more overflow
    return float(max(1 / (1 + permutations), 1 / orders))


def permutation_p(
    k: np.ndarray,
    l: np.ndarray,  # noqa: E741 (K and L as in the paper)
    images: np.ndarray,
    permutations: int,
    generator: np.random.Generator,
) -> float:
    """How often shuffled images depend on each other as much as the true ones: small if truly dependent.

    Rows within an image are no independent draws, so whole images are exchanged, those of equally many rows. Regions
    come in order of class, so where images show the same classes, shuffles keep what the class alone explains, and the
    p-value speaks of dependence beyond it. Only tr(KL) changes when K is U-centred.

    Args:
        k: (n, n) float, kernel of the one.
        l: (n, n) float, kernel of the other.
        images: (n,) int, image of every row.
        permutations: B, at least 1.
        generator: draws the orders.

    Returns:
        ``(1 + number of shuffles with an HSIC as large) / (1 + B)``, so never below 1 / (1 + B), and large
        where few images can be exchanged (see ``smallest_p``); NaN where none can, with fewer than 4 rows, or a kernel
        of NaN.

    Source: Gretton et al., A Kernel Statistical Test of Independence, NeurIPS 2007. Explained in notebook 07.
    """
    if len(k) < 4 or smallest_p(images, permutations) == 1 or np.isnan(k[0, 0]) or np.isnan(l[0, 0]):
        return np.nan
    order = np.argsort(images, kind="stable")
    images = np.asarray(images)[order]
    k = u_centred(k)[np.ix_(order, order)].astype(np.float32)  # half the memory to move; the sums stay comparable
    l = l[np.ix_(order, order)].astype(np.float32)  # noqa: E741
    observed, reached = np.vdot(k, l), 0
    for rows in shuffled_images(images, permutations, generator):
        columns_moved = l.take(rows, axis=0).T.copy()  # l is symmetric, and whole rows move faster than columns
        reached += np.vdot(k, columns_moved.take(rows, axis=0)) >= observed
    return float((1 + reached) / (1 + permutations))


def compute(latents: Latents, n: int, generator: np.random.Generator, permutations: int) -> dict[str, float]:
    """Dependence of each half across the sensors, and of both halves of each sensor, with radial basis kernels.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used; memory and time grow with its square.
        generator: draws them and the permutations.
        permutations: of images, for the p-value, at least 1.

    Returns:
        ``hsic``, ``rbf_cka``, ``hsic_p`` and ``hsic_p_floor``, the smallest p that could be, of ``shared``, ``private``
        and of either sensor; ``rows``, ``images``. NaN where a block is constant or there are fewer than 4 rows;
        ``hsic_p`` also where no two images have equally many rows.

    Raises:
        ValueError: ``permutations`` below 1; see also ``drawn``.

    Explained in notebook 07.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    latents = drawn(latents, n, generator)
    kernels = {id(block): rbf_kernel(block) for block in latents.blocks.values()}  # each is in two comparisons
    found = {}
    for where, (x, y) in (across(latents) | within(latents)).items():
        k, l = kernels[id(x)], kernels[id(y)]  # noqa: E741
        found[f"hsic {where}"] = unbiased_hsic(k, l)
        found[f"rbf_cka {where}"] = rbf_cka(k, l)
        found[f"hsic_p {where}"] = permutation_p(k, l, latents.images, permutations, generator)
        found[f"hsic_p_floor {where}"] = smallest_p(latents.images, permutations)
    return found | counts(latents)

"""Whether the private half of a sensor points away from its shared half: cosines, cross-covariance, subspaces.

None of these shows independence: with s = (cos t, sin t) and p = (-sin t, cos t) every cosine is 0, and p is a function
of s. That question is put by ``cka`` and ``hsic``.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import subspace_angles

from crodino_lib.analysis._common import counts, directions, drawn, is_constant, within
from crodino_lib.analysis.cka import linear_cka, principal_components
from crodino_lib.analysis.extraction import Latents


def mean_cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Mean absolute cosine of row i of x (n, d) with row i of y (n, d), in [0, 1]; a row of zeros has 0.

    NaN where a block is all zeros.
    """
    if not (np.any(x) and np.any(y)):
        return np.nan
    return float(np.abs((directions(x) * directions(y)).sum(axis=1)).mean())


def cosine_floor(x: np.ndarray, y: np.ndarray) -> float:
    """The mean absolute cosine of blocks (n, d) that have nothing to do with each other, from theory.

    Random directions have ``sqrt(2 / (pi d))``: 0.100 for d = 64, 0.071 for 128. Blocks without a negative number, as
    behind a ReLU, share an orthant: independent rectified normals have 1 / pi whatever d, and a
    smaller cosine than that means disjoint channels.
    """
    if np.min(x) >= 0 and np.min(y) >= 0:
        return float(1 / np.pi)
    return float(np.sqrt(2 / (np.pi * x.shape[1])))


def shuffled_cosine(x: np.ndarray, y: np.ndarray, images: np.ndarray) -> float:
    """The same floor from the data: mean absolute cosine of rows of x (n, d) with rows of y (n, d) of other images.

    Taken over all such pairs, as endless shuffles across images would give. Unlike the floor from theory it knows the
    means and the active channels of these blocks. NaN with a single image or where a block is all zeros.

    Args:
        x: (n, d) float.
        y: (n, d) float.
        images: (n,) image of every row.
    """
    others = images[:, None] != images[None]
    if not (others.any() and np.any(x) and np.any(y)):
        return np.nan
    return float(np.abs(directions(x) @ directions(y).T)[others].mean())


def cross_covariance(x: np.ndarray, y: np.ndarray) -> float:
    """Norm of the cross-covariance as a share of the covariances' norms: the root of the biased linear CKA, in [0, 1].

    ``|S'P| / sqrt(|S'S| |P'P|)`` of centred blocks. Few rows raise it: compare only what has as many rows.
    """
    return float(np.sqrt(linear_cka(x, y, debiased=False)))


def principal_angles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Angles in degrees, largest first, between the subspaces that hold 95 % of the variance of x and y, both (n, d).

    They are as many as the smaller subspace has dimensions. Blocks must live in one space, channel i of the one beside
    channel i of the other; subspaces of together more than d dimensions have an angle of 0 by necessity. A single NaN
    where a block is constant.

    Source: Bjorck and Golub, 1973; ``scipy.linalg.subspace_angles``.
    """
    if is_constant(x) or is_constant(y):
        return np.array([np.nan])
    return np.degrees(subspace_angles(principal_components(x)[1], principal_components(y)[1]))


def compute(latents: Latents, n: int, generator: np.random.Generator) -> dict[str, float]:
    """Orthogonality of the shared and the private half of each sensor.

    Args:
        latents: of two sensors, of any unit.
        n: most rows used.
        generator: draws them.

    Returns:
        For either sensor: ``cosine`` (mean absolute cosine), ``cosine_floor`` (that of unrelated blocks, from theory),
        ``cosine_ratio`` (the first over the second), ``cosine_shuffled`` (the floor from the data, rows of different
        images), ``cross_covariance``, ``angle_largest`` and ``angle_mean`` (degrees); ``rows``, ``images``. A constant
        block has cosines but no cross-covariance nor angles (NaN), one of zeros has neither; ``cosine_shuffled`` is
        NaN with a single image.

    Raises:
        ValueError: see ``drawn``.

    Explained in notebook 07.
    """
    latents = drawn(latents, n, generator)
    found = {}
    for where, (shared, private) in within(latents).items():
        cosine, floor = mean_cosine(shared, private), cosine_floor(shared, private)
        angles = principal_angles(shared, private)
        found[f"cosine {where}"] = cosine
        found[f"cosine_floor {where}"] = floor
        found[f"cosine_ratio {where}"] = cosine / floor
        found[f"cosine_shuffled {where}"] = shuffled_cosine(shared, private, latents.images)
        found[f"cross_covariance {where}"] = cross_covariance(shared, private)
        found[f"angle_largest {where}"] = float(angles.max())
        found[f"angle_mean {where}"] = float(angles.mean())
    return found | counts(latents)

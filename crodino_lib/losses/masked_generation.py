"""Masked generation: the teacher's whole map, generated from a part of the student's."""

from __future__ import annotations

from torch import Tensor

from crodino_lib.losses.precision import in_float32

PUBLISHED_CELLS = 2048 * 64 * 64  # the map that the published weight 2e-5 belongs to


@in_float32
def masked_generation(generated: Tensor, teacher: Tensor, alpha: float = 2e-5, valid: Tensor | None = None) -> Tensor:
    """Squared error of a generated map: ``alpha / B`` times its sum over channels and positions.

    Args:
        generated: (B, C, h, w) float, what the generator made of the student's masked map.
        teacher: (B, C, h, w) float; detached here.
        alpha: weight of a sum, so that it belongs to a size of map; see ``alpha_for``.
        valid: (B, h, w) bool, or float weights in [0, 1]; None for every position.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where nothing is valid.

    Source: Yang et al., Masked Generative Distillation, ECCV 2022; MGD seg/mmseg/distillation/losses/mgd.py.
    Explained in notebook 03.
    """
    squares = (generated - teacher.detach()).square()
    if valid is not None:
        squares = squares * valid.unsqueeze(1)
    return alpha * squares.sum() / len(generated)


def alpha_for(channels: int, height: int, width: int, alpha: float = 2e-5) -> float:
    """The ``alpha`` that weighs a map's mean squared error as ``alpha`` does on the published 2048 x 64 x 64 map.

    Args:
        channels: of the teacher's map.
        height: of the teacher's map, in cells.
        width: of the teacher's map, in cells.
        alpha: weight on the published map; 2e-5 there is 167.77 times the mean squared error.

    Explained in notebook 03.
    """
    return alpha * PUBLISHED_CELLS / (channels * height * width)

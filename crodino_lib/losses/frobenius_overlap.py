"""Frobenius overlap of the shared and the private half: how far they vary together over samples."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def frobenius_overlap(shared: Tensor, private: Tensor) -> Tensor:
    """Mean squared entry of ``S^T P / N``, where the rows of S and P are centred over samples, then normalised.

    Unlike ``cosine_overlap`` it sees that two halves determine each other linearly, whatever channels they use.

    Args:
        shared: (N, C) float, a row per sample.
        private: (N, D) float, the same samples.

    Returns:
        Scalar in [0, 1 / (C D)]; near 1 / (N C D) for independent halves; 0, up to rounding, where a half is
        constant. So with C = D = 128 it is below 6.2e-5, which its weight has to make up for.

    Source: Bousmalis et al., Domain Separation Networks, NeurIPS 2016, as in MISA's DiffLoss; the division by
    N^2 is ours, for theirs grows with N. Explained in notebook 04.
    """
    return (_unit_rows(shared).T @ _unit_rows(private) / len(shared)).square().mean()


def _unit_rows(x: Tensor) -> Tensor:
    return F.normalize(x - x.mean(dim=0), dim=1, eps=1e-6)  # 1e-6: rows that differ by rounding alone stay near 0

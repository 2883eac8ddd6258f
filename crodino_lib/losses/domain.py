"""Which modality is it: the domain losses of DisCoM-KD, as meant and as released, and gradient reversal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def domain_cross_entropy(logits: Tensor, modality: int, as_released: bool = False) -> Tensor:
    """Cross-entropy of a modality classifier on samples of one modality.

    The released code gives it targets as large as the logits, all ones for the first modality and all zeros for the
    second, which are then read as class probabilities. The first modality's loss ``-sum_m log p_m`` is least where the
    classifier cannot tell; the second's is 0 with zero gradients. So it carries no information about the modality.

    Args:
        logits: (B, M) float, a column per modality.
        modality: the modality of all B samples, in [0, M).
        as_released: the released code's targets: ones for modality 0, zeros for any other.

    Returns:
        Scalar, the mean over the samples. The golden values of the spec, such as 10.0 for logits of +-10 as released,
        right or wrong, are the mean of the two modalities' losses, here 20.0 and 0.0.

    Source: DisCoM-KD, BMVC 2024; main_DisCoM-KD.py of tanodino/CMKD_Disentangle. Explained in notebook 06.
    """
    if as_released:
        return F.cross_entropy(logits, torch.full_like(logits, float(modality == 0)))
    return F.cross_entropy(logits, torch.full((len(logits),), modality, device=logits.device))


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """The features unchanged; what reaches them from behind is their gradient times ``-strength``.

    A classifier trained on the result learns to tell modalities, while the network below learns to mislead it.

    Args:
        features: any shape, float.
        strength: lambda, at least 0.

    Source: Ganin and Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015. Explained in notebook 06.
    """
    return _Reversal.apply(features, strength)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None

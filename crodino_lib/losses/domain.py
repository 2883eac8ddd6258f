"""Modality classification (notebook 06): DisCoM-KD's domain loss, intended and released, and gradient reversal."""

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.segmentation import in_float32


@in_float32
def domain_cross_entropy(logits: Tensor, modality: int, as_released: bool = False) -> Tensor:
    """Compute the cross-entropy of a modality classifier on samples of one modality.

    The released code's targets have the shape of the logits, all ones for the first modality and all zeros for the
    second, and are read as class probabilities. The first modality's loss ``-sum_m log p_m`` is least for a uniform
    prediction; the second's is 0 with zero gradients. So the released loss carries no information about the modality.
    Source: DisCoM-KD, BMVC 2024; main_DisCoM-KD.py of tanodino/CMKD_Disentangle.

    Args:
        logits: (B, M) float, a column per modality.
        modality: the modality of all B samples, in [0, M).
        as_released: the released code's targets: ones for modality 0, zeros for any other.
    """
    if as_released:
        return F.cross_entropy(logits, torch.full_like(logits, float(modality == 0)))
    return F.cross_entropy(logits, torch.full((len(logits),), modality, device=logits.device))


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """Return the features unchanged, with their gradient multiplied by ``-strength`` on the way back.

    A classifier trained on the result learns to tell modalities, while the network below learns to mislead it.
    ``strength`` is lambda, at least 0; the features have any shape. Source: Ganin and Lempitsky, Unsupervised Domain
    Adaptation by Backpropagation, ICML 2015.
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

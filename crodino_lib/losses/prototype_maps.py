"""Prototype maps: how much every position resembles every class, the same in student and teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32
from crodino_lib.losses.regions import region_weights


@in_float32
def prototype_map_distance(student: Tensor, teacher: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean squared difference of the maps of cosines between positions and class prototypes.

    ``mean_{n,k,u} (cos(s_nu, P_nk(s)) - cos(t_nu, P_nk(t)))^2``, where P_nk is the mean feature of class k in image n,
    weighted by the area that the class covers of each cell.

    Args:
        student: (B, C, h, w) float.
        teacher: (B, C', h, w) float; detached here.
        labels: (B, H, W) int64 in [0, K) or 255.
        num_classes: K.

    Returns:
        Scalar in [0, 4]; the mean runs over the classes present in each image and over positions weighted by their
        labelled share. 0 (with zero gradients) where no pixel is labelled.

    Source: Wang et al., Prototype Knowledge Distillation, ICASSP 2023; ProtoKD code/loss.py, which is for volumes, uses
    only the classes present in every image and averages over ignored positions too. Explained in notebook 03.
    """
    weights = region_weights(labels, num_classes, student.shape[-2:]).to(student.dtype)
    difference = _prototype_maps(student, weights) - _prototype_maps(teacher.detach(), weights)
    present = weights.sum(dim=(2, 3), keepdim=True) > 0
    counted = present * weights.sum(dim=1, keepdim=True)
    return (difference.square() * counted).sum() / counted.sum().clamp(min=1e-6)


def _prototype_maps(features: Tensor, weights: Tensor) -> Tensor:
    """(B, K, h, w) cosine of every position with every class's mean feature in its image."""
    prototypes = torch.einsum("bkhw,bchw->bkc", weights, features)  # the sum: a cosine does not see the mean's divisor
    return torch.einsum("bkc,bchw->bkhw", F.normalize(prototypes, dim=2), F.normalize(features, dim=1))

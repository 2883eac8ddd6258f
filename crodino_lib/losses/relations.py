"""Distillation losses that compare relations: between positions, to a memory, to the classes' prototypes."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.distillation import softmax_divergence
from crodino_lib.losses.regions import region_weights
from crodino_lib.losses.segmentation import in_float32


@in_float32
def cross_image_similarity(
    student: Tensor, teacher: Tensor, temperature: float = 0.1, max_cells: int | None = None
) -> Tensor:
    """Compute the mean divergence of the student's position-to-position similarities from the teacher's.

    ``1/B^2 sum_{i,j} mean_u KL(softmax_v(t_iu.t_jv / tau) || softmax_v(s_iu.s_jv / tau))`` over ordered pairs of
    images, each with itself included. Only relations are compared, so the channels need not correspond.

    Args:
        student: (B, C, h, w) float; normalised per position here.
        teacher: (B, C', h, w) float; normalised and detached here.
        temperature: tau.
        max_cells: both maps are average-pooled by the smallest whole factor that leaves at most so many positions
            (at least 1), since time and memory grow as (B h w)^2; None for the maps as they are.

    Returns:
        Scalar, at least 0; 0 where the student is the teacher up to a rotation of its channels.

    Source: Yang et al., Cross-Image Relational Knowledge Distillation, CVPR 2022; CIRKD losses/cirkd_mini_batch.py,
    which pools 4 x 4 from 256 positions a side. Explained in notebook 03.
    """
    student, teacher = _unit_positions(student, max_cells), _unit_positions(teacher.detach(), max_cells)
    similarities = (torch.einsum("iuc,jvc->iujv", units, units) / temperature for units in (student, teacher))
    return softmax_divergence(*similarities, dim=-1).mean()


def _unit_positions(features: Tensor, max_cells: int | None) -> Tensor:
    """Return the (B, h*w, C) unit vectors of a map, pooled to at most ``max_cells`` positions."""
    if max_cells is not None:
        height, width = features.shape[-2:]
        factors = itertools.count(1)
        factor = next(f for f in factors if math.ceil(height / f) * math.ceil(width / f) <= max_cells)
        features = F.avg_pool2d(features, factor, ceil_mode=True)
    return F.normalize(features.flatten(2).mT, dim=2)


@in_float32
def memory_similarity(student: Tensor, teacher: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    """Compute the mean divergence, over rows, of the student's similarities to a memory of the teacher's vectors.

    Args:
        student: (M, C) float, one row per position or region, in the teacher's channels; normalised here.
        teacher: (M, C) float, the same rows; normalised and detached here.
        keys: (Q, C) float vectors of the teacher; normalised and detached here.
        temperature: tau.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) without rows or without keys.

    Source: Yang et al., Cross-Image Relational Knowledge Distillation, CVPR 2022; CIRKD losses/cirkd_memory.py, which
    is nan without rows. Explained in notebook 03.
    """
    keys = F.normalize(keys.detach(), dim=1)
    similarities = (F.normalize(rows, dim=1) @ keys.T / temperature for rows in (student, teacher.detach()))
    return softmax_divergence(*similarities, dim=-1).sum() / max(len(student), 1)


@in_float32
def prototype_map_distance(student: Tensor, teacher: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Compute the mean squared difference of the maps of cosines between positions and class prototypes.

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
    """Return the (B, K, h, w) cosines of every position with every class's mean feature in its image."""
    prototypes = torch.einsum("bkhw,bchw->bkc", weights, features)  # sums do: a cosine ignores the mean's divisor
    return torch.einsum("bkc,bchw->bkhw", F.normalize(prototypes, dim=2), F.normalize(features, dim=1))

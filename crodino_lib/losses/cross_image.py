"""Relations across images: which positions resemble which, in the batch and in a memory of the teacher's vectors."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def cross_image_similarity(
    student: Tensor, teacher: Tensor, temperature: float = 0.1, max_cells: int | None = None
) -> Tensor:
    """Mean divergence of the student's position-to-position similarities from the teacher's, over all image pairs.

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
    return _row_divergence(*similarities).mean()


@in_float32
def memory_similarity(student: Tensor, teacher: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean divergence, over rows, of the student's similarities to a memory of the teacher's vectors.

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
    return _row_divergence(*similarities).sum() / max(len(student), 1)


def _row_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the last dimension."""
    log_q, log_p = F.log_softmax(student, dim=-1), F.log_softmax(teacher, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)


def _unit_positions(features: Tensor, max_cells: int | None) -> Tensor:
    """(B, h*w, C) unit vectors of a map, pooled to at most ``max_cells`` positions."""
    if max_cells is not None:
        features = F.avg_pool2d(features, _pooling_factor(*features.shape[-2:], max_cells), ceil_mode=True)
    return F.normalize(features.flatten(2).mT, dim=2)


def _pooling_factor(height: int, width: int, max_cells: int) -> int:
    return next(f for f in itertools.count(1) if math.ceil(height / f) * math.ceil(width / f) <= max_cells)

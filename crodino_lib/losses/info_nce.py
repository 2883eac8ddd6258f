"""InfoNCE between paired rows, and the points that two differently augmented views of a scene share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def info_nce(queries: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean negative log-probability that a row picks its partner among all rows of the other side, both ways.

    Args:
        queries: (N, C) float; normalised here.
        keys: (N, C) float; row i is the partner of query i; normalised here.
        temperature: tau.

    Returns:
        Scalar, at least 0, equal when the sides are exchanged; log N where all rows are equal; 0 (with zero gradients)
        for fewer than two rows.

    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018, in the
    symmetric form of CLIP. Explained in notebook 04.
    """
    similarity = F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T / temperature
    either_way = (similarity.logsumexp(dim=1) + similarity.logsumexp(dim=0)) / 2
    return (either_way - similarity.diagonal()).sum() / max(len(queries), 1)


@in_float32
def sample_shared_points(
    warp_a: Tensor, warp_b: Tensor, points: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Random points of view a, and where the same points of the scene lie in view b.

    Args:
        warp_a: (B, 2, 3) float, from normalised coordinates of the view (x, y in [-1, 1]) to the scene's, as in
            ``Batch.warps``.
        warp_b: (B, 2, 3) float, likewise.
        points: P, drawn evenly over view a.
        generator: on the CPU; None takes torch's own.

    Returns:
        Grids (B, P, 1, 2) of a and of b for ``grid_sample`` with ``align_corners=False`` and
        ``padding_mode="border"`` (points nearer to the edge than half a cell have no neighbour beyond it), and (B, P)
        bool: the point lies in the scene and in both views. Both grids show one point of the scene.

    Explained in notebook 04.
    """
    drawn = torch.rand(len(warp_a), points, 2, generator=generator, dtype=warp_a.dtype).to(warp_a.device)
    in_a = 2 * drawn - 1
    scene = in_a @ warp_a[:, :, :2].mT + warp_a[:, None, :, 2]
    in_b = torch.linalg.solve(warp_b[:, :, :2], (scene - warp_b[:, None, :, 2]).mT).mT
    visible = ((scene.abs() <= 1) & (in_b.abs() <= 1)).all(dim=-1)
    return in_a.unsqueeze(2), in_b.unsqueeze(2), visible

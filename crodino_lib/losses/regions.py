"""Region vectors: one vector per image and class, the unit of contrast and of every latent picture."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.precision import in_float32


class RegionVectors(NamedTuple):
    """M regions of a batch.

    Attributes:
        vectors: (M, C) mean feature of the region.
        classes: (M,) int64 class of the region.
        images: (M,) int64 position of its image in the batch.
    """

    vectors: Tensor
    classes: Tensor
    images: Tensor


def region_weights(labels: Tensor, num_classes: int, size: tuple[int, int]) -> Tensor:
    """Share of each feature cell that each class covers: area-averaged one-hot labels.

    Nearest labels would lose most small classes on a bottleneck of a few dozen cells.

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        num_classes: K.
        size: (h, w) of the feature map.

    Returns:
        (B, K, h, w) float in [0, 1]; sums to the labelled share of each cell.
    """
    one_hot = F.one_hot(labels.clamp(max=num_classes), num_classes + 1)[..., :num_classes]
    return F.adaptive_avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), size)


def cover(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labelled share of every cell (B, h, w), in [0, 1]: 0 outside the scene, where a teacher has nothing to say.

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        size: (h, w) of a feature map.
    """
    return F.adaptive_avg_pool2d((labels != IGNORE).float(), size)


def nearest_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (B, h, w) of a coarser or finer map: each cell has the label at its centre.

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        size: (h, w) of the map.
    """
    return F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


@in_float32
def region_vectors(features: Tensor, labels: Tensor, num_classes: int, min_cells: float = 1.0) -> RegionVectors:
    """Mean feature of every class in every image, where the class covers enough of it.

    Args:
        features: (B, C, h, w) float.
        labels: (B, H, W) int64 in [0, K) or 255.
        num_classes: K.
        min_cells: smallest region kept, in feature cells' worth of area.

    Returns:
        The regions, ordered by image, then class; the means are weighted by covered area.

    Source: our reconstruction; published region contrasts pool with nearest labels.
    """
    weights = region_weights(labels, num_classes, features.shape[-2:]).to(features.dtype)
    area = weights.sum(dim=(2, 3))
    means = torch.einsum("bkhw,bchw->bkc", weights, features) / area.clamp(min=1e-6).unsqueeze(-1)
    images, classes = torch.nonzero(area >= min_cells, as_tuple=True)
    return RegionVectors(means[images, classes], classes, images)

"""Labels on the grid of a feature map, and region vectors: the mean feature of each class in each image."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.segmentation import in_float32


class RegionVectors(NamedTuple):
    """The M regions of a batch: one for every class of every image that covers enough of it."""

    vectors: Tensor  # (M, C) mean feature
    classes: Tensor  # (M,) int64 class
    images: Tensor  # (M,) int64 position of the image in the batch


def region_weights(labels: Tensor, num_classes: int, size: tuple[int, int]) -> Tensor:
    """Return the share of each feature cell that each class covers: area-averaged one-hot labels.

    From labels (B, H, W) int64 in [0, K) or 255 to (B, K, h, w) float in [0, 1], which sums over classes to a cell's
    labelled share. Nearest labels would lose most small classes on a bottleneck of a few dozen cells.
    """
    one_hot = F.one_hot(labels.clamp(max=num_classes), num_classes + 1)[..., :num_classes]
    return F.adaptive_avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), size)


def cover(inside: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the share, in [0, 1], of every cell (B, h, w) of a map of ``size`` that is True in ``inside`` (B, H, W).

    Of ``Batch.inside`` it is 0 in what augmentation pads outside the scene, where a teacher's output means nothing.
    """
    return F.adaptive_avg_pool2d(inside.float(), size)


@torch.no_grad()
def likely_labels(logits: Tensor, inside: Tensor, confidence: float = 0.0) -> Tensor:
    """Return the most likely class of every pixel inside the scene where its probability reaches ``confidence``.

    From logits (B, K, h, w) at any resolution and ``inside`` (B, H, W) bool to labels (B, H, W) int64, 255 elsewhere.
    """
    up = F.interpolate(logits.float(), size=inside.shape[-2:], mode="bilinear", align_corners=False)
    probability, likely = up.softmax(dim=1).max(dim=1)
    return torch.where(inside & (probability >= confidence), likely, IGNORE)


def fill_unlabelled(labels: Tensor, likely: Tensor) -> Tensor:
    """Return ``labels`` (B, H, W), in which scenes without any known label have those of ``likely``."""
    return torch.where((labels == IGNORE).all(dim=(1, 2), keepdim=True), likely, labels)


def nearest_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the labels (B, h, w) of a coarser or finer map of ``size``: each cell has the label at its centre."""
    return F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


@in_float32
def region_vectors(features: Tensor, labels: Tensor, num_classes: int, min_cells: float = 1.0) -> RegionVectors:
    """Return the mean feature of every class in every image, where the class covers enough of it.

    Features are (B, C, h, w) float, labels (B, H, W) int64 in [0, K) or 255; regions smaller than the area of
    ``min_cells`` feature cells are left out. They are ordered by image, then class. Published contrasts pool with
    nearest labels instead of by area.
    """
    weights = region_weights(labels, num_classes, features.shape[-2:]).to(features.dtype)
    area = weights.sum(dim=(2, 3))
    means = torch.einsum("bkhw,bchw->bkc", weights, features) / area.clamp(min=1e-6).unsqueeze(-1)
    images, classes = torch.nonzero(area >= min_cells, as_tuple=True)
    return RegionVectors(means[images, classes], classes, images)

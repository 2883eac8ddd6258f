"""Pixel contrast: pixels of one class together across views, each positive judged against the negatives alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.precision import in_float32
from crodino_lib.losses.regions import nearest_labels


@in_float32
def pixel_contrast(
    anchors: Tensor,
    anchor_classes: Tensor,
    keys: Tensor,
    key_classes: Tensor,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    comparable: Tensor | None = None,
    hardest: float = 1.0,
) -> Tensor:
    """Mean negative log-probability that an anchor picks a key of its own class over all keys of other classes.

    ``-(tau / tau_0) mean_i mean_{j in P(i)} log(exp(s_ij) / (exp(s_ij) + sum_{k in N(i)} exp(s_ik)))`` with
    ``s_ij = v_i.v_j / tau``, over the anchors that have a positive. Other positives are not in the denominator, so a
    positive that already matches does not push the rest away; in ``supervised_contrast`` it does.

    Args:
        anchors: (M, C) float; normalised here.
        anchor_classes: (M,) int64.
        keys: (N, C) float; normalised here, and not detached.
        key_classes: (N,) int64.
        temperature: tau.
        base_temperature: tau_0.
        comparable: (M, N) bool; a pair that is False is neither positive nor negative (an anchor that is also a key
            must not be its own positive). None compares all pairs.
        hardest: share in (0, 1] of each anchor's most similar negatives, and of its least similar positives, that
            count; rounded up.

    Returns:
        Scalar, at least 0; an anchor without negatives counts as 0, and without any positive the loss is 0 (with zero
        gradients).

    Source: Wang et al., Exploring Cross-Image Pixel Contrast for Semantic Segmentation, ICCV 2021;
    lib/loss/loss_contrast.py, which divides by zero where a class has one vector. Explained in notebook 05.
    """
    similarity = F.normalize(anchors, dim=1) @ F.normalize(keys, dim=1).T / temperature
    same = anchor_classes[:, None] == key_classes[None, :]
    allowed = torch.ones_like(same) if comparable is None else comparable
    positive, negative = same & allowed, ~same & allowed
    if hardest < 1 and len(keys):
        positive, negative = _highest(-similarity, positive, hardest), _highest(similarity, negative, hardest)
    lowest = torch.finfo(similarity.dtype).min  # not -inf: without negatives the gradients would be nan
    against = torch.logsumexp(similarity.masked_fill(~negative, lowest), dim=1, keepdim=True)
    count = positive.sum(dim=1)
    per_anchor = (F.softplus(against - similarity) * positive).sum(dim=1) / count.clamp(min=1)
    return per_anchor.sum() / (count > 0).sum().clamp(min=1) * (temperature / base_temperature)


def _highest(scores: Tensor, among: Tensor, share: float) -> Tensor:
    """Of each row's True entries, the ``share`` with the highest scores, rounded up: (M, N) bool."""
    ranked = scores.masked_fill(~among, -torch.inf).sort(dim=1, descending=True).values
    kept = torch.ceil(among.sum(dim=1, keepdim=True) * share - 1e-3).clamp(min=1).long()  # 1e-3: 0.1 * 30 is above 3
    return among & (scores >= ranked.gather(1, kept - 1))


def sample_pixels(
    features: Tensor, labels: Tensor, per_class: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Features at random positions, equally many of a frequent class as of a rare one.

    Args:
        features: (B, C, h, w) float.
        labels: (B, H, W) int64 in [0, K) or 255; a position has the label at its centre.
        per_class: most positions of one class in one image.
        generator: on the CPU, so that every device draws the same positions; None takes torch's own.

    Returns:
        Vectors (M, C), their classes (M,) int64 and their images (M,) int64, ordered by image, then class. No position
        is drawn twice, none is labelled 255, and class 0 is a class like any other.

    Source: our reconstruction; ContrastiveSeg draws anchors by their prediction, and leaves class 0 out of its memory.
    Explained in notebook 05.
    """
    small = nearest_labels(labels, features.shape[-2:]).flatten()
    image = torch.arange(len(labels), device=labels.device).repeat_interleave(features[0, 0].numel())
    group = image * (IGNORE + 1) + small
    shuffled = torch.randperm(len(group), generator=generator).to(labels.device)
    shuffled = shuffled[small[shuffled] != IGNORE]
    order = shuffled[group[shuffled].argsort(stable=True)]
    ordered = group[order]
    rank = torch.arange(len(order), device=labels.device) - torch.searchsorted(ordered, ordered)  # within its group
    kept = order[rank < per_class]
    return features.permute(0, 2, 3, 1).flatten(0, 2)[kept], small[kept], image[kept]

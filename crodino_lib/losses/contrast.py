"""Contrast (notebooks 04 and 05): losses over vectors with classes or partners, and the sampling of vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.regions import nearest_labels
from crodino_lib.losses.segmentation import in_float32


@in_float32
def supervised_contrast(
    vectors: Tensor,
    classes: Tensor,
    temperature: float = 0.1,
    negatives: Tensor | None = None,
    memory: Tensor | None = None,
    memory_classes: Tensor | None = None,
) -> Tensor:
    """Compute the mean negative log-probability that an anchor picks a vector of its own class among all others.

    ``-(1/|A|) sum_i (1/|P(i)|) sum_{j in P(i)} log(exp(v_i.v_j / tau) / sum_{k != i} exp(v_i.v_k / tau))`` over the
    anchors A that have a positive. Positives j and candidates k run over vectors and memory. Source: Khosla et al.,
    Supervised Contrastive Learning, NeurIPS 2020, eq. 2.

    Args:
        vectors, classes: (M, C) float, normalised here, and (M,) int64.
        negatives: (N, C) float vectors that stand in every denominator and are never anchors nor positives.
        memory, memory_classes: (Q, C) float vectors and (Q,) int64 classes, as many (else ValueError): positives,
            candidates and never anchors.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where no vector has another of its class.
    """
    held, named = (0 if rows is None else len(rows) for rows in (memory, memory_classes))
    if held != named:
        raise ValueError(f"memory holds {held} vectors, memory_classes {named}; give one class for each vector")
    anchors = F.normalize(vectors, dim=1)
    others = [F.normalize(keys, dim=1) for keys in (memory, negatives) if keys is not None]
    keys = torch.cat([anchors, *others])
    similarity = anchors @ keys.T / temperature
    itself = torch.eye(*similarity.shape, dtype=torch.bool, device=vectors.device)
    lowest = torch.finfo(similarity.dtype).min  # not -inf: a lone vector would make its log-sum, and gradients, nan
    log_probability = similarity - torch.logsumexp(similarity.masked_fill(itself, lowest), dim=1, keepdim=True)
    key_classes = classes if memory is None else torch.cat([classes, memory_classes])
    positive = (classes[:, None] == key_classes[None, :]) & ~itself[:, : len(key_classes)]
    count = positive.sum(dim=1)
    per_anchor = (log_probability[:, : len(key_classes)] * positive).sum(dim=1) / count.clamp(min=1)
    return -per_anchor.sum() / (count > 0).sum().clamp(min=1)


@in_float32
def info_nce(queries: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    """Compute the mean negative log-probability that a row picks its partner on the other side, both ways.

    ``queries`` and ``keys`` are (N, C) float, normalised here; rows of one number are partners. Source: van den Oord et
    al., Contrastive Predictive Coding, 2018, in the symmetric form of CLIP.
    It is equal when the sides are exchanged, log N where all rows are equal, and 0 (with zero gradients) for fewer than
    two rows.
    """
    similarity = F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T / temperature
    either_way = (similarity.logsumexp(dim=1) + similarity.logsumexp(dim=0)) / 2
    return (either_way - similarity.diagonal()).sum() / max(len(queries), 1)


@in_float32
def sample_shared_points(
    warp_a: Tensor, warp_b: Tensor, points: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw P random points of view a, evenly, and return them with the same scene points in view b.

    Args:
        warp_a, warp_b: (B, 2, 3) float, from a view's normalised coordinates to the scene's, as in ``Batch.warps``.
        generator: on the CPU; None takes torch's own.

    Returns:
        Grids (B, P, 1, 2) of a and of b for ``grid_sample`` with ``align_corners=False`` and
        ``padding_mode="border"`` (points nearer to the edge than half a cell have no neighbour beyond it), and (B, P)
        bool: the point lies in the scene and in both views.
    """
    drawn = torch.rand(len(warp_a), points, 2, generator=generator, dtype=warp_a.dtype).to(warp_a.device)
    in_a = 2 * drawn - 1
    scene = in_a @ warp_a[:, :, :2].mT + warp_a[:, None, :, 2]
    in_b = torch.linalg.solve(warp_b[:, :, :2], (scene - warp_b[:, None, :, 2]).mT).mT
    visible = ((scene.abs() <= 1) & (in_b.abs() <= 1)).all(dim=-1)
    return in_a.unsqueeze(2), in_b.unsqueeze(2), visible


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
    """Compute the mean negative log-probability that an anchor picks a key of its class over keys of other classes.

    ``-(tau / tau_0) mean_i mean_{j in P(i)} log(exp(s_ij) / (exp(s_ij) + sum_{k in N(i)} exp(s_ik)))`` over the anchors
    that have a positive, with ``s_ij = v_i.v_j / tau``. Other positives are not in the denominator, so a positive that
    already matches does not push the rest away; in ``supervised_contrast`` it does. Source: Wang et al., Exploring
    Cross-Image Pixel Contrast for Semantic Segmentation, ICCV 2021; lib/loss/loss_contrast.py, which divides by zero
    where a class has one vector.

    Args:
        anchors, keys: (M, C) and (N, C) float; normalised here, and neither is detached.
        anchor_classes, key_classes: (M,) and (N,) int64.
        temperature, base_temperature: tau and tau_0.
        comparable: (M, N) bool; a pair that is False is neither positive nor negative (an anchor that is also a key
            must not be its own positive). None compares all pairs.
        hardest: share in (0, 1] of each anchor's most similar negatives, and of its least similar positives, that
            count; rounded up.

    Returns:
        Scalar, at least 0; anchors without negatives count as 0; 0 (with zero gradients) without any positive.
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
    """Return which True entries of each row are in the ``share`` with the highest scores, rounded up: (M, N) bool."""
    ranked = scores.masked_fill(~among, -torch.inf).sort(dim=1, descending=True).values
    kept = torch.ceil(among.sum(dim=1, keepdim=True) * share - 1e-3).clamp(min=1).long()  # 1e-3: 0.1 * 30 is above 3
    return among & (scores >= ranked.gather(1, kept - 1))


def sample_pixels(
    features: Tensor, labels: Tensor, per_class: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw features at random positions, equally many of a frequent class as of a rare one.

    Args:
        features: (B, C, h, w) float.
        labels: (B, H, W) int64 in [0, K) or 255; a position has the label at its centre.
        per_class: most positions of one class in one image.
        generator: on the CPU, so that every device draws the same positions; None takes torch's own.

    Returns:
        Vectors (M, C), classes (M,) int64 and images (M,) int64, ordered by image, then class. No position is drawn
        twice, none is labelled 255, and class 0 is a class like any other (ContrastiveSeg leaves it out of its memory).
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

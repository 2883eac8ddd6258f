"""Distillation (notebooks 03 and 14): maps, or relations between positions, of student and teacher."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.regions import region_weights
from crodino_lib.losses.segmentation import in_float32


def softmax_divergence(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    """Return ``KL(softmax(teacher) || softmax(student))`` over dimension ``dim`` of two tensors of scores."""
    log_q, log_p = F.log_softmax(student, dim=dim), F.log_softmax(teacher, dim=dim)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=dim)


@in_float32
def pixel_distillation(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    """Compute the mean divergence, over positions, of the student's softened class probabilities from the teacher's.

    ``T^2 mean_u KL(softmax(teacher_u / T) || softmax(student_u / T))``; T^2 keeps the size of the gradients as T grows.
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; per pixel as in CIRKD losses/kd.py, which
    counts ignored positions too.

    Logits are (B, K, h, w) float, the teacher's detached here; ``valid`` (B, h, w) bool, or weights in [0, 1]; None for
    every position. The result is 0 up to a constant per position, and 0 (with zero gradients) where nothing is valid.
    """
    divergence = softmax_divergence(student / temperature, teacher.detach() / temperature, dim=1)
    weight = torch.ones_like(divergence) if valid is None else valid.to(divergence.dtype)
    return temperature**2 * (divergence * weight).sum() / weight.sum().clamp(min=1e-6)


@in_float32
def channel_distillation(
    student: Tensor, teacher: Tensor, temperature: float = 4.0, valid: Tensor | None = None
) -> Tensor:
    """Compute the mean divergence, over images and channels, of the student's spatial distribution from the teacher's.

    ``T^2 / (B C) sum_{n,c} KL(softmax_u(teacher_nc / T) || softmax_u(student_nc / T))``: where a channel is high
    counts, how high does not. The softmax runs over the positions, so its scale depends on the size of the map. Source:
    Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021. The official code's default
    compares the first image of a batch only.

    Logits or features are (B, C, h, w) float, the teacher's detached here; ``valid`` (B, h, w) is bool, or weights of
    which those above 0 are valid; None for every position. The result is 0 up to a constant per channel; an image
    without a valid position adds 0.
    """
    student, teacher = student / temperature, teacher.detach() / temperature
    if valid is not None:
        lowest = torch.finfo(student.dtype).min  # no mass for invalid positions; -inf would make the divergence nan
        student, teacher = (x.masked_fill((valid == 0).unsqueeze(1), lowest) for x in (student, teacher))
    return temperature**2 * softmax_divergence(student.flatten(2), teacher.flatten(2), dim=2).mean()


@in_float32
def decoupled_distillation(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0, target: float = 1.0, others: float = 8.0
) -> Tensor:
    """Compute Hinton's divergence in two separately weighted parts (DKD), as a mean over labelled positions.

    ``T^2 mean_u [target KL(b_t || b_s) + others KL(p^_t || p^_s)]`` with ``b = (p_y, 1 - p_y)`` and ``p^`` the
    distribution over the wrong classes alone. Plain distillation is ``target = 1`` and, at every position,
    ``others = 1 - p_y`` of the teacher, which suppresses the wrong classes where the teacher is sure. Source: Zhao et
    al., Decoupled Knowledge Distillation, CVPR 2022.

    Logits are (B, K, h, w) float, the teacher's detached here, and ``labels`` (B, h, w) int64 in [0, K) or 255. The
    result is at least 0, and 0 (with zero gradients) where nothing is labelled.
    """
    labelled = labels != IGNORE
    right = F.one_hot(labels.where(labelled, 0), student.shape[1]).movedim(-1, 1).bool()
    lowest = torch.finfo(student.dtype).min / 2  # keeps a class out of a softmax, without infinities
    log_p, log_q = (F.log_softmax(x / temperature, dim=1) for x in (teacher.detach(), student))
    b_t, b_s = (
        torch.stack([x.masked_fill(~among, lowest).logsumexp(dim=1) for among in (right, ~right)])
        for x in (log_p, log_q)
    )
    binary = (b_t.exp() * (b_t - b_s)).sum(dim=0)
    p, q = (F.log_softmax(x.masked_fill(right, lowest), dim=1) for x in (log_p, log_q))  # of the wrong classes alone
    ranking = (p.exp() * (p - q)).masked_fill(right, 0).sum(dim=1)
    per_pixel = (target * binary + others * ranking) * labelled
    return temperature**2 * per_pixel.sum() / labelled.sum().clamp(min=1)


@torch.no_grad()
def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return how alike two maps of logits rank the classes at each position: Kendall's tau-b.

    ``(pairs in the same order - pairs in opposite orders) / sqrt(pairs not tied in one * pairs not tied in other)``,
    from two (B, K, h, w) to (B, h, w) in [-1, 1]; 0 where all classes of a map are tied.
    """
    same, untied_one, untied_other = torch.zeros(3, *one[:, 0].shape, device=one.device)
    for distance in range(1, one.shape[1]):  # pairs (k, k + distance) at once: all K^2 would take too much memory
        a, b = (torch.sign(x[:, distance:] - x[:, :-distance]) for x in (one, other))
        same += (a * b).sum(dim=1)
        untied_one += a.abs().sum(dim=1)
        untied_other += b.abs().sum(dim=1)
    return same / (untied_one * untied_other).clamp(min=1).sqrt()


@in_float32
def selected_distillation(
    student: Tensor, teacher: Tensor, labels: Tensor, threshold: float = 0.0, remove_target: bool = False
) -> Tensor:
    """Compute the divergence of the wrong classes where student and teacher rank the classes alike (OFSD of C2KD).

    ``1/n sum_u [tau_u > threshold] KL(softmax(t'_u) || softmax(s'_u))`` over the n labelled positions, selected or not,
    where tau is ``rank_correlation`` and ' sets the right class's logit to 0, as released, so that it keeps ``e^0`` of
    the mass; with ``remove_target`` it keeps none. Source: Huo et al., C2KD, CVPR 2024; huofushuo/C2KD
    ave/utils/helper.py::ntkl, for samples in place of positions.

    Logits are (B, K, h, w) float, the teacher's detached here, and ``labels`` (B, h, w) int64 in [0, K) or 255. The
    result is at least 0, and 0 (with zero gradients) where nothing is selected.
    """
    labelled, teacher = labels != IGNORE, teacher.detach()
    chosen = labelled & (rank_correlation(student, teacher) > threshold)
    right = F.one_hot(labels.where(labelled, 0), student.shape[1]).movedim(-1, 1).bool()
    fill = torch.finfo(student.dtype).min / 2 if remove_target else 0.0
    divergence = softmax_divergence(student.masked_fill(right, fill), teacher.masked_fill(right, fill), dim=1)
    return (divergence * chosen).sum() / labelled.sum().clamp(min=1)


@in_float32
def feature_imitation(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the mean squared distance, over positions, of features normalised over channels: ``2 - 2 cos``.

    Features are (B, C, h, w) float, the teacher's detached here; ``valid`` (B, h, w) bool, or weights in [0, 1]; None
    for every position. The result is in [0, 4]: 0 where the directions agree, whatever the lengths, and where nothing
    is valid. Our reconstruction of CSK-Net's distillation of shallow features.
    """
    difference = F.normalize(teacher.detach(), dim=1) - F.normalize(student, dim=1)
    distance = difference.square().sum(dim=1)
    weight = torch.ones_like(distance) if valid is None else valid.to(distance.dtype)
    return (distance * weight).sum() / weight.sum().clamp(min=1e-6)


@in_float32
def masked_generation(generated: Tensor, teacher: Tensor, alpha: float = 2e-5, valid: Tensor | None = None) -> Tensor:
    """Compute the squared error of a generated map: ``alpha / B`` times its sum over channels and positions.

    It is 0 (with zero gradients) where nothing is valid. Source: Yang et al., Masked Generative Distillation, ECCV
    2022; MGD seg/mmseg/distillation/losses/mgd.py.

    Args:
        generated, teacher: (B, C, h, w) float, the first made from the student's masked map; the second detached here.
        alpha: weight of a sum, so that it belongs to a size of map; see ``alpha_for``.
        valid: (B, h, w) bool, or float weights in [0, 1]; None for every position.
    """
    squares = (generated - teacher.detach()).square() * (1 if valid is None else valid.unsqueeze(1))
    return alpha * squares.sum() / len(generated)


def alpha_for(channels: int, height: int, width: int, alpha: float = 2e-5) -> float:
    """Return the weight that counts the mean squared error as ``alpha`` does on the published 2048 x 64 x 64 map.

    There 2e-5 is 167.77 times the mean squared error.
    """
    return alpha * (2048 * 64 * 64) / (channels * height * width)


@in_float32
def receptive_masks(features: Tensor, tokens: Tensor) -> Tensor:
    """Return one soft mask per token: how well each position's feature matches it, ``sigmoid(token . feature)``.

    From the teacher's features (B, C, h, w) and learned tokens (T, C) to masks (B, T, h, w) in [0, 1]. Source: Huang et
    al., Masked Distillation with Receptive Tokens, ICLR 2023; MasKD segmentation/losses/maskd.py.
    """
    return torch.einsum("bchw,tc->bthw", features, tokens).sigmoid()


@in_float32
def mask_overlap(masks: Tensor) -> Tensor:
    """Compute the mean soft Dice, over images, between the masks of different tokens.

    ``2 sum_u a b / (sum_u a^2 + sum_u b^2)`` of masks (B, T, h, w) in [0, 1]: 1 for equal ones, 0 where tokens attend
    to different positions, and for a single token (nan in the official code). Source: MasKD.
    """
    flat = masks.flatten(2)
    products = flat @ flat.mT
    squares = products.diagonal(dim1=1, dim2=2)
    dice = 2 * products / (squares[:, :, None] + squares[:, None, :] + 2e-12)
    first, second = torch.triu_indices(*dice.shape[1:], offset=1, device=dice.device)
    pairs = dice[:, first, second]
    return pairs.sum() / max(pairs.numel(), 1)


@in_float32
def masked_distillation(student: Tensor, teacher: Tensor, masks: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the squared difference of two maps under every mask, divided by the mask's size.

    ``1/2 mean_{n,t,c} [sum_u A_tu^2 (s_cu - t_cu)^2 / (sum_u A_tu + 1e-5)]``: the mask multiplies both maps before
    their difference is squared, and divides by its first power. Source: MasKD, as ``receptive_masks``.

    Maps are (B, C, h, w) float, the teacher's detached here, as are ``masks`` (B, T, h, w) in [0, 1]; ``valid``
    (B, h, w) bool, or weights in [0, 1], multiplies the masks. A constant per position counts as error; the result is 0
    (with zero gradients) where nothing is valid.
    """
    masks = masks.detach() if valid is None else masks.detach() * valid.unsqueeze(1)
    error = torch.einsum("bthw,bchw->btc", masks.square(), (student - teacher.detach()).square())
    return 0.5 * (error / (masks.sum(dim=(2, 3)) + 1e-5).unsqueeze(2)).mean()


@in_float32
def cross_image_similarity(
    student: Tensor, teacher: Tensor, temperature: float = 0.1, max_cells: int | None = None
) -> Tensor:
    """Compute the mean divergence of the student's position-to-position similarities from the teacher's.

    ``1/B^2 sum_{i,j} mean_u KL(softmax_v(t_iu.t_jv / tau) || softmax_v(s_iu.s_jv / tau))`` over ordered pairs of
    images, each with itself included. Only relations are compared, so the channels need not correspond. Source: Yang et
    al., Cross-Image Relational Knowledge Distillation, CVPR 2022; CIRKD losses/cirkd_mini_batch.py, which pools 4 x 4
    from 256 positions a side.

    Args:
        student, teacher: (B, C, h, w) and (B, C', h, w) float; normalised per position, the teacher's detached here.
        max_cells: both maps are average-pooled by the smallest whole factor that leaves at most so many positions
            (at least 1), since time and memory grow as (B h w)^2; None for the maps as they are.

    Returns:
        Scalar, at least 0; 0 where the student is the teacher up to a rotation of its channels.
    """
    student, teacher = _unit_positions(student, max_cells), _unit_positions(teacher.detach(), max_cells)
    similarities = (torch.einsum("iuc,jvc->iujv", units, units) / temperature for units in (student, teacher))
    return softmax_divergence(*similarities, dim=-1).mean()


def _unit_positions(features: Tensor, max_cells: int | None) -> Tensor:
    """Return the (B, h*w, C) unit vectors of a map, pooled to at most ``max_cells`` positions."""
    if max_cells is not None:
        height, width = features.shape[-2:]
        factor = next(f for f in itertools.count(1) if math.ceil(height / f) * math.ceil(width / f) <= max_cells)
        features = F.avg_pool2d(features, factor, ceil_mode=True)
    return F.normalize(features.flatten(2).mT, dim=2)


@in_float32
def memory_similarity(student: Tensor, teacher: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    """Compute the mean divergence, over rows, of the student's similarities to a memory of the teacher's vectors.

    ``student`` and ``teacher`` are (M, C) float, a row per position or region, ``keys`` (Q, C) float; all normalised,
    and all but the student's detached here. The result is 0 (with zero gradients) without rows or without keys. Source:
    CIRKD, as ``cross_image_similarity``; losses/cirkd_memory.py, which is nan without rows.
    """
    keys = F.normalize(keys.detach(), dim=1)
    similarities = (F.normalize(rows, dim=1) @ keys.T / temperature for rows in (student, teacher.detach()))
    return softmax_divergence(*similarities, dim=-1).sum() / max(len(student), 1)


@in_float32
def prototype_map_distance(student: Tensor, teacher: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Compute the mean squared difference of the maps of cosines between positions and class prototypes.

    ``mean_{n,k,u} (cos(s_nu, P_nk(s)) - cos(t_nu, P_nk(t)))^2``, where P_nk is the mean feature of class k in image n,
    weighted by the area that the class covers of each cell. Source: Wang et al., Prototype Knowledge Distillation,
    ICASSP 2023; ProtoKD code/loss.py, which is for volumes, uses only the classes present in every image and averages
    over ignored positions too.

    Maps are (B, C, h, w) and (B, C', h, w) float, the teacher's detached here, and ``labels`` (B, H, W) int64 in [0, K)
    or 255. The result is in [0, 4]: the mean over the classes present in each image and over positions, weighted by
    their labelled share; 0 (with zero gradients) where no pixel is labelled.
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

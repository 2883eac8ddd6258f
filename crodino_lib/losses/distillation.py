"""Distillation losses that compare a student's map with the teacher's, position by position."""

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.data.sample import IGNORE
from crodino_lib.losses.segmentation import in_float32

PUBLISHED_CELLS = 2048 * 64 * 64  # size of the map that masked generation's published weight 2e-5 belongs to


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

    Args:
        student: (B, K, h, w) float logits.
        teacher: (B, K, h, w) float logits; detached here.
        temperature: T.
        valid: (B, h, w) bool, or float weights in [0, 1]; None for every position.

    Returns:
        Scalar, at least 0; 0 where the two agree up to a constant per position, and 0 (with zero gradients) where
        nothing is valid.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; per pixel as in CIRKD losses/kd.py, which
    counts ignored positions too. Explained in notebook 03.
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
    counts, how high does not. The softmax runs over the positions, so its scale depends on the size of the map.

    Args:
        student: (B, C, h, w) float logits or features.
        teacher: (B, C, h, w) float; detached here.
        temperature: T.
        valid: (B, h, w) bool, or float weights of which those above 0 are valid; None for every position.

    Returns:
        Scalar, at least 0; 0 where the two agree up to a constant per channel. An image without a valid position
        adds 0 (with zero gradients) to the sum.

    Source: Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021. The official code's
    default compares the first image of a batch only. Explained in notebook 03.
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

    With ``b = (p_y, 1 - p_y)`` and ``p^`` the distribution over the wrong classes alone,
    ``T^2 mean_u [target KL(b_t || b_s) + others KL(p^_t || p^_s)]``. Plain distillation is ``target = 1`` and, at every
    position, ``others = 1 - p_y`` of the teacher, which suppresses the wrong classes where the teacher is sure.

    Args:
        student: (B, K, h, w) float logits.
        teacher: (B, K, h, w) float logits; detached here.
        labels: (B, h, w) int64 in [0, K) or 255, at the logits' resolution.
        temperature: T.
        target: weight of the right class against all others.
        others: weight of the ranking of the others.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where nothing is labelled.

    Source: Zhao et al., Decoupled Knowledge Distillation, CVPR 2022. Explained in notebook 03.
    """
    labelled = labels != IGNORE
    right = F.one_hot(labels.where(labelled, 0), student.shape[1]).movedim(-1, 1).bool()
    log_q = F.log_softmax(student / temperature, dim=1)
    log_p = F.log_softmax(teacher.detach() / temperature, dim=1)
    b_t, b_s = _right_or_not(log_p, right), _right_or_not(log_q, right)
    binary = (b_t.exp() * (b_t - b_s)).sum(dim=1)
    lowest = torch.finfo(log_q.dtype).min / 2  # out of the softmax over the wrong classes, without infinities
    wrong = [F.log_softmax(x.masked_fill(right, lowest), dim=1).masked_fill(right, 0) for x in (log_p, log_q)]
    ranking = (wrong[0].exp() * (wrong[0] - wrong[1])).masked_fill(right, 0).sum(dim=1)
    per_pixel = (target * binary + others * ranking) * labelled
    return temperature**2 * per_pixel.sum() / labelled.sum().clamp(min=1)


def _right_or_not(log_probability: Tensor, right: Tensor) -> Tensor:
    """Return (B, 2, h, w) log-probabilities of the right class and of all others together."""
    lowest = torch.finfo(log_probability.dtype).min / 2
    parts = [log_probability.masked_fill(~chosen, lowest).logsumexp(dim=1) for chosen in (right, ~right)]
    return torch.stack(parts, dim=1)


@in_float32
def feature_imitation(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the mean squared distance, over positions, of features normalised over channels: ``2 - 2 cos``.

    Args:
        student: (B, C, h, w) float.
        teacher: (B, C, h, w) float; detached here.
        valid: (B, h, w) bool, or float weights in [0, 1]; None for every position.

    Returns:
        Scalar in [0, 4]; 0 where the directions agree, whatever the lengths, and where nothing is valid.

    Source: our reconstruction of CSK-Net's distillation of shallow features. Explained in notebook 05.
    """
    difference = F.normalize(teacher.detach(), dim=1) - F.normalize(student, dim=1)
    distance = difference.square().sum(dim=1)
    weight = torch.ones_like(distance) if valid is None else valid.to(distance.dtype)
    return (distance * weight).sum() / weight.sum().clamp(min=1e-6)


@in_float32
def masked_generation(generated: Tensor, teacher: Tensor, alpha: float = 2e-5, valid: Tensor | None = None) -> Tensor:
    """Compute the squared error of a generated map: ``alpha / B`` times its sum over channels and positions.

    Args:
        generated: (B, C, h, w) float, generated from the student's masked map.
        teacher: (B, C, h, w) float; detached here.
        alpha: weight of a sum, so that it belongs to a size of map; see ``alpha_for``.
        valid: (B, h, w) bool, or float weights in [0, 1]; None for every position.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where nothing is valid.

    Source: Yang et al., Masked Generative Distillation, ECCV 2022; MGD seg/mmseg/distillation/losses/mgd.py.
    Explained in notebook 03.
    """
    squares = (generated - teacher.detach()).square()
    if valid is not None:
        squares = squares * valid.unsqueeze(1)
    return alpha * squares.sum() / len(generated)


def alpha_for(channels: int, height: int, width: int, alpha: float = 2e-5) -> float:
    """Return the weight of a map of this size that corresponds to ``alpha`` on the published 2048 x 64 x 64 map.

    Both weigh the mean squared error alike: 2e-5 on the published map is 167.77 times the mean squared error.
    """
    return alpha * PUBLISHED_CELLS / (channels * height * width)


@in_float32
def receptive_masks(features: Tensor, tokens: Tensor) -> Tensor:
    """Return one soft mask per token: how well each position's feature matches the token.

    Args:
        features: (B, C, h, w) float, of the teacher.
        tokens: (T, C) float, learned.

    Returns:
        (B, T, h, w) float in [0, 1], ``sigmoid(token . feature)``.

    Source: Huang et al., Masked Distillation with Receptive Tokens, ICLR 2023; MasKD segmentation/losses/maskd.py.
    Explained in notebook 03.
    """
    return torch.einsum("bchw,tc->bthw", features, tokens).sigmoid()


@in_float32
def mask_overlap(masks: Tensor) -> Tensor:
    """Compute the mean soft Dice, over images, between the masks of different tokens.

    ``2 sum_u a b / (sum_u a^2 + sum_u b^2)``: minimising it makes the tokens attend to different positions.

    Args:
        masks: (B, T, h, w) float in [0, 1].

    Returns:
        Scalar in [0, 1]: 1 where all masks of an image are equal, 0 where they are disjoint; 0 for a single token,
        where the official code gives nan.

    Source: Huang et al., ICLR 2023; MasKD segmentation/losses/maskd.py. Explained in notebook 03.
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
    their difference is squared, and divides by its first power.

    Args:
        student: (B, C, h, w) float logits or features. A constant added to the logits of a position counts as error.
        teacher: (B, C, h, w) float; detached here.
        masks: (B, T, h, w) float in [0, 1]; detached here.
        valid: (B, h, w) bool, or float weights in [0, 1] that multiply the masks; None for every position.

    Returns:
        Scalar, at least 0; 0 (with zero gradients) where nothing is valid.

    Source: Huang et al., ICLR 2023; MasKD segmentation/losses/maskd.py. Explained in notebook 03.
    """
    masks = masks.detach() if valid is None else masks.detach() * valid.unsqueeze(1)
    error = torch.einsum("bthw,bchw->btc", masks.square(), (student - teacher.detach()).square())
    return 0.5 * (error / (masks.sum(dim=(2, 3)) + 1e-5).unsqueeze(2)).mean()

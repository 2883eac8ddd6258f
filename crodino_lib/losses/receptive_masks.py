"""Receptive masks: learned tokens say where in the teacher's map there is something to distil."""

from __future__ import annotations

import torch
from torch import Tensor

from crodino_lib.losses.precision import in_float32


@in_float32
def receptive_masks(features: Tensor, tokens: Tensor) -> Tensor:
    """One soft mask per token: the positions whose feature it resembles.

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
    """Mean soft Dice, over images, between the masks of different tokens.

    ``2 sum_u a b / (sum_u a^2 + sum_u b^2)``: tokens trained against it look at different things.

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
    """Squared difference of two maps under every mask, by the mask's size.

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

"""Shared and private halves (notebooks 04 and 06): overlap, dependence, reconstruction, telling modalities apart."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.segmentation import in_float32


@in_float32
def cosine_overlap(shared: Tensor, private: Tensor) -> Tensor:
    """Compute the mean cosine, over positions, between the two halves (B, C, h, w) of a feature map.

    For features that are not negative it lies in [0, 1] and reaches 0 only where the halves use disjoint channels;
    orthogonal halves can still determine each other (notebook 07). Source: earlier code of CroDiNo-KD's authors.
    """
    return F.cosine_similarity(shared, private, dim=1).mean()


@in_float32
def frobenius_overlap(shared: Tensor, private: Tensor) -> Tensor:
    """Compute the mean squared entry of ``S^T P / N``, the rows of S and P centred over samples, then normalised.

    S and P are (N, C) and (N, D) float, a row per sample. Unlike ``cosine_overlap`` the result is above 0 where the
    halves determine each other linearly, whatever channels they use. Source: Bousmalis et al., Domain Separation
    Networks, NeurIPS 2016, as in MISA's DiffLoss; the division by N^2 is ours, for theirs grows with N.

    Returns:
        Scalar in [0, 1 / (C D)]: below 6.2e-5 with C = D = 128, so its weight must be large. Near 1 / (N C D) for
        independent halves; 0, up to rounding, where a half is constant.
    """
    # 1e-6: rows that differ by rounding alone stay near 0
    s, p = (F.normalize(x - x.mean(dim=0), dim=1, eps=1e-6) for x in (shared, private))
    return (s.T @ p / len(shared)).square().mean()


@in_float32
def debiased_cka(x: Tensor, y: Tensor) -> Tensor:
    """Compute linear CKA without the bias that makes independent features look alike where samples are few.

    ``D(X, Y) / sqrt(D(X, X) D(Y, Y))``, where D estimates the squared norm of the cross-covariance of ``X`` and ``Y``
    without bias. The plain CKA of independent normal features with N = 100 and C = 128 is 0.57. Source: Kornblith et
    al., Similarity of Neural Network Representations Revisited, ICML 2019; the debiased form of
    google-research/representation_similarity, Demo.ipynb.

    Args:
        x, y: (N, C) and (N, D) float, a row per sample; ValueError for fewer than 4.

    Returns:
        Scalar in [-1, 1]: 1 for equal features, 0 in the mean for independent ones; unchanged by rotations, shifts and
        a common scale of either side; 0 (with zero gradients) where a side is constant.
    """
    if len(x) < 4:
        raise ValueError(f"debiased_cka needs at least 4 rows, got x with {len(x)}; give it more samples")
    x, y = _centred(x), _centred(y)
    scale_x, scale_y = (_cross_covariance(v, v).clamp(min=1e-12).sqrt() for v in (x, y))
    return _cross_covariance(x, y) / (scale_x * scale_y)


def _centred(x: Tensor) -> Tensor:
    """Return ``x`` with centred columns and norm 1; exactly 0 where the columns are constant up to rounding."""
    centred = x - x.mean(dim=0)
    norm = centred.norm().detach()  # CKA ignores scale, so its gradient needs no derivative of the norm
    return centred / norm.masked_fill(norm <= 1e-5 * x.norm().detach(), torch.inf)


def _cross_covariance(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased squared norm, up to a factor, of the cross-covariance of centred features."""
    n = len(x)
    x_squared, y_squared = x.square().sum(dim=1), y.square().sum(dim=1)
    own_pairs = n / (n - 2) * (x_squared @ y_squared)
    return (x.T @ y).square().sum() - own_pairs + x_squared.sum() * y_squared.sum() / ((n - 1) * (n - 2))


@in_float32
def masked_l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean absolute error of (B, C, H, W) over valid pixels and channels.

    ``valid`` is (B, 1, H, W) bool, or float weights in [0, 1]; the error is 0 (with zero gradients) where nothing is.
    """
    weight = valid.to(prediction.dtype)
    return ((prediction - target).abs() * weight).sum() / (weight.sum() * prediction.shape[1]).clamp(min=1e-6)


def shared_distance(features: Sequence[Tensor]) -> Tensor:
    """Compute the mean absolute difference of consecutive modalities' shared features, summed over the cycle.

    Pass (B, C, h, w) float of each modality that is present; the official code also includes features of blank inputs.
    The one pair of two modalities counts once; a single modality gives 0 (with zero gradients). Source: Wang et al.,
    ShaSpec, CVPR 2023; loss_Dual.py, written for four modalities.
    """
    pairs = 1 if len(features) == 2 else len(features)  # the cycle there and back would count the one pair twice
    return sum(in_float32(F.l1_loss)(features[i - 1], features[i]) for i in range(pairs))


@in_float32
def domain_cross_entropy(logits: Tensor, modality: int, as_released: bool = False) -> Tensor:
    """Compute the cross-entropy of a modality classifier on samples of one modality.

    The released code's targets have the shape of the logits, all ones for the first modality and all zeros for the
    second, and are read as class probabilities. The first modality's loss ``-sum_m log p_m`` is least for a uniform
    prediction; the second's is 0 with zero gradients. So the released loss carries no information about the modality.
    Source: DisCoM-KD, BMVC 2024; main_DisCoM-KD.py of tanodino/CMKD_Disentangle.

    Args:
        logits: (B, M) float, a column per modality.
        modality: the modality of all B samples, in [0, M).
        as_released: take the released code's targets.
    """
    if as_released:
        return F.cross_entropy(logits, torch.full_like(logits, float(modality == 0)))
    return F.cross_entropy(logits, torch.full((len(logits),), modality, device=logits.device))


def modality_cross_entropy(logits: Sequence[Tensor], modalities: Sequence[int] | None = None) -> Tensor:
    """Compute the mean cross-entropy of one modality classifier on the specific features of every modality.

    ``logits`` are (B, M) float for each modality that is present, ``modalities`` their numbers in [0, M), by default
    0, 1, ... The result is log M for a uniform prediction. Source: Wang et al., ShaSpec, CVPR 2023.
    """
    modalities = range(len(logits)) if modalities is None else modalities
    return torch.stack([domain_cross_entropy(entry, m) for entry, m in zip(logits, modalities, strict=True)]).mean()


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """Return the features unchanged, with their gradient multiplied by ``-strength`` on the way back.

    A classifier trained on the result learns to tell modalities, while the network below learns to mislead it.
    ``strength`` is lambda, at least 0; the features have any shape. Source: Ganin and Lempitsky, Unsupervised Domain
    Adaptation by Backpropagation, ICML 2015.
    """
    same = features.view_as(features)
    if same.requires_grad:
        same.register_hook(lambda gradient: -strength * gradient)
    return same

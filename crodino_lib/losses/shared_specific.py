"""ShaSpec's two terms: shared features of all modalities alike, specific features that tell their modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.losses.domain import domain_cross_entropy
from crodino_lib.losses.precision import in_float32


def shared_distance(features: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference between the shared features of consecutive modalities, summed over a cycle of them.

    Give it the modalities that are present only: the official code also draws towards the features of blank inputs.

    Args:
        features: one (B, C, h, w) float per modality.

    Returns:
        Scalar, at least 0; the one pair counts once for two modalities, and a single one gives 0 (with zero gradients).

    Source: Wang et al., ShaSpec, CVPR 2023; loss_Dual.py, written for four modalities. Explained in notebook 06.
    """
    following = [*features[1:], features[0]]
    pairs = list(zip(features, following, strict=True))
    if len(features) == 2:  # the cycle there and back would count it twice
        pairs = pairs[:1]
    return torch.stack([_l1(one, other) for one, other in pairs]).sum()


def modality_cross_entropy(logits: Sequence[Tensor], modalities: Sequence[int] | None = None) -> Tensor:
    """Cross-entropy of one modality classifier on the specific features of every modality.

    Args:
        logits: (B, M) float for each modality that is present.
        modalities: which modality each entry is, in [0, M). None: entry i is modality i.

    Returns:
        Scalar, the mean over entries; log M where the classifier cannot tell.

    Source: Wang et al., ShaSpec, CVPR 2023. Explained in notebook 06.
    """
    modalities = range(len(logits)) if modalities is None else modalities
    return torch.stack([domain_cross_entropy(entry, m) for entry, m in zip(logits, modalities, strict=True)]).mean()


@in_float32  # here, for it does not reach tensors in a sequence
def _l1(one: Tensor, other: Tensor) -> Tensor:
    return F.l1_loss(one, other)

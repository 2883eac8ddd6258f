"""Random tensors and a softmax written out, for oracles that loop over pixels."""

import math

import torch


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(scores):
    powers = [math.exp(s) for s in scores]
    return [p / sum(powers) for p in powers]


def divergence(p, q):
    """KL(p || q) of two lists of probabilities."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def labels_with_holes(batch=2, height=8, width=12, classes=4, seed=1):
    labels = torch.randint(classes, (batch, height, width), generator=torch.Generator().manual_seed(seed))
    labels[:, : height // 4] = 255
    return labels

"""Losses are computed in float32, whatever the networks are computed in."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Call ``loss`` outside autocast, with its half-precision tensors cast to float32.

    A bf16 softmax of similarities divided by a temperature of 0.1 keeps about two digits.
    """

    @functools.wraps(loss)
    def wrapped(*args, **kwargs) -> Tensor:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return loss(*map(_full, args), **{name: _full(value) for name, value in kwargs.items()})

    return wrapped


def _full(value):
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value

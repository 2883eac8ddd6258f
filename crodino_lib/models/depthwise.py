"""Depthwise convolutions that are fast on a CPU: the same function, computed in another way.

oneDNN's backward of a depthwise convolution is several times slower in bf16 than in float32, and slower again where it
is dilated; an EfficientNet spends half of a training step there. So on a CPU they leave autocast, and a dilation of 2
becomes an undilated convolution over the four interleaved phases of the map. Measured by `benchmarks/training.py`.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hasten_depthwise(network: nn.Module) -> None:
    """Route every depthwise convolution of ``network`` through the fast path; parameters and their names stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
            module.forward = functools.partial(_forward, module, module.forward)


def _forward(conv: nn.Conv2d, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return forward(x)
    centred = conv.padding == tuple(kernel // 2 * 2 for kernel in conv.kernel_size)
    phased = conv.dilation == (2, 2) and conv.stride == (1, 1) and centred and x.shape[-2] % 2 == x.shape[-1] % 2 == 0
    with torch.autocast("cpu", enabled=False):
        return dilated_by_phases(conv, x.float()) if phased else forward(x.float())


def dilated_by_phases(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Compute a depthwise convolution of dilation 2 as an undilated one over the even and odd rows and columns.

    ``conv`` has stride 1 and is padded to keep the size of ``x`` (B, C, H, W), float32, H and W even.
    """
    batch, channels, height, width = x.shape
    half = (height // 2, width // 2)
    phases = x.view(batch, channels, half[0], 2, half[1], 2).permute(3, 5, 0, 1, 2, 4)
    phases = phases.reshape(4 * batch, channels, *half).contiguous(memory_format=torch.channels_last)
    padding = tuple(kernel // 2 for kernel in conv.kernel_size)
    out = F.conv2d(phases, conv.weight, conv.bias, padding=padding, groups=conv.groups)
    out = out.view(2, 2, batch, channels, *half).permute(2, 3, 4, 0, 5, 1)
    return out.reshape(batch, channels, height, width).contiguous(memory_format=torch.channels_last)

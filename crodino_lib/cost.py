"""Measure what a method costs: parameters, operations, time and memory."""

import contextlib
import math
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

LATENCY_PASSES = 5


def inference_cost(network: nn.Module, images: list[Tensor]) -> dict[str, int]:
    """Return parameters and floating-point operations of an exported network on one image per sensor."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(*images)
    return {"parameters": sum(p.numel() for p in network.parameters()), "flops": counter.get_total_flops()}


@torch.inference_mode()
def latency_ms(network: nn.Module, images: list[Tensor]) -> float:
    """Return the median milliseconds of a forward pass of one scene, after three to warm up."""
    network.eval()
    times = []
    for _ in range(3 + LATENCY_PASSES):
        started = time.perf_counter()
        network(*images).logits.sum().item()  # waits for the device
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[3:])


@contextlib.contextmanager
def counted_flops(method: nn.Module) -> Iterator[dict[str, int]]:
    """Count the operations of the block: ``total``, and ``teacher`` for those inside ``method.teacher``.

    The counts are there after the block.
    """
    counts: dict[str, int] = {}
    mapping = {torch.ops.aten.convolution_backward: _backward_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        yield counts
    of_teacher = counter.flop_counts.get(f"{type(method).__name__}.teacher", {})
    counts |= {"total": counter.get_total_flops(), "teacher": sum(of_teacher.values())}


def _backward_flops(gradient: torch.Size, image: torch.Size, weight: torch.Size, *rest: object, **_: object) -> int:
    """Return the operations of a convolution's backward pass: those of the forward pass per gradient asked for.

    torch's own formula takes a grouped convolution's weight gradient for a dense one's: hundreds of times too much for
    a depthwise one.
    """
    wanted = rest[-1]  # gradients of input, weight, bias
    forward = 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weight)
    return forward * (bool(wanted[0]) + bool(wanted[1]))

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
    """Yield a dict that after the block holds its operations: ``total``, and those of ``method.teacher``."""
    counts: dict[str, int] = {}
    mapping = {torch.ops.aten.convolution_backward: _backward_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        yield counts
    of_teacher = counter.flop_counts.get(f"{type(method).__name__}.teacher", {})
    counts |= {"total": counter.get_total_flops(), "teacher": sum(of_teacher.values())}


def _backward_flops(gradient: torch.Size, image: torch.Size, weight: torch.Size, *rest: object, **_: object) -> int:
    """Return the operations of a convolution's backward pass: those of the forward pass per gradient asked for.

    torch's own formula counts the weight gradient of a depthwise convolution as a dense one's: hundreds of times more.
    """
    of_input, of_weight, _ = rest[-1]  # whether each gradient is asked for, the bias's too
    return 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weight) * (of_input + of_weight)

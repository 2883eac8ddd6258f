"""What a row costs: parameters, operations, time and memory, measured."""

from __future__ import annotations

import contextlib
import math
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

LATENCY_PASSES = 9


def inference_cost(network: nn.Module, images: list[Tensor]) -> dict[str, int]:
    """Parameters and floating-point operations of an exported network on one image per sensor."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(*images)
    return {"parameters": sum(p.numel() for p in network.parameters()), "flops": counter.get_total_flops()}


@torch.inference_mode()
def latency_ms(network: nn.Module, images: list[Tensor]) -> float:
    """Median milliseconds of a forward pass of one scene, after three to warm up; other work on the machine counts."""
    network.eval()
    times = []
    for _ in range(3 + LATENCY_PASSES):
        started = time.perf_counter()
        network(*images).logits.sum().item()  # waits for the device
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[3:])


@contextlib.contextmanager
def counted_flops(into: dict[str, int] | None, method: nn.Module) -> Iterator[None]:
    """Add the operations of the block to ``into``: ``total``, and ``teacher`` for those inside ``method.teacher``.

    Args:
        into: where to; None counts nothing.
        method: the method whose step runs in the block.
    """
    if into is None:
        yield
        return
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward_flops}
    ) as counter:
        yield
    of_teacher = counter.flop_counts.get(f"{type(method).__name__}.teacher", {})
    into["total"] = into.get("total", 0) + counter.get_total_flops()
    into["teacher"] = into.get("teacher", 0) + sum(of_teacher.values())


def _backward_flops(gradient: torch.Size, image: torch.Size, weight: torch.Size, *rest: object, **_: object) -> int:
    """Operations of a convolution's backward pass: the forward's for the input's gradient, and for the weight's.

    torch's own formula takes a grouped convolution's weight gradient for a dense one's: hundreds of times too much for
    a depthwise one.
    """
    wanted = rest[-1]  # gradients of input, weight, bias
    forward = 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weight)
    return forward * (bool(wanted[0]) + bool(wanted[1]))


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak so far, so that a second run in one process is not charged with the first one's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # not Linux, or not allowed: then the peak is the process's
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Most bytes held since the last reset: on the accelerator, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"

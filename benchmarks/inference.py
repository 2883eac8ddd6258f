"""Measure students at work: eager, without BatchNorm, compiled, in ONNX Runtime; and training, eager and compiled.

    python benchmarks/inference.py [WIDTHxHEIGHT]

A network without its BatchNorm takes as long as one whose BatchNorm is folded into its convolutions: the most that
folding can save. Weights are random, which changes no cost. Prints milliseconds and ratios from one run on one machine,
with one thread. Run nothing else beside it.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import copy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from crodino_lib.config import StudyConfig, parse_size
from crodino_lib.losses import segmentation_cross_entropy
from crodino_lib.methods.registry import build_method
from crodino_lib.study.dials import BASE
from crodino_lib.study.study import Study

TURNS, BATCH = 9, 16


class Logits(nn.Module):
    """A student that returns its logits alone."""

    def __init__(self, student: nn.Module):
        super().__init__()
        self.student = student

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, h, w) of images (B, 3, H, W)."""
        return self.student(image).logits


def milliseconds(act: Callable[[], object]) -> float:
    """Return the median milliseconds of ``act``, after three calls to warm up."""
    taken = []
    for _ in range(3 + TURNS):
        started = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken[3:])


def without_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in which BatchNorm passes its input on; an activation that timm joins to it is kept."""
    network = copy.deepcopy(network)
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, getattr(child, "act", nn.Identity()))
    return network


def onnx_session(network: nn.Module, image: Tensor) -> Callable[[], object]:
    """Return a call of ONNX Runtime on one thread."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        path = Path(folder, "student.onnx")
        torch.onnx.export(network, (image,), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, given)


def training_step(network: nn.Module, image: Tensor, classes: int) -> Callable[[], object]:
    """Return a call that makes one step of training."""
    network.train()
    optimiser, (height, width) = torch.optim.AdamW(network.parameters(), fused=True), image.shape[-2:]
    labels = torch.randint(classes, (len(image), height, width))

    def step() -> None:
        loss = segmentation_cross_entropy(network(image), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def main() -> None:
    """Measure the students of a baseline and of CroDiNo-KD, and print."""
    torch.set_num_threads(1)
    width, height = parse_size(sys.argv[1] if len(sys.argv) > 1 else "128x96")
    config = StudyConfig.parse({**BASE, "study": "inference", "weights": "none"})
    one, many = (
        torch.randn(count, 3, height, width).contiguous(memory_format=torch.channels_last) for count in (1, BATCH)
    )
    students, found = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        study = Study(config, Path(folder))
        for name in ("baseline", "crodino-kd"):
            method = build_method(study.run_config(name, ("rgb",) if name == "baseline" else None), study.card).eval()
            method.export()
            students[name] = Logits(method.students["rgb"]).to(memory_format=torch.channels_last).eval()
    for name, student in students.items():
        with torch.inference_mode():
            found[name, "eager, one picture"] = milliseconds(lambda s=student: s(one))
            found[name, f"eager, {BATCH} pictures"] = milliseconds(lambda s=student: s(many))
            bare = without_batch_norm(student)
            found[name, f"without BatchNorm, {BATCH} pictures"] = milliseconds(lambda b=bare: b(many))
        with torch.no_grad():
            compiled = torch.compile(copy.deepcopy(student))
            found[name, f"compiled, {BATCH} pictures"] = milliseconds(lambda c=compiled: c(many))
        found[name, "ONNX Runtime, one picture"] = milliseconds(onnx_session(student, one.contiguous()))
    classes, trained = len(study.card.classes), copy.deepcopy(students["baseline"])
    eager = milliseconds(training_step(trained, many, classes))
    started = time.perf_counter()
    step = training_step(torch.compile(copy.deepcopy(students["baseline"])), many, classes)
    step()
    compiling = time.perf_counter() - started
    print(f"{width}x{height}, one thread; torch {torch.__version__}")
    for kind in dict.fromkeys(kind for _, kind in found):
        baseline, ours = found["baseline", kind], found["crodino-kd", kind]
        print(f"{kind:34} baseline {baseline:8.2f} ms   CroDiNo-KD {ours:8.2f} ms   {ours / baseline:.2f}")
    fast = milliseconds(step)
    print(f"a baseline's training step: eager {eager:.1f}, compiled {fast:.1f} ms after {compiling:.0f} s of compiling")


if __name__ == "__main__":
    main()

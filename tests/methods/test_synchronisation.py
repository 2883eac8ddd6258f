"""Where a training step waits for the device: each place is known, and has a reason; a new one fails here.

On a GPU a step is queued. Reading a value of a tensor, or making a tensor whose shape depends on values, empties the
queue, and the GPU stands still while the next kernels are found.
"""

import traceback

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from crodino_lib.methods.registry import METHODS
from tests.methods.conftest import batch_for

ATEN = torch.ops.aten
VALUES_DECIDE = {  # operations whose result is read by the host, or has a shape that values decide
    *(ATEN._local_scalar_dense.default, ATEN.is_nonzero.default, ATEN.equal.default, ATEN.bincount.default),
    *(ATEN.nonzero.default, ATEN.masked_select.default, ATEN.repeat_interleave.Tensor),
    *(ATEN._unique2.default, ATEN.unique_dim.default, ATEN.unique_consecutive.default),
}
INDEXING = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default}
READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__array__"}
WAITS = {  # file, function -> why a GPU waits there
    ("losses/regions.py", "region_vectors"): "a class that covers too few cells has no vector",
    ("losses/contrast.py", "sample_pixels"): "pixels without a label are left out, and each class has at most a number",
    ("models/bank.py", "push"): "the classes that occur replace their oldest vectors",
    ("models/bank.py", "all"): "a memory that is not full yet",
    ("models/bank.py", "sample"): "a memory that is not full yet",
    ("methods/csk_net.py", "contrast"): "the pixels that were drawn of two of the views",
    ("methods/crodino_kd.py", "contrast_loss"): "the points that both sensors' crops show",
}
ON_THE_CPU = {  # a GPU does not wait: draws of the CPU's generator, and what one_hot checks on a CPU alone
    ("methods/csk_net.py", "training_step"),
    ("methods/shaspec.py", "draw_present"),
    ("losses/regions.py", "region_weights"),
    ("losses/distillation.py", "decoupled_distillation"),
    ("losses/distillation.py", "selected_distillation"),
}


class Watch(TorchDispatchMode):
    """Collects (file, function) of the library that waits."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def note(self):
        frames = [
            frame.f_code for frame, _ in traceback.walk_stack(None) if "/crodino_lib/" in frame.f_code.co_filename
        ]
        if frames:  # torch's own backward pass is not ours
            file, place = frames[0].co_filename.split("/crodino_lib/")[1], frames[0].co_qualname
            self.found.add((file, place.split(".<locals>")[0].split(".")[-1]))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])
        if func in VALUES_DECIDE or by_mask:
            self.note()
        return func(*args, **(kwargs or {}))


class WatchReads(TorchFunctionMode):
    """Collects reads that dispatch no operation on the CPU."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in READS:
            self.watch.note()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "name", [*METHODS, "crodino-kd:queue", "crodino-kd:c2", "crodino-kd:c3", "crodino-kd:predicted"]
)
def test_a_step_waits_for_the_device_only_where_it_is_known_to(name, build, toy_scenes):
    method = build(name).train()
    batch, watch = batch_for(method, toy_scenes), Watch()
    with watch, WatchReads(watch):
        for progress in (0.02, 0.5):
            torch.stack(list(method(batch, progress).values())).sum().backward()
    assert watch.found <= {*WAITS, *ON_THE_CPU}

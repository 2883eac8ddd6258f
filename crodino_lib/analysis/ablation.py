"""Ablate a half of the bottleneck: measure what a trained decoder loses when the half is replaced, without training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from crodino_lib.analysis import Result
from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.evaluate import confusion_per_image, scores
from crodino_lib.methods.base import upsample

BATCH = 16


class DecoderInputs(NamedTuple):
    """Inputs of the students' decoders for N scenes, by sensor."""

    contexts: dict[str, Tensor]  # the bottlenecks (N, 2C, h, w)
    fine: dict[str, Tensor]  # the maps that the decoders get beside them
    labels: Tensor  # (N, H, W) int64 in [0, K) or 255


@torch.inference_mode()
def decoder_inputs(
    students: Mapping[str, nn.Module], scenes: Scenes, card: DatasetCard, n: int, generator: np.random.Generator
) -> DecoderInputs:
    """Compute the decoder inputs of two students (on the CPU, in evaluation mode) for at most ``n`` random scenes.

    ValueError for a student whose decoder does not get shared and private half alone, side by side.
    """
    if len(students) != 2:
        raise ValueError(f"ablation compares two sensors, found {', '.join(students)}")
    chosen = np.sort(generator.permutation(len(scenes))[:n])
    batch = plain(scenes, chosen.tolist(), card, tuple(students), torch.device("cpu"))
    contexts, fine = {}, {}
    for sensor, student in students.items():
        parts = [_decoder_input(student, images) for images in batch.images[sensor].split(BATCH)]
        contexts[sensor], fine[sensor] = (torch.cat(maps) for maps in zip(*parts, strict=True))
    widths = {sensor: context.shape[1] for sensor, context in contexts.items()}
    if len(set(widths.values())) != 1:
        raise ValueError(f"the students' bottlenecks have {widths} channels; halves can be exchanged only where equal")
    return DecoderInputs(contexts, fine, next(iter(batch.labels.values())))


def _decoder_input(student: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bottleneck and the fine map that the student's decoder gets for ``images``."""
    inputs: list[tuple[Tensor, Tensor]] = []
    handle = student.decoder.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments))
    try:
        out = student(images)
    finally:
        handle.remove()
    if not torch.equal(inputs[0][0], out.context):
        raise ValueError(
            f"the decoder of {type(student).__name__} gets {inputs[0][0].shape[1]} channels, not its two halves "
            f"side by side ({out.context.shape[1]} channels): no half can be taken from it alone"
        )
    return inputs[0]


@torch.inference_mode()
def ablate(
    students: Mapping[str, nn.Module],
    inputs: DecoderInputs,
    classes: int,
    shared: np.ndarray | None = None,
    replacements: Sequence[str] = ("mean", "swap"),
    other_scene: bool = False,
) -> list[Result]:
    """Compute the mIoU of every student with a half of its bottleneck replaced.

    Args:
        students: sensor -> its network.
        shared: (2C,) bool, which channels are the shared half; the first half of them where none is given.
        replacements: ``mean``: the half becomes its mean over scenes and positions, per channel. ``swap``: the half
            becomes the other sensor's, of the same scene.
        other_scene: swap with another scene's half.

    Returns:
        Per sensor ``miou`` untouched; per sensor and replaced half ``miou_mean``, ``miou_swap``, and ``lost_mean``,
        ``lost_swap``: the share of the mIoU that is lost, comparable between models of unequal quality, NaN for a
        student at mIoU 0. Explained in notebook 07.
    """
    width, results = next(iter(inputs.contexts.values())).shape[1], []
    is_shared = torch.arange(width) < width // 2 if shared is None else torch.from_numpy(shared)
    masks = {"shared": is_shared[:, None, None], "private": ~is_shared[:, None, None]}
    for (sensor, student), other in zip(students.items(), reversed(students), strict=True):
        context, swap = inputs.contexts[sensor], inputs.contexts[other]
        values = {"mean": context.mean(dim=(0, 2, 3), keepdim=True), "swap": swap.roll(1, 0) if other_scene else swap}
        untouched = _miou(student.decoder, context, inputs.fine[sensor], inputs.labels, classes)
        results.append(Result("miou", untouched, sensor))
        for name in replacements:
            for half, mask in masks.items():
                variant = torch.where(mask, values[name], context)
                replaced = _miou(student.decoder, variant, inputs.fine[sensor], inputs.labels, classes)
                lost = 1 - replaced / untouched if untouched else np.nan
                results += [Result(f"miou_{name}", replaced, sensor, half), Result(f"lost_{name}", lost, sensor, half)]
    return results


def _miou(decoder: nn.Module, context: Tensor, fine: Tensor, labels: Tensor, classes: int) -> float:
    matrix = 0
    for part in torch.arange(len(fine)).split(BATCH):
        logits = upsample(decoder(context[part], fine[part])[0], labels[part])
        matrix += confusion_per_image(logits.argmax(dim=1), labels[part], classes).sum(dim=0)
    return scores(matrix.numpy())["miou"]


def ablation_table(
    students: Mapping[str, nn.Module], scenes: Scenes, card: DatasetCard, n: int, seed: int
) -> pd.DataFrame:
    """Ablate a model (``null`` is ``value``), and its null models of shuffled channels and shuffled pairs.

    Returns the columns of ``run_metric``, with ``null``; raises as ``decoder_inputs``.
    """
    inputs = decoder_inputs(students, scenes, card, n, np.random.default_rng(seed))
    width, count, tables = next(iter(inputs.contexts.values())).shape[1], len(inputs.labels), []
    order = np.random.default_rng(seed).permutation(width)  # as in shuffled_channels
    options = {
        "value": {},
        "shuffled_channels": {"shared": np.isin(np.arange(width), order[: width // 2])},
        "shuffled_pairs": {"replacements": ("swap",), "other_scene": True},
    }
    for null, how in options.items():
        table = pd.DataFrame(ablate(students, inputs, len(card.classes), **how), columns=Result._fields)
        tables.append(table.assign(null=null, unit="image", metric="ablation", rows=count, images=count))
    return pd.concat(tables, ignore_index=True)

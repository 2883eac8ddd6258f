"""Ablate a half of the bottleneck: measure what a trained decoder loses when the half is replaced, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from crodino_lib.analysis._common import Result
from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.evaluate import confusion_per_image, scores
from crodino_lib.methods.base import upsample


class DecoderInputs(NamedTuple):
    """What the students' decoders get for a batch of scenes.

    Attributes:
        contexts: sensor -> the bottleneck (B, 2C, h, w) and the fine map beside it.
        labels: (B, H, W) int64 in [0, K) or 255.
    """

    contexts: dict[str, tuple[Tensor, Tensor]]
    labels: Tensor


@torch.inference_mode()
def decoder_inputs(
    students: Mapping[str, nn.Module],
    scenes: Scenes,
    card: DatasetCard,
    n: int,
    generator: np.random.Generator,
    batch_size: int = 16,
) -> list[DecoderInputs]:
    """Compute the decoder inputs of every student for at most ``n`` scenes, paired and unaugmented.

    Args:
        students: sensor -> its network in evaluation mode, on the CPU; two of them.
        scenes: one split.
        card: of its dataset.
        n: most scenes.
        generator: of their choice.
        batch_size: scenes a step.

    Raises:
        ValueError: not two students, or one whose decoder does not get shared and private half alone, side by side.
    """
    if len(students) != 2:
        raise ValueError(f"ablation compares two sensors, found {', '.join(students)}")
    chosen = np.sort(generator.permutation(len(scenes))[:n])
    batches = []
    for start in range(0, len(chosen), batch_size):
        batch = plain(scenes, chosen[start : start + batch_size].tolist(), card, tuple(students), torch.device("cpu"))
        contexts = {sensor: _decoder_input(student, batch.images[sensor]) for sensor, student in students.items()}
        batches.append(DecoderInputs(contexts, next(iter(batch.labels.values()))))
    widths = {sensor: context.shape[1] for sensor, (context, _) in batches[0].contexts.items()}
    if len(set(widths.values())) != 1:
        raise ValueError(f"the students' bottlenecks have {widths} channels; halves can be exchanged only where equal")
    return batches


def _decoder_input(student: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bottleneck and the fine map that the student's decoder gets for ``image``."""
    inputs: list[tuple[Tensor, Tensor]] = []
    handle = student.decoder.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments))
    try:
        out = student(image)
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
    batches: Sequence[DecoderInputs],
    classes: int,
    shared: np.ndarray | None = None,
    replacements: Sequence[str] = ("mean", "swap"),
    other_scene: bool = False,
) -> list[Result]:
    """Compute the mIoU of every student with a half of its bottleneck replaced.

    Args:
        students: sensor -> its network.
        batches: from ``decoder_inputs``.
        classes: number of classes K.
        shared: (2C,) bool, which channels are the shared half; the first half of them where none is given.
        replacements: ``mean``: the half becomes its mean over scenes and positions, per channel. ``swap``: the half
            becomes the other sensor's, of the same scene.
        other_scene: swap with another scene's half.

    Returns:
        Per sensor ``miou`` untouched; per sensor and replaced half ``miou_mean``, ``miou_swap``, and ``lost_mean``,
        ``lost_swap``: the share of the mIoU that is lost, comparable between models of unequal quality, NaN for a
        student at mIoU 0.

    Explained in notebook 07.
    """
    width = next(iter(batches[0].contexts.values()))[0].shape[1]
    is_shared = torch.arange(width) < width // 2 if shared is None else torch.from_numpy(shared)
    masks = {"shared": is_shared[None, :, None, None], "private": ~is_shared[None, :, None, None]}
    results = []
    for (sensor, student), other in zip(students.items(), reversed(students), strict=True):
        mean = torch.cat([batch.contexts[sensor][0].mean(dim=(2, 3)) for batch in batches]).mean(dim=0)
        swapped = torch.cat([batch.contexts[other][0] for batch in batches])
        swapped = (swapped.roll(1, dims=0) if other_scene else swapped).split([len(b.labels) for b in batches])
        counts: dict[tuple[str, str], Tensor] = {}
        for batch, swap in zip(batches, swapped, strict=True):
            context, fine = batch.contexts[sensor]
            values = {"mean": mean[None, :, None, None], "swap": swap}
            variants = {("miou", ""): context}
            for name in replacements:
                variants |= {(name, half): torch.where(mask, values[name], context) for half, mask in masks.items()}
            for key, variant in variants.items():
                logits = upsample(student.decoder(variant, fine)[0], batch.labels)
                matrix = confusion_per_image(logits.argmax(dim=1), batch.labels, classes).sum(dim=0)
                counts[key] = counts.get(key, 0) + matrix
        mious = {key: scores(matrix.numpy())["miou"] for key, matrix in counts.items()}
        untouched = mious.pop(("miou", ""))
        results.append(Result("miou", untouched, sensor))
        for (name, half), miou in mious.items():
            lost = 1 - miou / untouched if untouched else np.nan
            results += [Result(f"miou_{name}", miou, sensor, half), Result(f"lost_{name}", lost, sensor, half)]
    return results


def ablation_table(
    students: Mapping[str, nn.Module], scenes: Scenes, card: DatasetCard, n: int, seed: int
) -> pd.DataFrame:
    """Ablate a model (``null`` is ``value``), and its null models of shuffled channels and shuffled pairs.

    Returns:
        The columns of ``run_metric``, with ``null``.

    Raises:
        ValueError: networks whose decoder does not get both halves side by side.
    """
    batches = decoder_inputs(students, scenes, card, n, np.random.default_rng(seed))
    width = next(iter(batches[0].contexts.values()))[0].shape[1]
    order = np.random.default_rng(seed).permutation(width)  # as in shuffled_channels
    options = {
        "value": {},
        "shuffled_channels": {"shared": np.isin(np.arange(width), order[: width // 2])},
        "shuffled_pairs": {"replacements": ("swap",), "other_scene": True},
    }
    count = {"rows": sum(len(batch.labels) for batch in batches)}
    tables = []
    for null, how in options.items():
        table = pd.DataFrame(ablate(students, batches, len(card.classes), **how), columns=Result._fields)
        tables.append(table.assign(null=null, unit="image", metric="ablation", **count, images=count["rows"]))
    return pd.concat(tables, ignore_index=True)

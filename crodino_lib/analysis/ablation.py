"""What a trained decoder loses when a half is taken away or exchanged: the functional test of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.evaluate import confusion_per_image, scores
from crodino_lib.methods.base import upsample

MEASURES = ("miou", "miou_mean_shared", "miou_mean_private", "miou_swap_shared", "miou_swap_private")
PAIRED = ("miou_swap_shared", "miou_swap_private")  # exchange what the other sensor sees of the same scene


class Seen(NamedTuple):
    """What the students' decoders are given of a batch of scenes.

    Attributes:
        contexts: sensor -> the bottleneck (B, 2C, h, w) and the fine map beside it.
        labels: (B, H, W) int64 in [0, K) or 255.
    """

    contexts: dict[str, tuple[Tensor, Tensor]]
    labels: Tensor


@torch.inference_mode()
def bottlenecks(
    students: Mapping[str, nn.Module],
    scenes: Scenes,
    card: DatasetCard,
    n: int,
    generator: np.random.Generator,
    batch_size: int = 16,
) -> list[Seen]:
    """What every student's decoder sees of at most ``n`` scenes, paired and unaugmented.

    Args:
        students: sensor -> its network in evaluation mode; two of them.
        scenes: one split.
        card: of its dataset.
        n: most scenes.
        generator: of their choice.
        batch_size: scenes a step.

    Raises:
        ValueError: not two students, or one whose decoder does not see shared and private half alone, side by side.
    """
    if len(students) != 2:
        raise ValueError(f"ablation compares two sensors, found {', '.join(students)}")
    chosen = np.sort(generator.permutation(len(scenes))[:n])
    batches = []
    for start in range(0, len(chosen), batch_size):
        batch = plain(scenes, chosen[start : start + batch_size].tolist(), card, tuple(students), torch.device("cpu"))
        contexts = {sensor: _decoded_from(student, batch.images[sensor]) for sensor, student in students.items()}
        batches.append(Seen(contexts, next(iter(batch.labels.values()))))
    widths = {sensor: context.shape[1] for sensor, (context, _) in batches[0].contexts.items()}
    if len(set(widths.values())) != 1:
        raise ValueError(f"the students' bottlenecks have {widths} channels; halves can be exchanged where equal")
    return batches


@torch.inference_mode()
def ablate(
    students: Mapping[str, nn.Module],
    batches: Sequence[Seen],
    classes: int,
    shared: np.ndarray | None = None,
    elsewhere: bool = False,
    measures: Sequence[str] = MEASURES,
) -> dict[str, float]:
    """mIoU of every student with a half of its bottleneck replaced, at inference, without training anything anew.

    Args:
        students: sensor -> its network.
        batches: from ``bottlenecks``.
        classes: number of classes K.
        shared: (2C,) bool, which channels are the shared half; the first half of them where none is given. N3 deals
            them anew.
        elsewhere: take what is exchanged from another scene: N4.
        measures: which to compute.

    Returns:
        ``miou <sensor>`` untouched; ``miou_mean_shared`` and ``miou_mean_private``: the half is its mean over scenes
        and positions, per channel; ``miou_swap_shared`` and ``miou_swap_private``: the half is the other sensor's, of
        the same scene; all in 0..1. ``scenes``.

    Explained in notebook 07.
    """
    width = next(iter(batches[0].contexts.values()))[0].shape[1]
    mask = torch.arange(width) < width // 2 if shared is None else torch.from_numpy(shared)
    mask = mask[None, :, None, None]
    counts: dict[str, Tensor] = {}
    for sensor, student in students.items():
        mean = torch.cat([seen.contexts[sensor][0].mean(dim=(2, 3)) for seen in batches]).mean(dim=0)
        mean = mean[None, :, None, None]
        rival = next(name for name in students if name != sensor)
        others = torch.cat([seen.contexts[rival][0] for seen in batches])
        others = (others.roll(1, dims=0) if elsewhere else others).split([len(seen.labels) for seen in batches])
        for seen, other in zip(batches, others, strict=True):
            context, fine = seen.contexts[sensor]
            replaced = {  # measure -> what stands in the shared and in the private channels
                "miou": (context, context),
                "miou_mean_shared": (mean, context),
                "miou_mean_private": (context, mean),
                "miou_swap_shared": (other, context),
                "miou_swap_private": (context, other),
            }
            for name in measures:
                variant = torch.where(mask, *replaced[name])
                logits = upsample(student.decoder(variant, fine)[0], seen.labels)
                matrix = confusion_per_image(logits.argmax(dim=1), seen.labels, classes).sum(dim=0)
                counts[f"{name} {sensor}"] = counts.get(f"{name} {sensor}", 0) + matrix
    found = {name: scores(matrix.numpy())["miou"] for name, matrix in counts.items()}
    return found | {"scenes": sum(len(seen.labels) for seen in batches)}


def losses(found: Mapping[str, float], untouched: Mapping[str, float]) -> dict[str, float]:
    """What share of a student's mIoU each replacement costs: comparable between models that are not equally good.

    Args:
        found: from ``ablate``.
        untouched: the same of the model as it is, with ``miou <sensor>``.

    Returns:
        ``lost_mean_shared <sensor>`` and so on for every replacement of ``found``; NaN for a student at mIoU 0.
    """
    shares = {}
    for name, value in found.items():
        measure, _, sensor = name.partition(" ")
        whole = untouched.get(f"miou {sensor}", 0.0)
        if measure in MEASURES[1:]:
            shares[f"{measure.replace('miou', 'lost')} {sensor}"] = 1 - value / whole if whole else float("nan")
    return shares


def _decoded_from(student: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """The bottleneck and the fine map that the student's decoder is given for ``image``."""
    given: list[tuple[Tensor, Tensor]] = []
    handle = student.decoder.register_forward_pre_hook(lambda _, arguments: given.append(arguments))
    try:
        out = student(image)
    finally:
        handle.remove()
    if not torch.equal(given[0][0], out.context):
        raise ValueError(
            f"the decoder of {type(student).__name__} sees {given[0][0].shape[1]} channels that are not its two halves "
            f"side by side ({out.context.shape[1]} channels): no half can be taken from it alone"
        )
    return given[0]

"""Scores of a segmentation: one confusion matrix per image, mIoU over the whole split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.augment import plain
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes
from crodino_lib.files import replacing


def confusion_per_image(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Pixels of every image by true and predicted class.

    Args:
        prediction: (B, H, W) int64 in [0, K).
        label: (B, H, W) int64 in [0, K) or 255.
        classes: K.

    Returns:
        (B, K, K) int64; rows are the truth, columns the prediction; pixels to ignore are in none.
    """
    image = torch.arange(len(label), device=label.device).view(-1, 1, 1).expand_as(label)
    cell = ((image * classes + label) * classes + prediction)[label != IGNORE]
    return torch.bincount(cell, minlength=len(label) * classes**2).view(-1, classes, classes)


def scores(confusion: np.ndarray) -> dict[str, float | np.ndarray]:
    """Scores of one confusion matrix over a whole split.

    Args:
        confusion: (K, K), or (N, K, K) which is summed; rows are the truth.

    Returns:
        ``miou``: mean over the classes that are in the truth or in the prediction, NaN where there are none;
        ``class_iou`` (K,), NaN for the others; ``class_accuracy`` and ``pixel_accuracy``. All in 0..1.
    """
    counts = np.asarray(confusion, dtype=np.float64).reshape(-1, *confusion.shape[-2:]).sum(axis=0)
    right, truth, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = right / (truth + predicted - right)
        accuracy = right / truth
        total = right.sum() / truth.sum()
    return {
        "miou": _mean_present(iou),
        "class_iou": iou,
        "class_accuracy": _mean_present(accuracy),
        "pixel_accuracy": float(total),
    }


def _mean_present(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def bootstrap_miou(confusion: np.ndarray, seed: int, draws: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mIoU under resampling of images.

    Args:
        confusion: (N, K, K) counts per image.
        seed: of the resampling.
        draws: how many resampled splits.
        level: share of the draws inside the interval.
    """
    generator = np.random.default_rng(seed)
    images, classes = confusion.shape[:2]
    weights = generator.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)
    totals = (weights @ confusion.reshape(images, -1)).reshape(draws, classes, classes)
    right = np.diagonal(totals, axis1=1, axis2=2)
    union = totals.sum(axis=1) + totals.sum(axis=2) - right
    with np.errstate(invalid="ignore", divide="ignore"):
        mious = np.nanmean(np.where(union > 0, right / union, np.nan), axis=1)
    low, high = np.quantile(mious, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def evaluate(
    predict: Callable[[dict[str, Tensor]], Tensor],
    scenes: Scenes,
    card: DatasetCard,
    sensors: tuple[str, ...],
    batch_size: int,
    device: torch.device,
) -> np.ndarray:
    """Confusion of every image of a split, unaugmented.

    Args:
        predict: images per sensor -> logits (B, K, h, w), enlarged to the label's size.
        scenes: the split.
        card: classes and normalisation.
        sensors: the set of sensors that ``predict`` is given.
        batch_size: scenes at a time.
        device: where ``predict`` runs.

    Returns:
        (N, K, K) int32; rows are the truth.
    """
    parts = []
    with torch.inference_mode():
        for start in range(0, len(scenes), batch_size):
            indices = list(range(start, min(start + batch_size, len(scenes))))
            batch = plain(scenes, indices, card, sensors, device)
            label = batch.labels[sensors[0]]
            logits = F.interpolate(predict(batch.images).float(), size=label.shape[-2:], mode="bilinear")
            parts.append(confusion_per_image(logits.argmax(dim=1), label, len(card.classes)).cpu())
    return torch.cat(parts).numpy().astype(np.int32)


def save_confusion(path: Path, confusion: dict[str, np.ndarray]) -> None:
    """Write ``<split>/<sensors>`` -> (N, K, K) as one compressed file, atomically."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **{key.replace("/", "|"): value for key, value in confusion.items()})


def load_confusion(path: Path) -> dict[str, np.ndarray]:
    """Read what ``save_confusion`` wrote."""
    with np.load(path) as file:
        return {key.replace("|", "/"): file[key] for key in file.files}

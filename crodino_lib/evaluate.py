"""Scores of a segmentation: one confusion matrix per image, mIoU over the whole split."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.augment import plain
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes
from crodino_lib.io import atomic_write


def confusion_per_image(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Pixels of every image by true and predicted class.

    Args:
        prediction: (B, H, W) int64 in [0, K).
        label: (B, H, W) int64 in [0, K) or 255.
        classes: K.

    Returns:
        (B, K, K) int64; rows are the truth, columns the prediction; pixels to ignore are in none.

    Raises:
        ValueError: shapes differ, or a pixel that counts holds no class.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction is {tuple(prediction.shape)} but label is {tuple(label.shape)}")
    counted = label != IGNORE
    for name, values in ("prediction", prediction[counted]), ("label", label[counted]):
        wrong = values[(values < 0) | (values >= classes)]
        if len(wrong):
            raise ValueError(f"{name} holds {wrong[0].item()}, outside the classes 0..{classes - 1}")
    image = torch.arange(len(label), device=label.device).view(-1, 1, 1)
    cell = ((image * classes + label) * classes + prediction)[counted]
    return torch.bincount(cell, minlength=len(label) * classes**2).view(-1, classes, classes)


def scores(confusion: np.ndarray) -> dict[str, float | np.ndarray]:
    """Scores of one confusion matrix over a whole split.

    Args:
        confusion: (K, K), or (N, K, K) which is summed; rows are the truth.

    Returns:
        ``miou``: mean over the classes that are in the truth or in the prediction, NaN where there are none;
        ``class_iou`` (K,), NaN for the others; ``class_accuracy``: mean over the classes that are in the truth;
        ``pixel_accuracy``. All in 0..1.
    """
    counts = confusion.reshape(-1, *confusion.shape[-2:]).sum(axis=0, dtype=np.int64)
    right, truth = np.diag(counts), counts.sum(axis=1)
    iou = class_iou(counts)
    return {
        "miou": float(_mean_present(iou)),
        "class_iou": iou,
        "class_accuracy": float(_mean_present(_share(right, truth))),
        "pixel_accuracy": float(_share(right.sum(), truth.sum())),
    }


def class_iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union: (..., K, K) counts -> (..., K), NaN where in neither truth nor prediction."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return _share(right, counts.sum(axis=-1) + counts.sum(axis=-2) - right)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where there is nothing."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean_present(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN."""
    return _share(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def bootstrap_miou(confusion: np.ndarray, seed: int, draws: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mIoU under resampling of images.

    Args:
        confusion: (N, K, K) counts per image.
        seed: of the resampling.
        draws: how many resampled splits.
        level: share of the draws inside the interval.

    Returns:
        Low and high, in 0..1. Draws without a labelled pixel are left out; NaN where all are.
    """
    return interval(resampled_mious(confusion, seed, draws), level)


def resampled_mious(confusion: np.ndarray, seed: int, draws: int = 1000) -> np.ndarray:
    """mIoU of ``draws`` resampled splits (draws,); equal seeds draw equal images, so two methods' are paired."""
    images, classes = confusion.shape[:2]
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    totals = weights.astype(np.float64) @ confusion.reshape(images, -1)  # float64: integers take no fast product
    return _mean_present(class_iou(totals.reshape(draws, classes, classes)))


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval that holds ``level`` of the values that are not NaN; NaN where all are."""
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@torch.inference_mode()
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

    Raises:
        ValueError: there are more logits than classes and one of them wins.
    """
    parts = []
    for start in range(0, len(scenes), batch_size):
        batch = plain(scenes, list(range(start, min(start + batch_size, len(scenes)))), card, sensors, device)
        label = batch.labels[sensors[0]]  # unaugmented: the same for every sensor
        logits = F.interpolate(predict(batch.images).float(), size=label.shape[-2:], mode="bilinear")
        parts.append(confusion_per_image(logits.argmax(dim=1), label, len(card.classes)).int().cpu())
    return torch.cat(parts).numpy()


def save_confusion(path: Path, confusion: dict[str, np.ndarray]) -> None:
    """Write ``<split>/<sensors>`` -> (N, K, K) as one compressed file, atomically."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **confusion)


def load_confusion(path: Path) -> dict[str, np.ndarray]:
    """Read what ``save_confusion`` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged.
    """
    try:
        with np.load(path) as file:
            return dict(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a file of confusion matrices ({error}); remove its folder to run again"
        ) from error

"""Score a segmentation: one confusion matrix per image, mIoU over the whole split."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crodino_lib.augment import plain
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes
from crodino_lib.io import atomic_write, load_npz


def confusion_per_image(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Count the pixels of every image by true and predicted class.

    Args:
        prediction: (B, H, W) int64 in [0, K), K = ``classes``.
        label: (B, H, W) int64 in [0, K) or 255.

    Returns:
        (B, K, K) int64; rows are the truth, columns the prediction; pixels to ignore are in none.

    Raises:
        ValueError: shapes differ, or a pixel that counts holds no class.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction is {tuple(prediction.shape)} but label is {tuple(label.shape)}")
    counted = label != IGNORE
    for name, values in ("prediction", prediction[counted]), ("label", label[counted]):
        if len(wrong := values[(values < 0) | (values >= classes)]):
            raise ValueError(f"{name} holds {wrong[0].item()}, outside the classes 0..{classes - 1}")
    image = torch.arange(len(label), device=label.device).view(-1, 1, 1)
    cell = ((image * classes + label) * classes + prediction)[counted]
    return torch.bincount(cell, minlength=len(label) * classes**2).view(-1, classes, classes)


def scores(confusion: np.ndarray) -> dict[str, float | np.ndarray]:
    """Return the scores of a whole split from its (K, K) or (N, K, K) confusion, whose rows are the truth.

    Returns:
        ``miou``: mean over the classes that are in the truth or in the prediction, NaN where there are none;
        ``class_iou`` (K,), NaN for the others; ``class_accuracy``: mean over the classes that are in the truth;
        ``pixel_accuracy``. All in 0..1.
    """
    counts = confusion.reshape(-1, *confusion.shape[-2:]).sum(axis=0, dtype=np.int64)
    right, truth = np.diag(counts), counts.sum(axis=1)
    iou = class_iou(counts)
    return {
        "miou": float(mean_present(iou)),
        "class_iou": iou,
        "class_accuracy": float(mean_present(_share(right, truth))),
        "pixel_accuracy": float(_share(right.sum(), truth.sum())),
    }


def class_iou(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union: (..., K, K) counts -> (..., K), NaN where in neither truth nor prediction."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return _share(right, counts.sum(axis=-1) + counts.sum(axis=-2) - right)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def mean_present(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of the values that are not NaN."""
    return _share(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


@torch.inference_mode()
def evaluate(
    predict: Callable[[dict[str, Tensor]], Tensor],
    scenes: Scenes,
    card: DatasetCard,
    sensors: tuple[str, ...],
    batch_size: int,
    device: torch.device,
) -> np.ndarray:
    """Return the confusion of every image of a split, unaugmented: (N, K, K) int32, rows are the truth.

    ``predict`` maps images of ``sensors`` to logits (B, K, h, w), which are enlarged to the label's size; ValueError
    where a logit wins that is no class.
    """
    parts = []
    for indices in torch.arange(len(scenes)).split(batch_size):
        batch = plain(scenes, indices.tolist(), card, sensors, device)
        label = batch.labels[sensors[0]]  # unaugmented: the same for every sensor
        logits = F.interpolate(predict(batch.images).float(), size=label.shape[-2:], mode="bilinear")
        parts.append(confusion_per_image(logits.argmax(dim=1), label, len(card.classes)).int().cpu())
    return torch.cat(parts).numpy()


def save_confusion(path: Path, confusion: dict[tuple[str, str], np.ndarray]) -> None:
    """Write (split, sensors) -> (N, K, K) as one compressed file, atomically."""
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_BZIP2) as file:  # 2/3 of numpy's
        for key, counts in confusion.items():
            with file.open(f"{'/'.join(key)}.npy", "w") as entry:
                np.save(entry, counts)


def load_confusion(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Read what ``save_confusion`` wrote; see ``io.load_npz``."""
    with load_npz(path) as file:
        return {tuple(name.split("/")): file[name] for name in file.files}

"""Sheets of pictures: scenes, predictions, augmentation. Grey: no valid value, or not labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from crodino_lib.augment import Batch
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.figures.base import MISSING_COLOUR, TWO_COLUMNS_MM, StudyFigure, class_colours, count, styled

COLOUR_MAPS = {"depth": "viridis", "thermal": "inferno"}


def scene_sheet(scenes: Scenes, card: DatasetCard, indices: Sequence[int]) -> StudyFigure:
    """One row per scene: every sensor in its unit, and the label."""
    return prediction_sheet(scenes, card, indices, {})


def prediction_sheet(
    scenes: Scenes, card: DatasetCard, indices: Sequence[int], predictions: Mapping[str, np.ndarray]
) -> StudyFigure:
    """One row per scene: every sensor, the label, and what each method says.

    Args:
        scenes: one split.
        card: of its dataset.
        indices: scenes to show.
        predictions: title -> (len(indices), H, W) class indices of the shown scenes, in their order.

    Raises:
        ValueError: predictions of another shape, or titled as a sensor is.
    """
    indices = list(indices)
    columns = {}
    for sensor, images in scenes.images.items():
        valid = scenes.valid[sensor][indices] if sensor in scenes.valid else np.True_
        columns[sensor] = (sensor, _masked(images[indices], valid))
    if taken := {*columns, "label"} & set(predictions):
        raise ValueError(f"predictions cannot be titled {', '.join(sorted(taken))}: those are columns of the scene")
    columns |= {title: (None, stack) for title, stack in {"label": scenes.labels[indices], **predictions}.items()}
    return _sheet(card, columns, [scenes.ids[index] for index in indices], "scene")


def augmentation_sheet(batch: Batch, card: DatasetCard) -> StudyFigure:
    """What networks see: one row per scene, every sensor with its own geometry and its own label."""
    columns = {}
    for sensor, images in batch.images.items():
        mean, std = (np.reshape(part, (-1, 1, 1)) for part in (card.sensors[sensor].mean, card.sensors[sensor].std))
        columns[sensor] = (sensor, _masked(images.cpu().numpy() * std + mean, batch.valid[sensor].cpu().numpy()))
        columns[f"label for {sensor}"] = (None, batch.labels[sensor].cpu().numpy())
    return _sheet(card, columns, batch.ids, "augmented scene")


def _masked(images: np.ndarray, valid: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_array(images, ~np.broadcast_to(valid, images.shape))


@styled
def _sheet(
    card: DatasetCard, columns: Mapping[str, tuple[str | None, np.ndarray]], ids: Sequence[str], noun: str
) -> StudyFigure:
    """Columns of pictures: title -> (sensor, (N, C, H, W)) or (None, (N, H, W) labels)."""
    shape = (len(ids), *next(iter(columns.values()))[1].shape[-2:])
    for title, (_, stack) in columns.items():
        if (len(stack), *stack.shape[-2:]) != shape:
            raise ValueError(
                f"{title!r} is {stack.shape}, expected {shape[0]} pictures of {shape[1]} x {shape[2]} pixels"
            )
    labels = [stack.ravel() for sensor, stack in columns.values() if sensor is None]
    shown = [Patch(color=c, label=n) for i, (n, c) in enumerate(class_colours(card).items()) if np.isin(i, labels)]
    shown.append(Patch(color=MISSING_COLOUR, label="no value, no label"))
    picture_mm = TWO_COLUMNS_MM / len(columns) * shape[1] / shape[2]
    figure = StudyFigure(
        TWO_COLUMNS_MM,
        len(ids) * picture_mm + 18 + 4 * -(-len(shown) // 8),
        f"{count(len(ids), noun)} of {card.title}: {', '.join(ids)}.",
    )
    axes = figure.subplots(len(ids) + 1, len(columns), height_ratios=[*[picture_mm] * len(ids), 1.5])
    for column, (title, (sensor, stack)) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title)
        drawn = [_draw(ax, picture, sensor, stack, card) for ax, picture in zip(column[:-1], stack, strict=True)]
        if sensor in (None, "rgb"):
            column[-1].set_axis_off()
        else:
            bar = figure.colorbar(drawn[0], cax=column[-1], orientation="horizontal")
            bar.set_label(f"{sensor} ({card.sensors[sensor].unit})", labelpad=1)
            bar.outline.set_visible(False)
    figure.legend(handles=shown, loc="outside upper center", ncols=8, handlelength=1, columnspacing=1)
    return figure


def _draw(ax: Axes, picture: np.ndarray, sensor: str | None, stack: np.ndarray, card: DatasetCard) -> AxesImage:
    """One picture, without axes; colours span the middle 98 % of its column."""
    ax.set(xticks=[], yticks=[], facecolor=MISSING_COLOUR)
    ax.spines[:].set_visible(False)
    if sensor is None:
        palette = np.full((256, 3), MISSING_COLOUR)
        palette[: len(card.palette)] = list(class_colours(card).values())
        return ax.imshow(palette[picture], interpolation="nearest")
    if sensor == "rgb":
        return ax.imshow(
            np.clip(picture.transpose(1, 2, 0) / 255, 0, 1).filled(MISSING_COLOUR[0]), interpolation="nearest"
        )
    values = stack.compressed().astype(np.float32)
    low, high = np.percentile(values, (1, 99)) if values.size else (0, 1)
    cmap = COLOUR_MAPS.get(sensor, "cividis")
    return ax.imshow(picture[0].astype(np.float32), vmin=low, vmax=high, cmap=cmap, interpolation="nearest")

"""Draw grids of images: scenes, predictions, augmentation, maps. Grey: no valid value, or not labelled."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from crodino_lib.data.sample import Batch, DatasetCard, Sample, Scenes
from crodino_lib.data.scene_cache import resize_sample
from crodino_lib.figures.base import FLAG_COLOUR, MISSING_COLOUR, WIDTHS_MM, StudyFigure, class_colours, printed, styled

COLOUR_MAPS = {"depth": "viridis", "thermal": "inferno"}
MAPS_A_ROW = 4


def scene_sheet(scenes: Scenes, card: DatasetCard, indices: Sequence[int]) -> StudyFigure:
    """Draw one row per scene: every sensor in its unit, and the label."""
    return prediction_sheet(scenes, card, indices, {})


def sample_sheet(samples: Sequence[Sample], card: DatasetCard, width: int = 160) -> StudyFigure:
    """Draw scenes as they were read, one per row, resized to ``width`` pixels and the proportions of the first."""
    height = round(width * samples[0]["label"].shape[0] / samples[0]["label"].shape[1])
    small = [resize_sample(sample, (width, height)) for sample in samples]
    scenes = Scenes(
        images={name: np.stack([sample[name] for sample in small]) for name in card.sensors},
        valid={name: np.stack([s[f"{name}_valid"] for s in small]) for name in card.sensors if name != "rgb"},
        labels=np.stack([sample["label"] for sample in small]).astype(np.uint8),
        ids=[sample["id"] for sample in small],
    )
    return scene_sheet(scenes, card, range(len(small)))


def prediction_sheet(
    scenes: Scenes,
    card: DatasetCard,
    indices: Sequence[int],
    predictions: Mapping[str, np.ndarray],
    sensors: Sequence[str] = (),
) -> StudyFigure:
    """Draw one row per scene of ``indices``: every sensor, or those named, the label, each method's prediction.

    ``predictions`` has by title (len(indices), H, W) class indices of the shown scenes, in their order; ValueError for
    those of another shape, or with the title of a sensor.
    """
    indices, columns = list(indices), {}
    measured_card = replace(card, sensors={name: sensor.measured for name, sensor in card.sensors.items()})
    for sensor in sensors or scenes.images:
        valid = scenes.valid[sensor][indices] if sensor in scenes.valid else True
        columns[sensor] = (sensor, _masked(scenes.images[sensor][indices], valid))
    if taken := {*columns, "label"} & set(predictions):
        raise ValueError(f"predictions cannot be titled {', '.join(sorted(taken))}: those are columns of the scene")
    columns |= {title: (None, stack) for title, stack in {"label": scenes.labels[indices], **predictions}.items()}
    return _sheet(measured_card, columns, [scenes.ids[index] for index in indices], "Scenes")


def augmentation_sheet(batch: Batch, card: DatasetCard) -> StudyFigure:
    """Draw a batch, one row per scene: every sensor with its own geometry and its own label."""
    columns = {}
    for sensor, images in batch.images.items():
        mean, std = (np.reshape(part, (-1, 1, 1)) for part in (card.sensors[sensor].mean, card.sensors[sensor].std))
        columns[sensor] = (sensor, _masked(images.cpu().numpy() * std + mean, batch.valid[sensor].cpu().numpy()))
        columns[f"label for {printed(sensor)}"] = (None, batch.labels[sensor].cpu().numpy())
    return _sheet(card, columns, batch.ids, "Views")


@styled
def map_sheet(
    maps: Mapping[str, ArrayLike], quantity: str, caption: str, marked: Mapping[str, tuple[int, int]] | None = None
) -> StudyFigure:
    """Draw maps of one quantity under one scale of colours, four a row.

    ``maps`` are by title (h, w) float, and one may be coarser than its neighbour; ``quantity`` is what the colours
    measure; ``marked`` has by title the (row, column) of a cell of that map that gets a cross.
    """
    maps, marked = {title: np.asarray(values) for title, values in maps.items()}, marked or {}
    rows, (height, width) = -(-len(maps) // MAPS_A_ROW), next(iter(maps.values())).shape
    map_mm = 0.9 * WIDTHS_MM["page"] / MAPS_A_ROW * height / width
    figure = StudyFigure("page", rows * (map_mm + 5) + 8, caption)
    axes = figure.subplots(rows, MAPS_A_ROW, squeeze=False)
    low, high = min(values.min() for values in maps.values()), max(values.max() for values in maps.values())
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=False):
        drawn = ax.imshow(values, vmin=low, vmax=high, extent=(0, width, height, 0))
        ax.set_title(title)
        if title in marked:
            row, column = np.add(marked[title], 0.5) * (height, width) / values.shape
            ax.plot(column, row, "x", color=FLAG_COLOUR, ms=5, mew=1.5)
    figure.colorbar(drawn, ax=axes, label=quantity, pad=0.01).outline.set_visible(False)
    return figure


def _masked(images: np.ndarray, valid: np.ndarray | bool) -> np.ma.MaskedArray:
    return np.ma.masked_array(images, ~np.broadcast_to(valid, images.shape))


@styled
def _sheet(
    card: DatasetCard, columns: Mapping[str, tuple[str | None, np.ndarray]], ids: Sequence[str], noun: str
) -> StudyFigure:
    """Draw columns of images: title -> (sensor, (N, C, H, W)) or (None, (N, H, W) labels)."""
    rows, (height, width) = len(ids), next(iter(columns.values()))[1].shape[-2:]
    for title, (_, stack) in columns.items():
        if (len(stack), *stack.shape[-2:]) != (rows, height, width):
            raise ValueError(f"{title!r} is {stack.shape}, expected {rows} images of {height} x {width} pixels")
    labels = [stack.ravel() for sensor, stack in columns.values() if sensor is None]
    shown = [Patch(color=c, label=n) for i, (n, c) in enumerate(class_colours(card).items()) if np.isin(i, labels)]
    shown.append(Patch(color=MISSING_COLOUR, label="no value, no label"))
    image_mm = WIDTHS_MM["page"] / len(columns) * height / width
    height_mm = rows * image_mm + 14 + 4 * -(-len(shown) // 8)
    figure = StudyFigure("page", height_mm, f"{noun} of {card.title}: {', '.join(ids)}.")
    axes = figure.subplots(rows + 1, len(columns), height_ratios=[*[image_mm] * rows, 1.5])
    for column, (title, (sensor, stack)) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(textwrap.fill(printed(title) if title == sensor else title, 100 // len(columns)))
        drawn = [_draw(ax, image, sensor, stack, card) for ax, image in zip(column[:-1], stack, strict=True)]
        if sensor is None or card.sensors[sensor].channels == 3:
            column[-1].set_axis_off()
        else:
            bar = figure.colorbar(drawn[0], cax=column[-1], orientation="horizontal")
            bar.set_label(f"{printed(sensor)} ({card.sensors[sensor].unit})", labelpad=1)
            bar.outline.set_visible(False)
    figure.legend(handles=shown, loc="outside upper center", ncols=8, handlelength=1, columnspacing=1)
    return figure


def _draw(ax: Axes, image: np.ndarray, sensor: str | None, stack: np.ndarray, card: DatasetCard) -> AxesImage:
    """Draw one image without axes; the colours of a sensor other than rgb span the middle 98 % of its column."""
    ax.set(xticks=[], yticks=[], facecolor=MISSING_COLOUR)
    ax.spines[:].set_visible(False)
    if sensor is None:
        palette = np.full((256, 3), MISSING_COLOUR)
        palette[: len(card.palette)] = list(class_colours(card).values())
        return ax.imshow(palette[image])
    values = stack.compressed()
    low, high = (0, 255) if sensor == "rgb" else np.percentile(values, (1, 99)) if values.size else (0, 1)
    if len(image) == 3:  # rgb, and such as normals or HHA
        colours = (image.transpose(1, 2, 0).astype(np.float32) - low) / max(high - low, 1e-6)
        return ax.imshow(np.clip(colours, 0, 1).filled(MISSING_COLOUR[0]))
    return ax.imshow(image[0], vmin=low, vmax=high, cmap=COLOUR_MAPS.get(sensor))

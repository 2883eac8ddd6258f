"""Draw charts of numbers: class shares, training curves, IoU per class, confusion and alignment per stage."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator, MaxNLocator

from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.figures.base import StudyFigure, class_colours, count, heatmap, printed, require, sensor_styles, styled

SLANTED = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
BESIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MOST_ANNOTATED = 20  # classes of a confusion matrix whose numbers are still legible
NEITHER = ("epoch", "learning_rate", "seconds", "gradient/", "exchanged/")  # columns that are no losses or scores


def class_share_table(scenes: Mapping[str, Scenes], card: DatasetCard) -> pd.DataFrame:
    """Compute each class's percent of the labelled pixels of every split: ``split``, ``class``, ``percent``."""
    tables = []
    for split, held in scenes.items():
        counts = np.bincount(held.labels.ravel(), minlength=256)[: len(card.classes)]
        percent = 100 * counts / max(counts.sum(), 1)
        tables.append(pd.DataFrame({"split": split, "class": card.classes, "percent": percent}))
    return pd.concat(tables, ignore_index=True)


@styled
def class_shares(table: pd.DataFrame, card: DatasetCard) -> StudyFigure:
    """Draw the share of every class in every split; a rare class counts as much in the mIoU as a frequent one.

    Args:
        table: from ``class_share_table``.
        card: gives title, order and colours.
    """
    require(table, "split", "class", "percent")
    caption = f"Share of the labelled pixels of {card.title}, logarithmic. A class that does not occur has no mark."
    figure = StudyFigure("page", 63, caption)
    ax = figure.subplots()
    splits = table["split"].unique()
    for position, split in enumerate(splits):
        part = table[table["split"] == split].set_index("class").loc[list(card.classes)]
        look = {"s": 24, "marker": "osD^vP"[position % 6], "edgecolor": "0.3", "linewidth": 0.4}
        x = np.arange(len(part)) + 0.2 * (position - (len(splits) - 1) / 2)
        ax.scatter(x, part["percent"], c=list(class_colours(card).values()), **look)
        ax.scatter([], [], c="0.7", label=split, **look)
    ax.set(ylabel="share of pixels (%)", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.grid(axis="y")
    ax.set_xticks(range(len(card.classes)), card.classes, **SLANTED)
    ax.legend(**BESIDE)
    return figure


@styled
def training_curves(histories: Mapping[str, pd.DataFrame]) -> StudyFigure:
    """Draw weighted loss terms and validation mIoU at every epoch, one row per run.

    Args:
        histories: title, such as ``CroDiNo-KD, seed 0`` -> ``epoch``, loss terms such as ``segmentation/rgb``, and
            ``val_miou/<sensor>`` in 0..1.
    """
    caption = f"{count(len(histories), 'run')}. Loss terms are weighted; the validation split chooses the epoch."
    figure = StudyFigure("page", 48 * len(histories) + 2, caption)
    axes = figure.subplots(len(histories), 2, squeeze=False)
    for (title, history), (losses, scores) in zip(histories.items(), axes, strict=True):
        require(history, "epoch")
        names = [name for name in history if not name.startswith(NEITHER)]
        kinds = list(dict.fromkeys(name.partition("/")[0] for name in names))
        styles = sensor_styles(sensor for name in names if (sensor := name.partition("/")[2]))
        for name in names:
            kind, _, sensor = name.partition("/")
            colour, marker = styles.get(sensor, ("0.2", "."))
            style = {"color": colour, "marker": marker, "ms": 2}
            if kind == "val_miou":
                scores.plot(history["epoch"], 100 * history[name], label=printed(sensor), **style)
            else:
                style["ls"] = LINE_STYLES[kinds.index(kind) % len(LINE_STYLES)]
                losses.plot(history["epoch"], history[name], label=printed(name), **style)
        losses.set(title=title, ylabel="loss term")
        if all((line.get_ydata() > 0).all() for line in losses.lines):
            losses.set_yscale("log")
            losses.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter="")
        scores.set(ylabel="validation mIoU (%)", ylim=(0, None))
        for ax in (losses, scores):
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.legend(**BESIDE, handlelength=3)
    return figure


@styled
def per_class_iou(table: pd.DataFrame, card: DatasetCard) -> StudyFigure:
    """Draw the IoU of every class: one panel per set of sensors, one bar per method, mean and deviation over seeds.

    Args:
        table: ``method``, ``sensors``, ``class``, ``seed``, ``iou`` in percent, NaN where the class does not occur.
        card: gives the classes' order.
    """
    require(table, "method", "sensors", "class", "seed", "iou")
    groups = dict(list(table.groupby("sensors", sort=False)))
    styles = sensor_styles(groups)
    seeds = sorted(table["seed"].unique())
    caption = (
        f"Bars: mean over {count(len(seeds), 'seed')} ({', '.join(map(str, seeds))}); whiskers: one standard deviation "
        "over seeds, none for one seed. No bar: a class that does not occur, or that is never found."
    )
    figure = StudyFigure("page", 46 * len(groups) + 18, caption)
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
    for ax, (sensors, part) in zip(axes, groups.items(), strict=True):
        colours = sns.light_palette(styles[sensors][0], part["method"].nunique() + 1)[1:]
        bars = {"hue": "method", "palette": colours, "saturation": 1, "order": card.classes}
        whiskers = {"errorbar": "sd", "err_kws": {"linewidth": 0.6, "color": "0.2"}}
        sns.barplot(part, x="class", y="iou", ax=ax, **bars, **whiskers)
        ax.set(title=printed(sensors), xlabel="", ylabel="IoU (%)")
        ax.legend(**BESIDE, handlelength=1)
    axes[-1].set_xticks(range(len(card.classes)), card.classes, **SLANTED)
    return figure


@styled
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> StudyFigure:
    """Draw the confusion matrix in percent of the pixels of every true class.

    Args:
        matrix: (K, K) or, one per image, (N, K, K) counts of pixels; rows are the truth.
        classes: K names.
        title: method, sensors, split and seed.
    """
    matrix = matrix.reshape(-1, len(classes), len(classes)).sum(axis=0)
    pixels = matrix.sum(axis=1, keepdims=True)
    percent = pd.DataFrame(100 * matrix / np.where(pixels, pixels, np.nan), classes, classes)
    caption = f"{matrix.sum():,} pixels, in percent of their true class. Grey: a class that does not occur."
    figure = StudyFigure("page", 150, caption)
    ax = figure.subplots()
    scale = {"cbar": True, "cbar_kws": {"label": "share of the true class (%)", "shrink": 0.7}}
    numbers = percent if len(classes) <= MOST_ANNOTATED else None
    heatmap(ax, percent, numbers, 5.5, vmax=100, square=True, **scale)
    ax.set(title=title, xlabel="predicted", ylabel="truth")
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return figure


@styled
def stage_alignment(table: pd.DataFrame) -> StudyFigure:
    """Draw how alike two sensors' encoders are at every stage: a colour per network, a dash per place.

    Args:
        table: from ``crodino_lib.analysis.stages.stage_alignment``, with a column ``network``.
    """
    require(table, "network", "stage", "place", "cka", "probe", "regions")
    caption = (
        f"Up to {table.regions.max()} regions of the test split. Left: debiased linear CKA of the two sensors' region "
        "vectors. Right: balanced accuracy of a linear probe that predicts the sensor, grouped by image; 0.5 is chance."
    )
    figure = StudyFigure("page", 70, caption)
    left, right = figure.subplots(1, 2)
    for ax, quantity, title in ((left, "cka", "CKA"), (right, "probe", "accuracy of predicting the sensor")):
        looks = {"hue": "network", "style": "place", "markers": True, "palette": "colorblind"}
        sns.lineplot(table, x="stage", y=quantity, ax=ax, **looks)
        ax.set(xlabel="stage of the encoder", ylabel=title, xticks=sorted(table.stage.unique()))
    left.get_legend().remove()
    right.legend(**BESIDE)
    return figure

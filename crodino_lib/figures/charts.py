"""Draw charts of numbers: gains, class shares, training curves, IoU per class, confusion, alignment per stage."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.figures.base import StudyFigure, class_colours, count, heatmap, printed, require, sensor_styles, styled
from crodino_lib.methods.registry import METHODS, method_title
from crodino_lib.study.statistics import interval_over

BESIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MOST_ANNOTATED = 20  # classes of a confusion matrix whose numbers are still legible
NEITHER = ("epoch", "learning_rate", "seconds", "gradient/", "exchanged/")  # columns that are no losses or scores
METHOD, TEACHER, SENSORS, SPLIT = "method", "teacher", "sensors at test", "split"  # columns of comparison_table
GAIN, LOW, HIGH, SEEDS, IMAGES = "gain", "gain low", "gain high", "gain seeds", "test images"
FAMILY_COLOURS = {"control": "0.45", "fusion": "#56B4E9", "distillation": "#0072B2", "teacher-free": "#D55E00"}


@styled
def gains(table: pd.DataFrame, split: str = "test", width: str = "column") -> StudyFigure:
    """Draw one row per method, teacher and sensors at test: the gain in mIoU points with its 95 % interval.

    Rows are grouped by the sensors at test, sorted by gain, and coloured by family.
    ``table`` is from ``crodino_lib.study.tables.comparison_table``; ValueError for a split without gains.
    """
    require(table, METHOD, TEACHER, SENSORS, SPLIT, GAIN, LOW, HIGH, SEEDS, IMAGES)
    shown = table[(table[SPLIT] == split) & table[GAIN].notna()].sort_values(GAIN, ascending=False, kind="stable")
    if shown.empty:
        raise ValueError(
            f"the table has no gain over a baseline on split {split!r}; it has splits "
            f"{', '.join(table[SPLIT].unique())}. A gain needs a method and the baselines of the same seeds"
        )
    sensors, labels = [name for name in table[SENSORS].unique() if name in set(shown[SENSORS])], []
    families = {name: METHODS[re.split("[: ]", name)[0]].family for name in shown[METHOD]}
    figure = StudyFigure(width, 18 + 3.6 * (len(shown) + len(sensors)), _gain_caption(shown, split))
    ax = figure.subplots()
    ax.axvline(0, color="0.3", lw=0.8, zorder=1)
    for sensor in sensors:
        labels.append((f"{printed(sensor)} at test", "bold"))
        for _, row in shown[shown[SENSORS] == sensor].iterrows():
            colour = FAMILY_COLOURS[families[row[METHOD]]]
            filled = "white" if row[LOW] <= 0 <= row[HIGH] else colour
            ax.plot([row[LOW], row[HIGH]], [len(labels)] * 2, color=colour, lw=1.2, solid_capstyle="butt", zorder=2)
            ax.plot(row[GAIN], len(labels), "o", color=colour, ms=4, mfc=filled, zorder=3)
            teacher, _, taught = row[TEACHER].partition(" ")
            origin = f" (from {method_title(teacher)}, {printed(taught)})" if teacher != "-" else ""
            labels.append((method_title(row[METHOD]) + origin, "normal"))
    ax.set_yticks(range(len(labels)), [label for label, _ in labels])
    for text, (_, weight) in zip(ax.get_yticklabels(), labels, strict=True):
        text.set_weight(weight)
    ax.set(xlabel="gain in mIoU over the baseline (points)", ylim=(len(labels) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    handles = [Line2D([], [], color=FAMILY_COLOURS[name], marker="o", ms=4, label=name) for name in FAMILY_COLOURS]
    handles = [handle for handle in handles if handle.get_label() in families.values()]
    handles += [Line2D([], [], color="0.3", marker="o", mfc="white", ls="", ms=4, label="interval contains 0")]
    figure.legend(handles=handles, loc="outside lower right", ncols=2)
    return figure


def _gain_caption(shown: pd.DataFrame, split: str) -> str:
    fewest, most = shown[SEEDS].min(), shown[SEEDS].max()
    seeds = count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    taught = " From: the teacher and its sensors." if (shown[TEACHER] != "-").any() else ""
    return (
        "Gain over the baseline of the same sensor and seed; for sensors together, over the better of their baselines. "
        f"Split {split}, {count(shown[IMAGES].iloc[0], 'image')}, {seeds}. "
        f"Lines: 95 % interval over {interval_over(fewest, most)}; open marks: it contains 0.{taught}"
    )


def class_share_table(scenes: Mapping[str, Scenes], card: DatasetCard) -> pd.DataFrame:
    """Compute each class's percent of the labelled pixels of every split: ``split``, ``class``, ``percent``."""
    tables = []
    for split, held in scenes.items():
        counts = np.bincount(held.labels.ravel(), minlength=256)[: len(card.classes)]
        percent = 100 * counts / max(counts.sum(), 1)
        tables.append(pd.DataFrame({"split": split, "class": card.classes, "percent": percent}))
    return pd.concat(tables, ignore_index=True)


@styled
def class_shares(table: pd.DataFrame, card: DatasetCard, width: str = "column") -> StudyFigure:
    """Draw the share of every class in every split, from ``class_share_table``, in the order of the card.

    A rare class counts as much in the mIoU as a frequent one.
    """
    require(table, "split", "class", "percent")
    caption = f"Share of the labelled pixels of {card.title}, logarithmic. A class that does not occur has no mark."
    figure = StudyFigure(width, 24 + 3.4 * len(card.classes), caption)
    ax = figure.subplots()
    splits = table["split"].unique()
    for position, split in enumerate(splits):
        part = table[table["split"] == split].set_index("class").loc[list(card.classes)]
        look = {"s": 14, "marker": "osD^vP"[position % 6], "edgecolor": "0.3", "linewidth": 0.4}
        y = np.arange(len(part)) + 0.2 * (position - (len(splits) - 1) / 2)
        ax.scatter(part["percent"], y, c=list(class_colours(card).values()), **look)
        ax.scatter([], [], c="0.7", label=split, **look)
    ax.set(xlabel="share of pixels (%)", xscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    _list_classes(ax, card)
    figure.legend(loc="outside upper center", ncols=len(splits))
    return figure


def _list_classes(ax: Axes, card: DatasetCard) -> None:
    """Name the classes on the vertical axis, the first one above."""
    ax.set_yticks(range(len(card.classes)), card.classes)
    ax.set_ylim(len(card.classes) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="both")


@styled
def training_curves(histories: Mapping[str, pd.DataFrame], width: str = "page") -> StudyFigure:
    """Draw weighted loss terms and validation mIoU at every epoch, side by side or, on a column, one above the other.

    ``histories`` has by title ``epoch``, loss terms such as ``segmentation/rgb``, and ``val_miou/<sensor>`` in 0..1.
    """
    caption = f"{count(len(histories), 'run')}. Loss terms are weighted; the validation split chooses the epoch."
    across = 2 if width == "page" else 1
    down = 2 * len(histories) // across
    figure = StudyFigure(width, 48 * down + 2, caption)
    axes = figure.subplots(down, across, squeeze=False).reshape(-1, 2)
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
            losses.yaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), major_formatter="{x:g}", minor_formatter="")
        scores.set(ylabel="validation mIoU (%)", ylim=(0, None))
        for ax in (losses, scores):
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.legend(**BESIDE, handlelength=3)
    return figure


@styled
def per_class_iou(table: pd.DataFrame, card: DatasetCard, width: str = "column") -> StudyFigure:
    """Draw the IoU of every class, one mark per set of sensors: mean over seeds, and a line of one standard deviation.

    ``table``, of one method, has ``sensors``, ``class``, ``seed``, and ``iou`` in percent, NaN where no pixel is a
    class's.
    """
    require(table, "sensors", "class", "seed", "iou")
    groups = table.groupby(["sensors", "class"], sort=False).iou.agg(["mean", "std"])
    caption = (
        f"Mean over {count(table.seed.nunique(), 'seed')}; lines: one standard deviation over seeds, none for one "
        "seed. No mark: a class that does not occur."
    )
    figure = StudyFigure(width, 24 + 3.4 * len(card.classes), caption)
    ax = figure.subplots()
    styles = sensor_styles(table["sensors"].unique())
    for position, (sensors, (colour, marker)) in enumerate(styles.items()):
        rows = groups.loc[sensors].reindex(card.classes)
        y = np.arange(len(rows)) + 0.24 * (position - (len(styles) - 1) / 2)
        ax.errorbar(rows["mean"], y, xerr=rows["std"], fmt=marker, color=colour, ms=3.5, lw=0.8, label=printed(sensors))
    ax.set(xlabel="IoU (%)", xlim=(-2, 100))
    _list_classes(ax, card)
    figure.legend(loc="outside upper center", ncols=len(styles))
    return figure


@styled
def class_differences(table: pd.DataFrame, width: str = "column") -> StudyFigure:
    """Draw the difference in IoU of every class and method to the baseline of the same sensor, a panel per sensor.

    ``table`` is from ``crodino_lib.study.tables.class_table``; differences are paired by seed. ValueError where no
    method has a baseline.
    """
    require(table, "method", "sensors", "class", "seed", "iou")
    own = table[table.method == "baseline"].set_index(["sensors", "seed", "class"]).iou.rename("own")
    paired = table[table.method != "baseline"].join(own, on=["sensors", "seed", "class"], how="inner")
    if paired.empty:
        raise ValueError("no method of the table has a baseline of its sensors and seed")
    paired["difference"] = (paired.iou - paired.own).mask((paired.iou == 0) & (paired.own == 0))
    panels, classes = dict(list(paired.groupby("sensors", sort=False))), list(dict.fromkeys(table["class"]))
    caption = (
        f"IoU of each class less that of the baseline of the same sensor, points; mean over "
        f"{count(paired.seed.nunique(), 'paired seed')}. Grey: a class that neither finds, or that does not occur."
    )
    figure = StudyFigure(width, 38 + 3.4 * len(classes), caption)
    figure.supxlabel("difference in IoU to the baseline (points)", fontsize=7)
    widths = [part.method.nunique() for part in panels.values()]
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=widths)[0]
    most = max(paired.difference.abs().max(), 1)
    for ax, (sensors, part) in zip(axes, panels.items(), strict=True):
        cells = part.pivot_table(index="class", columns="method", values="difference", sort=False)
        cells = cells.reindex(classes).rename(columns=method_title)
        heatmap(ax, cells, cells, 6, vmin=-most, vmax=most, cmap="RdBu")
        ax.set_title(f"{printed(sensors)} at test")
        ax.tick_params(axis="x", rotation=90)
        ax.tick_params(axis="y", rotation=0)
    return figure


@styled
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str, width: str = "page") -> StudyFigure:
    """Draw the confusion matrix in percent of the pixels of every true class.

    ``matrix`` has (K, K) or, one per image, (N, K, K) counts of pixels; rows are the truth. The title names method,
    sensors, split and seed.
    """
    matrix = matrix.reshape(-1, len(classes), len(classes)).sum(axis=0)
    pixels = matrix.sum(axis=1, keepdims=True)
    percent = pd.DataFrame(100 * matrix / np.where(pixels, pixels, np.nan), classes, classes)
    caption = f"{matrix.sum():,} pixels, in percent of their true class. Grey: a class that does not occur."
    figure = StudyFigure(width, 150 if width == "page" else 88, caption)
    ax = figure.subplots()
    scale = {"cbar": width == "page", "cbar_kws": {"label": "share of the true class (%)", "shrink": 0.7}}
    numbers = percent if len(classes) <= MOST_ANNOTATED else None
    heatmap(ax, percent, numbers, 6, vmax=100, square=True, cmap="viridis", **scale)
    ax.set(title=title, xlabel="predicted", ylabel="truth")
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return figure


@styled
def stage_alignment(table: pd.DataFrame, width: str = "page") -> StudyFigure:
    """Draw how alike two sensors' encoders are at every stage: a colour per network, a dash per place.

    ``table`` is from ``crodino_lib.analysis.stages.stage_alignment``, with a column ``network``.
    """
    require(table, "network", "stage", "place", "cka", "probe", "regions")
    caption = (
        f"Up to {table.regions.max()} regions of the test split. Left: debiased linear CKA of the two sensors' region "
        "vectors. Right: balanced accuracy of a linear probe that predicts the sensor, grouped by image; 0.5 is chance."
    )
    figure = StudyFigure(width, 70 if width == "page" else 120, caption)
    left, right = figure.panels(2)
    for ax, quantity, title in ((left, "cka", "CKA"), (right, "probe", "accuracy of predicting the sensor")):
        looks = {"hue": "network", "style": "place", "markers": True, "palette": "colorblind"}
        sns.lineplot(table, x="stage", y=quantity, ax=ax, **looks)
        ax.set(xlabel="stage of the encoder", ylabel=title, xticks=sorted(table.stage.unique()))
    left.get_legend().remove()
    right.legend(**BESIDE)
    return figure

"""Charts of numbers: shares, curves, scores, confusion, factors and the latent manifolds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from scipy import stats

from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.figures.base import (
    MISSING_COLOUR,
    TWO_COLUMNS_MM,
    StudyFigure,
    class_colours,
    count,
    modality_styles,
    styled,
)

SLANTED = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
BESIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MOST_ANNOTATED = 20  # classes of a confusion matrix whose numbers are still legible
NO_LOSS = ("epoch", "learning_rate", "seconds", "val_miou/", "gradient/", "exchanged/")  # in a history, beside losses


def class_share_table(scenes: Mapping[str, Scenes], card: DatasetCard) -> pd.DataFrame:
    """Percent of the labelled pixels of every split that each class covers: ``split``, ``class``, ``percent``."""
    tables = []
    for split, held in scenes.items():
        counts = np.bincount(held.labels.ravel(), minlength=256)[: len(card.classes)]
        percent = 100 * counts / max(counts.sum(), 1)
        tables.append(pd.DataFrame({"split": split, "class": card.classes, "percent": percent}))
    return pd.concat(tables, ignore_index=True)


@styled
def class_shares(table: pd.DataFrame, card: DatasetCard) -> StudyFigure:
    """Share of every class in every split: a rare class counts as much in the mIoU as a frequent one.

    Args:
        table: from ``class_share_table``.
        card: gives title, order and colours.
    """
    _require(table, "split", "class", "percent")
    caption = f"Share of the labelled pixels of {card.title}, logarithmic. A class that does not occur has no mark."
    figure = StudyFigure(TWO_COLUMNS_MM, 66, caption)
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
    ax.grid(axis="y", lw=0.3, color="0.85")
    ax.set_xticks(range(len(card.classes)), card.classes, **SLANTED)
    ax.legend(**BESIDE)
    return figure


@styled
def training_curves(histories: Mapping[str, pd.DataFrame]) -> StudyFigure:
    """One row per run: weighted loss terms, and validation mIoU, at every epoch.

    Args:
        histories: title, such as ``CroDiNo-KD, seed 0`` -> ``epoch``, loss terms such as ``segmentation/rgb``, and
            ``val_miou/<sensor>`` in 0..1.
    """
    caption = f"{count(len(histories), 'run')}. Loss terms are weighted; the validation split chooses the epoch."
    figure = StudyFigure(TWO_COLUMNS_MM, 48 * len(histories) + 6, caption)
    axes = figure.subplots(len(histories), 2, squeeze=False)
    for (title, history), (losses, scores) in zip(histories.items(), axes, strict=True):
        _require(history, "epoch")
        mious = [name for name in history if name.startswith("val_miou/")]
        terms = [name for name in history if not name.startswith(NO_LOSS)]
        kinds = list(dict.fromkeys(term.partition("/")[0] for term in terms))
        colours = modality_styles(sensor for name in mious + terms if (sensor := name.partition("/")[2]))
        for name in terms:
            kind, _, sensor = name.partition("/")
            colour, marker = colours.get(sensor, ("0.2", "."))
            style = LINE_STYLES[kinds.index(kind) % len(LINE_STYLES)]
            losses.plot(history["epoch"], history[name], ls=style, color=colour, marker=marker, ms=2, label=name)
        for name in mious:
            sensor = name.removeprefix("val_miou/")
            colour, marker = colours[sensor]
            scores.plot(history["epoch"], 100 * history[name], color=colour, marker=marker, ms=2, label=sensor)
        losses.set(title=title, ylabel="loss term")
        if (history[terms] > 0).all(axis=None):
            losses.set_yscale("log")
            losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            losses.yaxis.set_major_formatter("{x:g}")
            losses.yaxis.set_minor_formatter(NullFormatter())
        scores.set(ylabel="validation mIoU (%)", ylim=(0, None))
        for ax in (losses, scores):
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.legend(**BESIDE, handlelength=3)
    return figure


@styled
def per_class_iou(table: pd.DataFrame, card: DatasetCard) -> StudyFigure:
    """IoU of every class: one panel per set of sensors, one bar per method, mean and deviation over seeds.

    Args:
        table: ``method``, ``sensors``, ``class``, ``seed``, ``iou`` in percent, NaN where the class does not occur.
        card: gives the classes' order.
    """
    _require(table, "method", "sensors", "class", "seed", "iou")
    groups = dict(list(table.groupby("sensors", sort=False)))
    styles = modality_styles(groups)
    caption = (
        f"Bars: mean over {_seeds(table)}; whiskers: one standard deviation over seeds, none for one seed. "
        "A class that does not occur has no bar, nor one never found."
    )
    figure = StudyFigure(TWO_COLUMNS_MM, 46 * len(groups) + 22, caption)
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
    for ax, (sensors, part) in zip(axes, groups.items(), strict=True):
        methods = list(part["method"].unique())
        sns.barplot(
            part, x="class", y="iou", order=card.classes, hue="method", ax=ax,
            hue_order=methods, palette=sns.light_palette(styles[sensors][0], len(methods) + 1)[1:], saturation=1,
            errorbar="sd", err_kws={"linewidth": 0.6, "color": "0.2"},
        )  # fmt: skip
        ax.set(title=sensors, xlabel="", ylabel="IoU (%)")
        ax.legend(**BESIDE, handlelength=1)
    axes[-1].set_xticks(range(len(card.classes)), card.classes, **SLANTED)
    return figure


@styled
def comparison(table: pd.DataFrame) -> StudyFigure:
    """mIoU of every method: one panel per set of sensors, a dot per seed, the mean with its 95 % interval.

    Args:
        table: ``method``, ``sensors``, ``seed``, ``miou`` in percent.
    """
    _require(table, "method", "sensors", "seed", "miou")
    methods = list(table["method"].unique())[::-1]
    groups = dict(list(table.groupby("sensors", sort=False)))
    caption = f"Dots: {_seeds(table)}. Where there are several: their mean, and its 95 % interval (Student's t)."
    figure = StudyFigure(TWO_COLUMNS_MM, 20 + 6 * len(methods), caption)
    axes = figure.subplots(1, len(groups), squeeze=False, sharey=True, sharex=True)[0]
    axes[0].set_yticks(range(len(methods)), methods)
    for ax, (sensors, part) in zip(axes, groups.items(), strict=True):
        colour, marker = modality_styles(groups)[sensors]
        for method, rows in part.groupby("method"):
            y, values = methods.index(method), rows["miou"].to_numpy()
            ax.plot(values, np.full(len(values), y), marker, color=colour, ms=4, mec="none", alpha=0.6)
            if len(values) > 1:
                half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
                ax.errorbar(values.mean(), y, xerr=half, fmt="|", color="0.1", ms=8, mew=1.2, elinewidth=0.8)
        ax.set(title=sensors, xlabel="mIoU (%)", ylim=(-0.6, len(methods) - 0.4))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", lw=0.3, color="0.85")
    return figure


@styled
def manifold(points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard, embedding: str = "UMAP") -> StudyFigure:
    """The latent manifolds: one row per model, one column per half; colour is the class, marker the sensor.

    Args:
        points: from ``crodino_lib.analysis.manifold.fit_manifolds``.
        table: from the same. A half without points, which has collapsed, is told in words.
        card: gives the classes' colours.
        embedding: ``UMAP``, or ``PCA`` for the second opinion.

    Raises:
        ValueError: the table has no such embedding.
    """
    if embedding not in set(table["embedding"]):
        held = ", ".join(dict.fromkeys(table["embedding"]))
        raise ValueError(f"embedding {embedding!r} is not in the table; it has {held}")
    points, table = (each[each["embedding"] == embedding] for each in (points, table))
    styles, colours = modality_styles(points["sensor"]), class_colours(card)
    figure = StudyFigure(TWO_COLUMNS_MM, 36 + 74 * table["model"].nunique(), _manifold_caption(table, embedding))
    axes = figure.subplots(table["model"].nunique(), table["half"].nunique(), squeeze=False)
    for ax, (_, row) in zip(axes.flat, table.iterrows(), strict=True):
        here = points[(points["model"] == row["model"]) & (points["half"] == row["half"])]
        if len(here):
            sns.scatterplot(
                here.sample(frac=1, random_state=0),  # shuffled, or one sensor would lie on top of the other
                x="x", y="y", hue="name", palette=colours, style="sensor",
                markers={s: m for s, (_, m) in styles.items()}, s=7 if row["points"] < 2000 else 4, alpha=0.75,
                linewidth=0, legend=False, rasterized=True, ax=ax,
            )  # fmt: skip
        else:
            ax.text(0.5, 0.5, row["says"].replace(": ", ":\n"), transform=ax.transAxes, ha="center", color="0.3")
        ax.set(title=f"{row['model']}, {row['half']}", xlabel=_fidelity(row), ylabel="", xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.7")
    shown = set(points["name"])
    handles = [Line2D([], [], ls="", marker=m, color="0.3", ms=4, label=s) for s, (_, m) in styles.items()]
    handles += [Patch(color=colour, label=name) for name, colour in colours.items() if name in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=9, handlelength=1, columnspacing=1)
    return figure


def _manifold_caption(table: pd.DataFrame, embedding: str) -> str:
    drawn = table[table["points"] > 0]
    if drawn.empty:
        return f"{embedding} of region vectors, one per image, class and sensor. No half can be drawn."
    tried = drawn["seeds"].iloc[0]
    chosen = f"the run of median trustworthiness of {count(tried, 'seed')}; " if embedding == "UMAP" else ""
    k = drawn["k"].iloc[0]
    return (
        f"{embedding} of region vectors, one per image, class and sensor; both sensors in one fit; {chosen}n: points. "
        f"T({k}): trustworthiness, C({k}): continuity, R: area under R_NX; 1 is perfect. Other sensor, own class: "
        f"share of the {k} nearest neighbours, in the latent space → in the picture; where these differ by more than "
        "0.1 the picture misleads. Distances between islands, their sizes and gaps mean nothing."
    )


def _fidelity(row: pd.Series) -> str:
    if not row["points"]:
        return " \n "
    seed = "" if pd.isna(row["seed"]) else f", seed {row['seed']}"
    remark = f"\n{row['says']}" if row["says"] else ""
    return (
        f"n = {row['points']}, T({row['k']}) {row['trustworthiness']:.2f}, C({row['k']}) {row['continuity']:.2f}, "
        f"R {row['rnx_auc']:.2f}{seed}\n"
        f"other sensor {row['cross_modality_hd']:.2f} → {row['cross_modality_2d']:.2f}, "
        f"own class {row['class_purity_hd']:.2f} → {row['class_purity_2d']:.2f}"
        f"{' (misleads)' if row['misleads'] else ''}{remark}"
    )


@styled
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> StudyFigure:
    """Where the pixels of every class went, in percent of its row.

    Args:
        matrix: (K, K) counts of pixels, or (N, K, K) which is summed; rows are the truth.
        classes: K names.
        title: which method, sensors, split and seed.
    """
    matrix = matrix.reshape(-1, len(classes), len(classes)).sum(axis=0)
    pixels = matrix.sum(axis=1, keepdims=True)
    percent = pd.DataFrame(100 * matrix / np.where(pixels, pixels, np.nan), classes, classes)
    caption = f"{matrix.sum():,} pixels, in percent of their true class. Grey: a class that does not occur."
    figure = StudyFigure(TWO_COLUMNS_MM, 150, caption)
    ax = figure.subplots()
    sns.heatmap(
        percent, vmin=0, vmax=100, cmap="cividis", square=True, linewidths=0.3, ax=ax,
        xticklabels=True, yticklabels=True, annot=len(classes) <= MOST_ANNOTATED, fmt=".0f", annot_kws={"size": 5.5},
        cbar_kws={"label": "share of the true class (%)", "shrink": 0.7},
    )  # fmt: skip
    ax.set(title=title, xlabel="predicted", ylabel="truth", facecolor=MISSING_COLOUR)
    ax.tick_params(length=0)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    return figure


@styled
def factor_table(table: pd.DataFrame, caption: str) -> StudyFigure:
    """What every sensor carries: how well a supervised regressor reads each factor from it.

    Args:
        table: one row per sensor, one column per factor; R² on held-out scenes: 1 is perfect, 0 as good as the mean.
        caption: which scenes, how many, which regressor, seeds.
    """
    figure = StudyFigure(TWO_COLUMNS_MM, 34 + 7 * len(table), caption)
    ax = figure.subplots()
    sns.heatmap(
        table, vmin=0, vmax=1, cmap="cividis", linewidths=0.5, ax=ax, cbar_kws={"label": "R²"}, xticklabels=True,
        annot=True, fmt=".2f", annot_kws={"size": 6},
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    ax.set_xticks(ax.get_xticks(), table.columns, **SLANTED)
    return figure


@styled
def stage_alignment(table: pd.DataFrame) -> StudyFigure:
    """Alignment of two sensors' encoders, stage by stage: a colour per network, a dash per place.

    Args:
        table: from ``latents.stages.stage_alignment``, with ``network``.
    """
    _require(table, "network", "stage", "place", "cka", "probe", "regions")
    caption = (
        f"Up to {table.regions.max()} regions of the test split. Left: debiased linear CKA of the two sensors' region "
        "vectors. Right: balanced accuracy of a fresh linear probe, grouped by image; 0.5 does not tell the sensor."
    )
    figure = StudyFigure(TWO_COLUMNS_MM, 75, caption)
    left, right = figure.subplots(1, 2)
    for ax, quantity, title in ((left, "cka", "CKA"), (right, "probe", "accuracy of telling the sensor")):
        sns.lineplot(
            table, x="stage", y=quantity, hue="network", style="place", markers=True, palette="colorblind", ax=ax
        )
        ax.set(xlabel="stage of the encoder", ylabel=title, xticks=sorted(table.stage.unique()))
    left.get_legend().remove()
    right.legend(**BESIDE)
    return figure


def _seeds(table: pd.DataFrame) -> str:
    seeds = sorted(table["seed"].unique())
    return f"{count(len(seeds), 'seed')} ({', '.join(str(seed) for seed in seeds)})"


def _require(table: pd.DataFrame, *columns: str) -> None:
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")

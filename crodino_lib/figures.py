"""Every figure of the study, drawn at the size it is printed.

A function takes what a figure shows and returns the figure; ``save`` writes it with the numbers behind it. One sensor
has one colour and one marker everywhere, one class the colour of its dataset's palette. Nothing here uses pyplot's
global state: figures show in a notebook as a cell's last expression, and draw headlessly.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

from crodino_lib.augment import Batch
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.files import replacing

ONE_COLUMN_MM, TWO_COLUMNS_MM = 89, 183
MODALITY_COLOURS = {"rgb": "#0072B2", "depth": "#009E73", "thermal": "#D55E00"}  # Okabe and Ito, told apart by everyone
MODALITY_MARKERS = {"rgb": "o", "depth": "^", "thermal": "s"}
SPARE_COLOURS, SPARE_MARKERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000"), "DvPX"  # other sensors, and fused ones
COLOUR_MAPS = {"depth": "viridis", "thermal": "inferno"}
LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
IGNORED_COLOUR = (0.88, 0.88, 0.88)
STYLE = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "crodino",  # equal figures make equal files
}
styled = mpl.rc_context(STYLE)


class StudyFigure(Figure):
    """A figure of a printed size, with its caption below, that a notebook can show."""

    def __init__(self, width_mm: float, height_mm: float, caption: str = ""):
        super().__init__(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=144, layout="constrained")
        if caption:
            lines = textwrap.wrap(caption, int(width_mm * 0.84))  # characters of 6 points on a line
            self.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=6, color="0.3")

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=self.dpi)
        return picture.getvalue()


@styled
def save(figure: Figure, folder: Path, stem: str, data: pd.DataFrame) -> list[Path]:
    """Write ``<stem>.pdf``, ``.svg``, ``.png`` and the numbers behind them, ``.csv``; each file atomically.

    Args:
        figure: from one of the functions here.
        folder: made where it is missing.
        stem: file name without suffix.
        data: what is drawn; an index other than 0, 1, 2, ... is written too.
    """
    paths = [Path(folder) / f"{stem}.{suffix}" for suffix in ("pdf", "svg", "png", "csv")]
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    for path, (suffix, metadata) in zip(paths, undated.items(), strict=False):
        with replacing(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata)
    with replacing(paths[-1]) as temporary:
        data.to_csv(temporary, index=not isinstance(data.index, pd.RangeIndex))
    return paths


def modality_styles(sensors: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every sensor; fused ones (``rgb+depth``) and unknown ones get the spare ones in order."""
    sensors = list(dict.fromkeys(sensors))
    spare = iter(zip(SPARE_COLOURS, SPARE_MARKERS, strict=True))
    others = {sensor: next(spare) for sensor in sorted(sensors) if sensor not in MODALITY_COLOURS}
    return {s: others.get(s) or (MODALITY_COLOURS[s], MODALITY_MARKERS[s]) for s in sensors}


def class_colours(card: DatasetCard) -> dict[str, tuple[float, float, float]]:
    """Colour of every class, 0..1."""
    return {name: tuple(part / 255 for part in colour) for name, colour in zip(card.classes, card.palette, strict=True)}


# --------------------------------------------------------------------------------------------------------- images


@styled
def scene_sheet(scenes: Scenes, card: DatasetCard, indices: Sequence[int]) -> Figure:
    """One row per scene: every sensor in its unit, and the label. Grey: no valid value, or not labelled."""
    return prediction_sheet(scenes, card, indices, {})


@styled
def prediction_sheet(
    scenes: Scenes, card: DatasetCard, indices: Sequence[int], predictions: Mapping[str, np.ndarray]
) -> Figure:
    """One row per scene: every sensor, the label, and what each method says.

    Args:
        scenes: one split.
        card: of its dataset.
        indices: scenes to show.
        predictions: title -> (len(indices), H, W) class indices of the shown scenes, in their order.

    Raises:
        ValueError: predictions of another shape.
    """
    indices = list(indices)
    labels = {"label": scenes.labels[indices], **predictions}
    images = {}
    for sensor, image in scenes.images.items():
        valid = scenes.valid[sensor][indices] if sensor in scenes.valid else True
        images[sensor] = np.ma.masked_array(image[indices], ~np.broadcast_to(valid, image[indices].shape))
    columns = {name: (name, image) for name, image in images.items()} | {name: (None, m) for name, m in labels.items()}
    return _sheet(card, columns, f"{len(indices)} scenes of {card.title}: {', '.join(scenes.ids[i] for i in indices)}.")


@styled
def augmentation_sheet(batch: Batch, card: DatasetCard) -> Figure:
    """What networks see: one row per scene, every sensor with its own geometry and its own label."""
    columns = {}
    for sensor, image in batch.images.items():
        mean, std = (np.array(part).reshape(-1, 1, 1) for part in (card.sensors[sensor].mean, card.sensors[sensor].std))
        columns[sensor] = (sensor, image.float().cpu().numpy() * std + mean)
        columns[f"label for {sensor}"] = (None, batch.labels[sensor].cpu().numpy())
    return _sheet(card, columns, f"{len(batch.ids)} augmented scenes of {card.title}: {', '.join(batch.ids)}.")


def _sheet(card: DatasetCard, columns: Mapping[str, tuple[str | None, np.ndarray]], caption: str) -> Figure:
    """Columns of pictures: title -> (its sensor, (N, C, H, W)) or (None, (N, H, W) labels)."""
    rows, (height, width) = len(next(iter(columns.values()))[1]), next(iter(columns.values()))[1].shape[-2:]
    shown = np.unique(np.concatenate([stack.ravel() for sensor, stack in columns.values() if sensor is None]))
    legend_rows = -(-len(shown) // 8)
    size = TWO_COLUMNS_MM / len(columns) * height / width
    figure = StudyFigure(TWO_COLUMNS_MM, rows * (size + 1) + 22 + 4 * legend_rows, caption)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, (sensor, stack)) in enumerate(columns.items()):
        if stack.shape[-2:] != (height, width) or len(stack) != rows:
            raise ValueError(f"{title!r} is {stack.shape}, expected {rows} pictures of {height} x {width} pixels")
        axes[0, column].set_title(title)
        drawn = [_draw(ax, picture, sensor, stack, card) for ax, picture in zip(axes[:, column], stack, strict=True)]
        if sensor not in (None, "rgb"):
            bar = figure.colorbar(drawn[0], ax=axes[:, column], location="bottom", shrink=0.8, aspect=18, pad=0.02)
            bar.set_label(f"{sensor} ({card.sensors[sensor].unit})", labelpad=1)
            bar.outline.set_visible(False)
    patches = [Patch(color=c, label=n) for i, (n, c) in enumerate(class_colours(card).items()) if i in shown]
    patches += [Patch(color=IGNORED_COLOUR, label="none")]
    figure.legend(handles=patches, loc="outside upper center", ncols=8, handlelength=1, columnspacing=1)
    return figure


def _draw(ax: Axes, picture: np.ndarray, sensor: str | None, stack: np.ndarray, card: DatasetCard):
    """One picture, without axes; colours span the middle 98 % of its column."""
    ax.set(xticks=[], yticks=[], facecolor=IGNORED_COLOUR)
    ax.spines[:].set_visible(False)
    if sensor is None:
        palette = np.full((256, 3), IGNORED_COLOUR)
        palette[: len(card.palette)] = np.array(card.palette) / 255
        return ax.imshow(palette[picture], interpolation="nearest")
    if sensor == "rgb":
        return ax.imshow(np.clip(picture.transpose(1, 2, 0) / 255, 0, 1))
    low, high = np.percentile(np.ma.compressed(stack).astype(np.float32), (1, 99))
    return ax.imshow(picture[0].astype(np.float32), vmin=low, vmax=high, cmap=COLOUR_MAPS.get(sensor, "cividis"))


# -------------------------------------------------------------------------------------------------------- numbers


def class_share_table(scenes: Mapping[str, Scenes], card: DatasetCard) -> pd.DataFrame:
    """Percent of the labelled pixels of every split that each class covers: ``split``, ``class``, ``percent``."""
    tables = []
    for split, held in scenes.items():
        counts = np.bincount(held.labels.ravel(), minlength=256)[: len(card.classes)]
        percent = 100 * counts / max(counts.sum(), 1)
        tables.append(pd.DataFrame({"split": split, "class": card.classes, "percent": percent}))
    return pd.concat(tables, ignore_index=True)


@styled
def class_shares(table: pd.DataFrame, card: DatasetCard) -> Figure:
    """Share of every class in every split, from ``class_share_table``: a rare class is hard, and counts as much."""
    _require(table, "split", "class", "percent")
    splits = list(table["split"].unique())
    figure = StudyFigure(
        TWO_COLUMNS_MM, 70, f"Labelled pixels of {card.title}, splits {', '.join(splits)} from left to right."
    )
    ax = figure.subplots()
    width = 0.8 / len(splits)
    for position, (_, part) in enumerate(table.groupby("split", sort=False)):
        x = np.arange(len(card.classes)) + (position - (len(splits) - 1) / 2) * width
        part = part.set_index("class").loc[list(card.classes)]
        ax.bar(x, part["percent"], width * 0.9, color=class_colours(card).values(), edgecolor="0.3", linewidth=0.3)
    ax.set_xticks(range(len(card.classes)), card.classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(ylabel="share of pixels (%)", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    return figure


@styled
def training_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """One row per run: weighted loss terms, and validation mIoU, at every epoch.

    Args:
        histories: title -> history with ``epoch``, loss terms such as ``segmentation/rgb``, and ``val_miou/<sensor>``.
    """
    caption = (
        f"{len(histories)} run(s), one seed each. Loss terms are weighted; the validation split chooses the epoch."
    )
    figure = StudyFigure(TWO_COLUMNS_MM, 50 * len(histories) + 6, caption)
    axes = figure.subplots(len(histories), 2, squeeze=False, sharex="row")
    for (title, history), (losses, scores) in zip(histories.items(), axes, strict=True):
        _require(history, "epoch")
        mious = [name for name in history if name.startswith("val_miou/")]
        terms = [name for name in history if name not in {"epoch", "learning_rate", "seconds", *mious}]
        kinds = list(dict.fromkeys(term.partition("/")[0] for term in terms))
        colours = modality_styles(sensor for name in mious + terms if (sensor := name.partition("/")[2]))
        for name in terms + mious:
            kind, _, sensor = name.partition("/")
            line = LINE_STYLES[kinds.index(kind) % len(LINE_STYLES)] if kind in kinds else "-"
            values = history[name] * (100 if name in mious else 1)
            colour, marker = colours.get(sensor, ("0.2", "."))
            (scores if name in mious else losses).plot(
                history["epoch"],
                values,
                ls=line,
                color=colour,
                marker=marker,
                ms=2,
                label=sensor if name in mious else name,
            )
        losses.set(title=title, ylabel="loss term", yscale="symlog" if (history[terms] <= 0).any(axis=None) else "log")
        scores.set(ylabel="validation mIoU (%)", ylim=(0, None))
        for ax in (losses, scores):
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)
    return figure


@styled
def per_class_iou(table: pd.DataFrame, card: DatasetCard) -> Figure:
    """IoU of every class: one panel per set of sensors, one bar per method, mean and deviation over seeds.

    Args:
        table: ``method``, ``sensors``, ``class``, ``seed``, ``iou`` in 0..1, NaN where the class does not occur.
        card: gives the classes' order.
    """
    _require(table, "method", "sensors", "class", "seed", "iou")
    groups = dict(list(table.groupby("sensors", sort=False)))
    caption = (
        f"Bars: mean over {_seeds(table)}; whiskers: one standard deviation. A class that does not occur has no bar."
    )
    figure = StudyFigure(TWO_COLUMNS_MM, 46 * len(groups) + 22, caption)
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
    styles = modality_styles(groups)
    methods = list(table["method"].unique())
    for ax, (sensors, part) in zip(axes, groups.items(), strict=True):
        part = part.assign(percent=100 * part["iou"])
        shades = dict(zip(methods, sns.light_palette(styles[sensors][0], len(methods) + 1)[1:], strict=True))
        sns.barplot(
            part, x="class", y="percent", hue="method", order=card.classes, hue_order=[m for m in methods if m in set(part["method"])],
            palette=shades, saturation=1, errorbar="sd", err_kws={"linewidth": 0.6, "color": "0.2"}, ax=ax,
        )  # fmt: skip
        ax.set(title=sensors, xlabel="", ylabel="IoU (%)")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1)
    axes[-1].set_xticks(range(len(card.classes)), card.classes, rotation=40, ha="right", rotation_mode="anchor")
    return figure


@styled
def comparison(table: pd.DataFrame) -> Figure:
    """mIoU of every method: one panel per set of sensors, a dot per seed, the mean with its 95 % interval.

    Args:
        table: ``method``, ``sensors``, ``seed``, ``miou`` in 0..1.
    """
    _require(table, "method", "sensors", "seed", "miou")
    methods = list(table["method"].unique())[::-1]
    groups = dict(list(table.groupby("sensors", sort=False)))
    caption = f"Dots: {_seeds(table)}. Bars: mean; lines: 95 % interval of the mean over seeds (Student's t), none for one seed."
    figure = StudyFigure(TWO_COLUMNS_MM, 20 + 6 * len(methods), caption)
    axes = figure.subplots(1, len(groups), squeeze=False, sharey=True, sharex=True)[0]
    for ax, (sensors, part) in zip(axes, groups.items(), strict=True):
        colour, marker = modality_styles(groups)[sensors]
        for method, rows in part.groupby("method"):
            y, values = methods.index(method), 100 * rows["miou"].to_numpy()
            ax.plot(values, np.full(len(values), y), marker, color=colour, ms=3.5, mec="none", alpha=0.6)
            ax.plot(values.mean(), y, "|", color="0.1", ms=8, mew=1.2)
            if len(values) > 1:
                half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
                ax.plot([values.mean() - half, values.mean() + half], [y, y], color="0.1", lw=0.8, zorder=1)
        ax.set(title=sensors, xlabel="mIoU (%)", yticks=range(len(methods)), ylim=(-0.6, len(methods) - 0.4))
        ax.set_yticklabels(methods)
        ax.grid(axis="x", lw=0.3, color="0.85")
    return figure


@styled
def manifold(points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard) -> Figure:
    """The latent manifolds: one row per model, one column per half; colour is the class, marker the sensor.

    Args:
        points: from ``crodino_lib.latents.manifold.fit_manifolds``.
        table: from the same.
        card: gives the classes' colours.
    """
    models, halves = points["model"].unique(), points["half"].unique()
    styles, colours = modality_styles(points["sensor"]), class_colours(card)
    caption = (
        f"UMAP of region vectors (one per image, class and sensor), both sensors in one fit; UMAP seed {table['seed'].iloc[0]}. "
        f"T trustworthiness, C continuity, other sensor and own class: shares of the {table['k'].iloc[0]} nearest neighbours, in "
        "the latent space → in the picture. Distances between islands, their sizes and gaps mean nothing."
    )
    figure = StudyFigure(TWO_COLUMNS_MM, 30 + 74 * len(models), caption)
    axes = figure.subplots(len(models), len(halves), squeeze=False)
    for i, model in enumerate(models):
        for ax, half in zip(axes[i], halves, strict=True):
            part = points.query("model == @model and half == @half").sample(frac=1, random_state=0)  # no sensor on top
            sns.scatterplot(
                part, x="x", y="y", hue="name", style="sensor", palette=colours, markers={s: m for s, (_, m) in styles.items()},
                s=7, alpha=0.75, linewidth=0, legend=False, rasterized=True, ax=ax,
            )  # fmt: skip
            ax.set(
                title=f"{model}: {half}",
                xlabel=_told(table.query("model == @model and half == @half").iloc[0]),
                ylabel="",
            )
            ax.set(xticks=[], yticks=[])
    shown = [name for name in card.classes if name in set(points["name"])]
    handles = [Line2D([], [], ls="", marker=m, color="0.3", ms=4, label=s) for s, (_, m) in styles.items()]
    handles += [Patch(color=colours[name], label=name) for name in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=9, handlelength=1, columnspacing=1)
    return figure


def _told(row: pd.Series) -> str:
    return (
        f"n = {row['points']}, T {row['trustworthiness']:.2f}, C {row['continuity']:.2f}\n"
        f"other sensor {row['cross_modality_hd']:.2f} → {row['cross_modality_2d']:.2f}, "
        f"own class {row['class_purity_hd']:.2f} → {row['class_purity_2d']:.2f}"
    )


@styled
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str = "") -> Figure:
    """Where the pixels of every class went, in percent of its row.

    Args:
        matrix: (K, K) counts of pixels; rows are the truth.
        classes: K names.
        title: of the figure.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    total = matrix.sum(axis=1, keepdims=True)
    percent = np.divide(100 * matrix, total, out=np.full_like(matrix, np.nan), where=total > 0)
    caption = (
        f"{int(matrix.sum()):,} pixels. Percent of the pixels of the true class; grey: a class that does not occur."
    )
    figure = StudyFigure(TWO_COLUMNS_MM, 150, caption)
    ax = figure.subplots()
    annotations = len(classes) <= 20  # more do not fit
    sns.heatmap(
        pd.DataFrame(percent, classes, classes), ax=ax, vmin=0, vmax=100, cmap="cividis", annot=annotations, fmt=".0f",
        annot_kws={"size": 5.5}, square=True, linewidths=0.3, cbar_kws={"label": "share of the true class (%)", "shrink": 0.7},
    )  # fmt: skip
    ax.set(title=title, xlabel="predicted", ylabel="truth", facecolor=IGNORED_COLOUR)
    ax.tick_params(length=0)
    ax.set_xticks(ax.get_xticks(), classes, rotation=40, ha="right", rotation_mode="anchor")
    return figure


@styled
def factor_table(table: pd.DataFrame, caption: str) -> Figure:
    """What every sensor carries: how well a supervised regressor reads each factor from it.

    Args:
        table: one row per sensor, one column per factor; R² on held-out scenes, 1 is perfect, 0 the mean's.
        caption: which scenes, how many, which regressor, seeds.
    """
    figure = StudyFigure(TWO_COLUMNS_MM, 34 + 7 * len(table), caption)
    ax = figure.subplots()
    sns.heatmap(
        table, ax=ax, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".2f", annot_kws={"size": 6}, linewidths=0.5,
        cbar_kws={"label": "R²"},
    )  # fmt: skip
    ax.set(xlabel="factor", ylabel="")
    ax.tick_params(length=0)
    ax.set_xticks(ax.get_xticks(), table.columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(ax.get_yticks(), table.index, rotation=0)
    return figure


def _seeds(table: pd.DataFrame) -> str:
    seeds = sorted(table["seed"].unique())
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(str(seed) for seed in seeds)})"


def _require(table: pd.DataFrame, *columns: str) -> None:
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")

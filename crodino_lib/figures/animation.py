"""The latent manifolds while a network trains: as an animation for the screen, as small multiples for paper."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from crodino_lib.data.sample import DatasetCard
from crodino_lib.figures.base import TWO_COLUMNS_MM, StudyFigure, class_colours, modality_styles, styled
from crodino_lib.io import atomic_write

BETWEEN = 7  # pictures from one epoch to the next: enough for the eye to follow a point
STILL_MS, MOVING_MS = 1200, 70  # how long an epoch stands, and a picture between two
DPI = 100
MOST_COLOURS = 128  # of the animation: a GIF may have 256, but anti-aliased points look alike with fewer
MOST_COLUMNS = 6  # of the strip: as many as training keeps by default
SMALL = 5.8  # points: the numbers of neighbouring epochs must not touch
NOTHING = " \n \n "  # in place of the numbers, as many lines


@styled
def film_strip(points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard) -> StudyFigure:
    """The epochs of a film as small multiples, a block of rows for every half; colour is the class, marker the sensor.

    Args:
        points: from ``crodino_lib.analysis.aligned_umap.fit_film``; of several halves one after the other.
        table: from the same.
        card: gives the classes' colours.
    """
    halves, epochs = list(table["half"].unique()), sorted(table["epoch"].unique())
    columns = min(len(epochs), MOST_COLUMNS)
    rows = -(-len(epochs) // columns)
    first = table[table["points"] > 0].iloc[0]
    caption = (
        f"Region vectors after training for so many epochs, the same {first['points']} points (both sensors) in every "
        f"picture; one aligned UMAP (seed {first['seed']}) per half. T: trustworthiness. Other sensor, own class: "
        f"share of the {first['k']} nearest neighbours, in the latent space → in the picture. Alignment holds a region "
        "near its place in neighbouring epochs; distances between islands, their sizes and gaps mean nothing."
    )
    figure = StudyFigure(TWO_COLUMNS_MM, 24 + len(halves) * rows * (TWO_COLUMNS_MM / columns + 14), caption)
    axes = figure.subplots(len(halves) * rows, columns, squeeze=False)
    for block, half in zip(axes.reshape(len(halves), -1), halves, strict=True):
        told, here = table[table["half"] == half].set_index("epoch"), points[points["half"] == half]
        for ax in block[len(epochs) :]:
            ax.set_axis_off()
        for ax, epoch in zip(block, epochs, strict=False):
            if told.loc[epoch, "points"]:
                _scatter(ax, _shuffled(here[here["epoch"] == epoch]), card, points["sensor"], 3)
            _frame(ax, here)
            _say(ax, f"{half}, epoch {epoch}", _numbers(told.loc[epoch]), told.loc[epoch])
            ax.xaxis.label.set_fontsize(SMALL)
    _legend(figure, points, card)
    return figure


@styled
def film(points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard, path: Path) -> Path:
    """Write the film of one half, or of several side by side, as an animated GIF, atomically.

    An epoch stands for a moment; from one to the next every point moves on a straight line, which tells where it
    went, not where it was on the way. A half that collapsed at an epoch says so in place of its points.

    Args:
        points: from ``crodino_lib.analysis.aligned_umap.fit_film``; of several halves one after the other.
        table: from the same.
        card: gives the classes' colours.
        path: of the ``.gif``; its folder is made where it is missing.

    Returns:
        ``path``.
    """
    halves, epochs = list(table["half"].unique()), sorted(table["epoch"].unique())
    figure = Figure(figsize=(3.6 * len(halves), 4.6), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(halves), squeeze=False)[0]
    panels = [_Panel(ax, points, table, half, card) for ax, half in zip(axes, halves, strict=True)]
    _legend(figure, points, card, columns=3 * len(halves))
    pictures, durations = [], []
    for epoch, following in zip(epochs, [*epochs[1:], epochs[-1]], strict=True):
        for step in range(1 if following == epoch else 1 + BETWEEN):
            for panel in panels:
                panel.show(epoch, following, step / (1 + BETWEEN))
            canvas.draw()
            figure.set_layout_engine("none")  # placed by the first picture, or the panels would tremble
            pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
            durations.append(MOVING_MS if step else STILL_MS)
    durations[-1] *= 2  # before it starts again
    palette = pictures[-1].quantize(MOST_COLOURS)  # one for all, or the colours of classes would flicker
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    with atomic_write(Path(path)) as temporary:
        pictures[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            optimize=True,
        )
    return Path(path)


class _Panel:
    """The picture of one half in the film: drawn once, then its points are moved."""

    def __init__(self, ax: Axes, points: pd.DataFrame, table: pd.DataFrame, half: str, card: DatasetCard):
        self.ax, self.half = ax, half
        self.told = table[table["half"] == half].set_index("epoch")
        here = points[points["half"] == half]
        frames = {epoch: _shuffled(part) for epoch, part in here.groupby("epoch")}
        self.places = {epoch: part[["x", "y"]].to_numpy() for epoch, part in frames.items()}
        self.dots = _scatter(ax, next(iter(frames.values())), card, points["sensor"], 9)
        _frame(ax, here)

    def show(self, epoch: int, following: int, way: float) -> None:
        """Move the points the fraction ``way`` from one epoch to the next."""
        start, end = self.places.get(epoch), self.places.get(following)
        self.dots.set_visible(start is not None)
        if start is not None:
            eased = way * way * (3 - 2 * way)
            self.dots.set_offsets(start if end is None else (1 - eased) * start + eased * end)
        title = f"{self.half}, epoch {epoch}" + (f" → {following}" if way else "")
        _say(self.ax, title, NOTHING if way else _numbers(self.told.loc[epoch]), self.told.loc[epoch])


def _shuffled(here: pd.DataFrame) -> pd.DataFrame:
    """The same order for every epoch, in which no sensor lies on top of the other."""
    return here.sample(frac=1, random_state=0)


def _scatter(ax: Axes, here: pd.DataFrame, card: DatasetCard, sensors: pd.Series, size: float) -> PathCollection:
    """Points, in the order of the rows."""
    sns.scatterplot(
        here, x="x", y="y", hue="name", palette=class_colours(card), style="sensor",
        markers={s: m for s, (_, m) in modality_styles(sensors).items()}, s=size, alpha=0.75, linewidth=0,
        legend=False, rasterized=True, ax=ax,
    )  # fmt: skip
    ax.set_ylabel("")
    return ax.collections[-1]


def _frame(ax: Axes, here: pd.DataFrame) -> None:
    """The same window for every epoch of a half."""
    ax.spines[:].set(visible=True, color="0.7")
    ax.set(xticks=[], yticks=[])
    if len(here):
        margin = 0.04 * np.ptp(here[["x", "y"]].to_numpy(), axis=0)
        (left, bottom), (right, top) = here[["x", "y"]].min() - margin, here[["x", "y"]].max() + margin
        ax.set(xlim=(left, right), ylim=(bottom, top))


def _say(ax: Axes, title: str, numbers: str, told: pd.Series) -> None:
    """Title, numbers, and in place of points that are missing, why."""
    for text in ax.texts:
        text.remove()
    if not told["points"]:
        words = textwrap.fill(told["says"], 24)
        ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color="0.3")
    ax.set_title(title)
    ax.set_xlabel(numbers, visible=True)  # seaborn hides it where there are no ticks


def _numbers(told: pd.Series) -> str:
    if not told["points"]:
        return NOTHING
    return (
        f"T {told['trustworthiness']:.2f}\n"
        f"own class {told['class_purity_hd']:.2f} → {told['class_purity_2d']:.2f}\n"
        f"other sensor {told['cross_modality_hd']:.2f} → {told['cross_modality_2d']:.2f}"
    )


def _legend(figure: Figure, points: pd.DataFrame, card: DatasetCard, columns: int = 9) -> None:
    shown = set(points["name"])
    styles = modality_styles(points["sensor"])
    handles = [Line2D([], [], ls="", marker=m, color="0.3", ms=4, label=s) for s, (_, m) in styles.items()]
    handles += [Patch(color=colour, label=name) for name, colour in class_colours(card).items() if name in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=1, columnspacing=1)

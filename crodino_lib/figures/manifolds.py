"""Draw the latent manifolds: of several models, and of one while it trains, on paper and as an animation."""

import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image

from crodino_lib.data.sample import DatasetCard
from crodino_lib.figures.base import WIDTHS_MM, StudyFigure, class_colours, count, printed, sensor_styles, styled
from crodino_lib.io import atomic_write
from crodino_lib.methods.registry import method_title
from crodino_lib.settings import choose

MODEL, HALF, EPOCH, EMBEDDING = "model", "half", "epoch", "embedding"  # columns of tables and points
MOST_ACROSS = 6  # panels: as many epochs as training keeps by default
NEIGHBOURS = (
    "T (trustworthiness) is 1 where near points of the drawing are near in the latent space. Own class: share of a "
    "point's {k:.0f} nearest neighbours that are of its class; other sensor: share from the other sensor, 0.5 where "
    "two sensors mix; each in the latent space → in the drawing, which misleads where one of them changes by more than "
    "0.1. Only neighbourhoods mean something: sizes of islands and distances between them do not."
)
SHUFFLED = {"frac": 1, "random_state": 0}  # equal numbers of rows alike; no sensor covers the other
HALO = [withStroke(linewidth=1.5, foreground="white")]
BLANK = " \n \n "  # in place of three lines of numbers
BETWEEN = 7  # images of the film from one epoch to the next: enough for the eye to follow a point
STILL_MS, MOVING_MS = 1200, 70  # how long an epoch stands, and an image between two
MOST_COLOURS = 128  # of the film: a GIF may have 256, but anti-aliased points look alike with fewer


@styled
def manifold(points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard, embedding: str = "UMAP") -> StudyFigure:
    """Draw both blocks of every model, both sensors in each: colour is the class, marker the sensor.

    Points and table are from ``crodino_lib.analysis.umap_embedding.fit_embeddings``. Words stand in place of the points
    of a block that has collapsed. ``embedding`` is ``UMAP``, or ``PCA`` for the second opinion; ValueError for others.
    """
    choose(embedding, list(dict.fromkeys(table[EMBEDDING])), "embedding")
    points, table = (each[each[EMBEDDING] == embedding] for each in (points, table))
    caption = f"{_fit_caption(table, embedding)} {NEIGHBOURS.format(k=table['k'].max())}"
    return _panels("column", points, table, card, [MODEL, HALF], [MODEL, HALF], caption)


@styled
def one_or_two(points: pd.DataFrame, table: pd.DataFrame, trained: str, untrained: str) -> StudyFigure:
    """Draw whether both sensors lie on one manifold: shared and private halves of a model, and its start, by sensor.

    Points and table as in ``manifold``; ``trained`` and ``untrained`` are names of models there.
    """
    points, table = points[points[EMBEDDING] == "UMAP"], table[table[EMBEDDING] == "UMAP"]
    panels = {"shared half": (trained, "shared"), "private half": (trained, "private")}
    panels["shared, untrained"] = (untrained, "shared")
    near = f"share of a point's {table['k'].max():.0f} nearest neighbours"
    meaning = "in the latent space that are of the other sensor, 50 % where both sensors lie on one manifold"
    caption = f"{method_title(trained)}. {_fit_caption(table, 'UMAP')} Below: {near} {meaning}."
    figure = StudyFigure("column", 44, caption)
    colours = {sensor: colour for sensor, (colour, _) in sensor_styles(points["sensor"]).items()}
    for ax, (title, (model, half)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        here = points[(points[MODEL] == model) & (points[HALF] == half)].sample(**SHUFFLED)
        row = table[(table[MODEL] == model) & (table[HALF] == half)].iloc[0]
        ax.scatter(here["x"], here["y"], s=3, c=here["sensor"].map(colours), lw=0, alpha=0.6, rasterized=True)
        share = f"{100 * row['cross_modality_hd']:.0f} % of neighbours\nof the other sensor"
        ax.set(xticks=[], yticks=[], xlabel=share if row["points"] else textwrap.fill(row["remark"], 20))
        ax.set_title(title, fontsize=7)
        ax.spines[:].set(visible=True, color="0.7")
    handles = [Line2D([], [], ls="", marker="o", color=colour, ms=4, label=printed(s)) for s, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _fit_caption(table: pd.DataFrame, embedding: str) -> str:
    """Return what the points are, how many, and which of several fits is shown."""
    seeds, which = table["seeds"].iloc[0], ""
    if embedding == "UMAP" and seeds > 1:
        chosen = "the less trustworthy" if seeds == 2 else "that of median trustworthiness"
        which = f", {chosen} of {count(seeds, 'seed')}"
    vectors = f"{embedding} of region vectors, one per image, class and sensor; both sensors in one fit"
    return f"{vectors}{which}; {table['points'].max()} points."


@styled
def film_strip(points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard) -> StudyFigure:
    """Draw the epochs of a training side by side, the shared and the private block apart.

    Points and table are from ``crodino_lib.analysis.umap_embedding.fit_aligned_umap``, of several halves in a row.
    """
    caption = (
        f"Region vectors at several epochs, the same {table['points'].max()} points (both sensors) in every panel; one "
        f"aligned UMAP (seed {table['seed'].iloc[0]}) per block, which holds a region near its place in neighbouring "
        f"epochs. {NEIGHBOURS.format(k=table['k'].max())}"
    )
    return _panels("page", points, table, card, [HALF, EPOCH], [HALF], caption)


def _panels(
    width: str, points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard, keys: list, window: list, caption: str
) -> StudyFigure:
    """Draw a square panel per row of the table; a new line starts at every value of the first of its keys.

    Panels that have the columns of ``window`` in common show the same window.
    """
    groups = [rows for _, rows in table.groupby(keys[0], sort=False)]
    across = min(max(map(len, groups)), MOST_ACROSS)
    lines = [rows[first : first + across] for rows in groups for first in range(0, len(rows), across)]
    figure = StudyFigure(width, 14 + len(lines) * (WIDTHS_MM[width] / across + 11), caption)
    axes = figure.subplots(len(lines), across, squeeze=False)
    for line, places in zip(lines, axes, strict=True):
        for ax in places[len(line) :]:
            ax.set_axis_off()
        for ax, (_, row) in zip(places, line.iterrows(), strict=False):
            here, seen = (points[(points[names] == row[names]).all(axis=1)] for names in (keys, window))
            _scatter(ax, here, seen, card, 4 if row["points"] > 1000 else 9)
            _describe(ax, row[keys], row, fidelity(row))
            if across < MOST_ACROSS and len(here):
                _name_classes(ax, here)
    _legend(figure, points, card, columns=4 if width == "column" else 12)
    return figure


def _scatter(ax: Axes, here: pd.DataFrame, window: pd.DataFrame, card: DatasetCard, size: float) -> None:
    """Draw points where all points of ``window`` would fit."""
    ax.spines[:].set(visible=True, color="0.7")
    ax.set(xticks=[], yticks=[])
    if here.empty:
        return
    markers = {sensor: marker for sensor, (_, marker) in sensor_styles(window["sensor"]).items()}
    keys = {"hue": "name", "palette": class_colours(card), "style": "sensor", "markers": markers, "legend": False}
    looks = {"s": size, "alpha": 0.75, "linewidth": 0.25, "edgecolor": "0.35", "rasterized": True}
    sns.scatterplot(here.sample(**SHUFFLED), x="x", y="y", ax=ax, **keys, **looks)
    low, high = window[["x", "y"]].min(), window[["x", "y"]].max()
    (left, bottom), (right, top) = low - 0.04 * (high - low), high + 0.04 * (high - low)
    ax.set(xlim=(left, right), ylim=(bottom, top), ylabel="")


def _name_classes(ax: Axes, here: pd.DataFrame) -> None:
    """Write the names of classes where they are densest."""
    width, height = np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1)
    for name, (x, y) in class_places(here, 0.5 * width, 0.07 * height).items():
        ax.annotate(
            name, (x, y), ha=side_of((x - ax.get_xlim()[0]) / width), va="center", fontsize=6, path_effects=HALO
        )


def side_of(place: float) -> str:
    """Return how to align a name at a share of the width, 0..1, so that it stays inside."""
    return "left" if place < 0.25 else "right" if place > 0.75 else "center"


def class_places(points: pd.DataFrame, width: float, height: float) -> dict[str, np.ndarray]:
    """Return where every class is densest, as (x, y), without those whose name a more frequent one's would cover.

    ``points`` have ``name``, ``x`` and ``y``; names are ``width`` and ``height`` apart at least.
    """
    taken = {}
    for name in points["name"].value_counts().index:
        places = points.loc[points["name"] == name, ["x", "y"]].to_numpy()
        near = np.sort(np.linalg.norm(places[:, None] - places, axis=2), axis=1)[:, : 1 + len(places) // 4]
        place = places[near.mean(axis=1).argmin()]
        if all((abs(place - other) > (width, height)).any() for other in taken.values()):
            taken[name] = place
    return taken


def _describe(ax: Axes, title: pd.Series, row: pd.Series, numbers: str) -> None:
    """Write the title above, numbers below, and in place of points that are missing the reason."""
    for text in ax.texts:
        text.remove()
    if not row["points"]:
        reason = textwrap.fill(row["remark"], 24)
        ax.text(0.5, 0.5, reason, transform=ax.transAxes, ha="center", va="center", color="0.3")
    words = [f"{name} {value}" if name == EPOCH else method_title(str(value)) for name, value in title.items()]
    ax.set_title(", ".join(words), fontsize=6.5)
    ax.set_xlabel(numbers, fontsize=6, visible=True)  # seaborn hides it where there are no ticks


def fidelity(row: pd.Series) -> str:
    """Return three lines of numbers that tell how far to believe a panel."""
    if not row["points"]:
        return BLANK
    return (
        f"T {row['trustworthiness']:.2f}{' (misleads)' if row['misleads'] else ''}\n"
        f"own class {row['class_purity_hd']:.2f} → {row['class_purity_2d']:.2f}\n"
        f"other sensor {row['cross_modality_hd']:.2f} → {row['cross_modality_2d']:.2f}"
    )


def _legend(figure: Figure, points: pd.DataFrame, card: DatasetCard, columns: int) -> None:
    styles, shown = sensor_styles(points["sensor"]), set(points["name"])
    handles = [Line2D([], [], ls="", marker=m, color="0.3", ms=4, label=printed(s)) for s, (_, m) in styles.items()]
    handles += [Patch(color=colour, label=name) for name, colour in class_colours(card).items() if name in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=1, columnspacing=1)


@styled
def film(points: pd.DataFrame, table: pd.DataFrame, card: DatasetCard, path: Path) -> Path:
    """Write a training as an animated GIF, atomically, its blocks side by side; arguments as ``film_strip``.

    An epoch stands for a moment; from one to the next every point moves on a straight line, which shows where it went,
    not where it was on the way. Words stand in place of the points of a block that has collapsed. The folder of
    ``path``, which is returned, is made where it is missing.
    """
    halves, epochs = table[HALF].unique(), sorted(table[EPOCH].unique())
    figure = Figure(figsize=(3.6 * len(halves), 4.6), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots(1, len(halves), squeeze=False)[0]
    panels = [_MovingPanel(ax, points, table, half, card) for ax, half in zip(axes, halves, strict=True)]
    _legend(figure, points, card, columns=3 * len(halves))
    way = [(here, there, step / (1 + BETWEEN)) for here, there in pairwise(epochs) for step in range(1 + BETWEEN)]
    way, images = [*way, (epochs[-1], epochs[-1], 0.0)], []
    for moment in way:
        for panel in panels:
            panel.show(*moment)
        canvas.draw()
        figure.set_layout_engine("none")  # laid out once, or the panels would tremble
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    durations = [MOVING_MS if fraction else STILL_MS for _, _, fraction in way]
    durations[-1] *= 2  # before it starts again
    palette = images[-1].quantize(MOST_COLOURS, Image.Quantize.MAXCOVERAGE)  # one for all, or colours would flicker
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    with atomic_write(Path(path)) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
    return Path(path)


class _MovingPanel:
    """Show one block: its points are drawn once, then moved."""

    def __init__(self, ax: Axes, points: pd.DataFrame, table: pd.DataFrame, half: str, card: DatasetCard):
        self.ax, self.rows = ax, table[table[HALF] == half].set_index(EPOCH, drop=False)
        here = points[points[HALF] == half]
        self.places = {epoch: frame.sample(**SHUFFLED)[["x", "y"]].to_numpy() for epoch, frame in here.groupby(EPOCH)}
        _scatter(ax, here[here[EPOCH] == min(self.places)], here, card, 9)
        (self.dots,) = ax.collections

    def show(self, epoch: int, following: int, way: float) -> None:
        """Move the points the fraction ``way`` from one epoch to the next."""
        start, end, row = self.places.get(epoch), self.places.get(following), self.rows.loc[epoch]
        self.dots.set_visible(start is not None)
        if start is not None:
            eased = way * way * (3 - 2 * way)
            self.dots.set_offsets(start if end is None else (1 - eased) * start + eased * end)
        title = row[[HALF, EPOCH]] if not way else pd.Series({HALF: row[HALF], EPOCH: f"{epoch} → {following}"})
        _describe(self.ax, title, row, BLANK if way else fidelity(row))

"""What all figures share: sizes, fonts, colours, captions, and how they are saved.

One sensor has one colour and one marker everywhere, one class the colour of its dataset's palette. Nothing uses
pyplot's global state: a figure shows in a notebook as a cell's last expression, and is drawn headlessly elsewhere.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from crodino_lib.data.sample import DatasetCard
from crodino_lib.io import atomic_write

TWO_COLUMNS_MM = 183
MODALITY_COLOURS = {
    "rgb": "#0072B2",
    "depth": "#009E73",
    "thermal": "#D55E00",
}  # Okabe and Ito, safe for the colour-blind
MODALITY_MARKERS = {"rgb": "o", "depth": "^", "thermal": "s"}
SPARE_STYLES = (("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X"))
MISSING_COLOUR = (0.88, 0.88, 0.88)

styled = mpl.rc_context(
    {
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
)


class StudyFigure(Figure):
    """A figure of a printed size, with its caption below, that a notebook can show."""

    def __init__(self, width_mm: float, height_mm: float, caption: str):
        super().__init__(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=144, layout="constrained")
        lines = textwrap.wrap(caption, int(width_mm * 0.84))  # characters of 6 points that fit on a line
        self.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=6, color="0.3")

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=self.dpi)
        return picture.getvalue()


@styled
def save(figure: Figure, folder: Path, stem: str, data: pd.DataFrame) -> list[Path]:
    """Write ``<stem>.pdf``, ``.svg``, ``.png`` and the numbers behind them, ``.csv``; each file atomically.

    Args:
        figure: from one of the functions of this package.
        folder: made where it is missing.
        stem: file name without suffix.
        data: what is drawn; an index other than 0, 1, 2, ... is written too.
    """
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    for suffix, metadata in undated.items():
        with atomic_write(Path(folder) / f"{stem}.{suffix}") as path:
            figure.savefig(path, metadata=metadata)
    with atomic_write(Path(folder) / f"{stem}.csv") as path:
        data.to_csv(path, index=not isinstance(data.index, pd.RangeIndex))
    return [Path(folder) / f"{stem}.{suffix}" for suffix in (*undated, "csv")]


def modality_styles(sensors: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every sensor; fused ones (``rgb+depth``) and unknown ones get the spare ones in order.

    Raises:
        ValueError: more fused and unknown ones than spare styles.
    """
    sensors = list(dict.fromkeys(sensors))
    others = sorted(sensor for sensor in sensors if sensor not in MODALITY_COLOURS)
    if len(others) > len(SPARE_STYLES):
        raise ValueError(f"at most {len(SPARE_STYLES)} sensors have no colour of their own, not {', '.join(others)}")
    styles = dict(zip(others, SPARE_STYLES, strict=False))
    return {s: styles.get(s) or (MODALITY_COLOURS[s], MODALITY_MARKERS[s]) for s in sensors}


def class_colours(card: DatasetCard) -> dict[str, tuple[float, ...]]:
    """Colour of every class, 0..1."""
    return {name: tuple(part / 255 for part in colour) for name, colour in zip(card.classes, card.palette, strict=True)}


def count(number: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"

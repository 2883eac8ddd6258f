"""Share sizes, fonts, colours, printed names and saving between all figures.

A sensor has one colour and one marker in every figure, a class the colour of its dataset's palette. Nothing uses
pyplot's global state: a notebook shows a figure as a cell's last expression, and a program draws it without a display.
"""

import base64
import html
import io
import re
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crodino_lib.data.sample import DatasetCard
from crodino_lib.io import atomic_write
from crodino_lib.settings import choose

WIDTHS_MM = {"column": 89, "page": 183}
SENSOR_COLOURS = {"rgb": "#0072B2", "depth": "#009E73", "thermal": "#D55E00"}  # Okabe and Ito, safe for colour-blind
SENSOR_MARKERS = {"rgb": "o", "depth": "^", "thermal": "s"}
SPARE_STYLES = (("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X"))
METHOD_COLOURS = {  # those of the headline methods; others take the rest of seaborn's colour-blind palette in order
    **{"kd": "#0072B2", "crodino-kd": "#D55E00", "csk-net": "#009E73", "acnet": "#56B4E9", "cross-pseudo": "#CC79A7"},
    **{"self-training": "0.35", "baseline": "0.55", "baseline:x2": "0.65", "baseline:x4": "0.75"},
}
SPARE_COLOURS = ("#DE8F05", "#CA9161", "#FBAFE4", "#949494", "#ECE133", "#000000")
MISSING_COLOUR = (0.88, 0.88, 0.88)
FLAG_COLOUR = "#D55E00"
PRINTED_WORDS = {"rgb": "RGB", "cka": "CKA", "miou": "mIoU", "m": "(m)", "deg": "(°)", "c": "(°C)"}
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}

STYLE = mpl.rc_params_from_file(Path(__file__).with_name("crodino.mplstyle"), use_default_template=False)
styled = mpl.rc_context(STYLE)


class StudyFigure(Figure):
    """A figure of a printed width and height; its caption is kept beside it, and stands below it in a notebook."""

    def __init__(self, width: str, height_mm: float, caption: str):
        self.width_mm, self.caption = WIDTHS_MM[choose(width, WIDTHS_MM, "width")], caption
        super().__init__(figsize=(self.width_mm / 25.4, height_mm / 25.4), dpi=144, layout="constrained")

    def panels(self, count: int, **sharing: bool) -> list[Axes]:
        """Return so many axes, side by side on a page and one below the other in a column."""
        across = self.width_mm == WIDTHS_MM["page"]
        return list(self.subplots(*((1, count) if across else (count, 1)), squeeze=False, **sharing).flat)

    def _repr_html_(self) -> str:
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=self.dpi)
        caption = html.escape(self.caption)
        picture = f'<img style="max-width: 100%" alt="{caption}" src="{data_uri(image.getvalue())}">'
        return f'<figure style="margin: 0">{picture}<figcaption>{caption}</figcaption></figure>'


def data_uri(png: bytes) -> str:
    """Return a PNG as the address that shows it without a file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@styled
def save(figure: StudyFigure, folder: Path, stem: str, data: pd.DataFrame) -> list[Path]:
    """Write ``<stem>.pdf``, ``.svg``, ``.png``, the caption, ``.txt``, and the numbers behind, ``.csv``.

    Equal figures make equal files. Everything is drawn before the first file is written, each atomically. The folder is
    made where it is missing; ``stem`` is the file name without suffix. An index other than 0, 1, 2 is written too.
    """
    contents = {}
    for suffix, metadata in UNDATED.items():
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, metadata=metadata)
        figure.set_layout_engine("none")  # once is enough: a layout takes longer than a drawing
        contents[suffix] = drawn.getvalue()
    contents["txt"] = f"{figure.caption}\n".encode()
    contents["csv"] = data.to_csv(index=not isinstance(data.index, pd.RangeIndex), lineterminator="\n").encode()
    for suffix, content in contents.items():
        with atomic_write(Path(folder) / f"{stem}.{suffix}") as path:
            path.write_bytes(content)
    return [Path(folder) / f"{stem}.{suffix}" for suffix in contents]


def sensor_styles(sensors: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of every sensor; sensors together and unknown ones get the spare styles in order.

    ValueError where there are more such sensors than spare styles.
    """
    sensors = list(dict.fromkeys(sensors))
    others = sorted(sensor for sensor in sensors if sensor not in SENSOR_COLOURS)
    if len(others) > len(SPARE_STYLES):
        raise ValueError(f"at most {len(SPARE_STYLES)} sensors have no colour of their own, not {', '.join(others)}")
    styles = dict(zip(others, SPARE_STYLES, strict=False))
    return {s: styles.get(s) or (SENSOR_COLOURS[s], SENSOR_MARKERS[s]) for s in sensors}


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Return a colour for every method; a headline method has the same one in every figure."""
    spare = cycle(SPARE_COLOURS)
    return {name: METHOD_COLOURS.get(name) or next(spare) for name in methods}


def class_colours(card: DatasetCard) -> dict[str, tuple[float, ...]]:
    """Return the colour of every class, 0..1."""
    return {name: tuple(part / 255 for part in colour) for name, colour in zip(card.classes, card.palette, strict=True)}


def printed(name: str) -> str:
    """Return a name of the code as it is printed: ``rgb/shared`` as RGB shared, ``room_width_m`` as room width (m)."""
    return " ".join(PRINTED_WORDS.get(word, word) for word in re.split(r"[ _/]", name.replace("+", " + ")))


def heatmap(ax: Axes, table: pd.DataFrame, numbers: pd.DataFrame | None, size: float, **options) -> None:
    """Draw a table from 0 on, with rounded ``numbers`` of a font size in its cells; grey where it is NaN."""
    text = False if numbers is None else numbers.map(lambda value: "" if pd.isna(value) else f"{round(value)}")
    looks = {"vmin": 0, "cmap": "cividis", "cbar": False, "linewidths": 0.3, "annot_kws": {"size": size}} | options
    sns.heatmap(table.astype(float), ax=ax, annot=text, fmt="", xticklabels=True, yticklabels=True, **looks)
    ax.set(xlabel="", ylabel="", facecolor=MISSING_COLOUR)
    ax.tick_params(length=0)


def count(number: int, noun: str) -> str:
    """Return ``1 seed``, ``3 seeds``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def require(table: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError if a table lacks a column."""
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")

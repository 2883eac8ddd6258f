"""Colour points by what is recorded of them, with a legend in the same colours."""

from collections.abc import Sequence
from html import escape

import pandas as pd
from bokeh import models as bk
from bokeh.palettes import Cividis256
from matplotlib.colors import to_hex

from crodino_lib.data.sample import DatasetCard
from crodino_lib.explorer.contents import BLOCKS, CORRECT, ERROR
from crodino_lib.figures.base import SENSOR_COLOURS, SPARE_STYLES, class_colours, printed, sensor_styles

LEVEL_COLOURS = (*SENSOR_COLOURS.values(), *(colour for colour, _ in SPARE_STYLES[:3]))
UNKNOWN = "#9a9a9a"  # colour of points without a value
SHAPES = ("circle", "triangle", "square", "diamond", "inverted_triangle", "hex", "star")
MARKERS = dict(zip("o^sDvPX", SHAPES, strict=True))
SYMBOLS = dict(zip(MARKERS, "●▲■◆▼⬢★", strict=True))  # the same in text
RAMP = f"linear-gradient(to right, {', '.join(Cividis256[::32])})"
TITLES = {f"{ERROR} {block}": f"error {block}" for block in BLOCKS}
TITLES |= {"name": "class", "image": "scene", CORRECT: "correct", "value": "colour"}


def title(name: str) -> str:
    """Return the words for a column of the points."""
    return TITLES.get(name) or printed(name.removeprefix("factor/"))


def colourings(points: pd.DataFrame, card: DatasetCard, sensors: Sequence[str]) -> tuple[dict, dict]:
    """Return colour mappers and legends as HTML, by what points can be coloured by."""
    styles = sensor_styles(sensors)
    fixed = {"name": class_colours(card), "sensor": {sensor: styles[sensor][0] for sensor in sensors}}
    key = "".join(f"<span>{SYMBOLS[styles[sensor][1]]} {escape(sensor)}</span>" for sensor in sensors)
    mappers, legends = {}, {}
    for name in ["name", "sensor", ERROR, CORRECT, *(name for name in points if name.startswith("factor/"))]:
        if name in (ERROR, CORRECT) or points[name].dtype.kind in "iuf":
            low, high = (0, 1) if name in (ERROR, CORRECT) else (float(points[name].min()), float(points[name].max()))
            mappers[name] = bk.LinearColorMapper(palette=Cividis256, low=low, high=high, nan_color=UNKNOWN)
            entries = [(RAMP, f"{low:.3g} to {high:.3g}", ""), (UNKNOWN, "no value", "")]
        else:
            counts = points[name].value_counts()
            levels = [level for level in counts.index if level != "no value"]
            colours = fixed.get(name) or dict(zip(levels, LEVEL_COLOURS, strict=False))
            colours = {level: to_hex(colour) for level, colour in colours.items() if level in counts}
            palette = {"factors": list(colours), "palette": list(colours.values())}
            mappers[name] = bk.CategoricalColorMapper(**palette, nan_color=UNKNOWN)
            entries = [(colour, level, counts[level]) for level, colour in colours.items()]
            if rest := counts.sum() - counts[list(colours)].sum():
                entries.append((UNKNOWN, "other or no value", rest))
        shown = (f"<span><i style='background: {c}'></i>{escape(t)} <small>{n}</small></span>" for c, t, n in entries)
        legends[name] = f"<div class='legend'>{key}<b>{escape(title(name))}</b>{''.join(shown)}</div>"
    return mappers, legends

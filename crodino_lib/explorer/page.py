"""Lay the explorer out with Bokeh: linked clouds, menus, pictures of what is selected or pointed at."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from bokeh import models as bk
from bokeh.embed import file_html
from bokeh.layouts import column, gridplot, row
from bokeh.plotting import figure
from bokeh.resources import INLINE
from bokeh.transform import factor_mark

from crodino_lib.analysis.latent_analysis import LatentAnalysis
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.explorer.colours import MARKERS, colourings, title
from crodino_lib.explorer.contents import BLOCKS, CORRECT, ERROR, Contents, collect
from crodino_lib.explorer.pictures import sprites
from crodino_lib.figures.base import sensor_styles
from crodino_lib.figures.manifolds import EPOCH, NEIGHBOURS, class_places, side_of
from crodino_lib.io import atomic_write

FOLDER = Path(__file__).parent
TABLE = ("name", "sensor", "image", *(f"{ERROR} {block}" for block in BLOCKS), CORRECT, "value")
LINK = ("x", "y", "to_x", "to_y", "colour")
HALF_WINDOW = 0.54  # a cloud spans 1 at most, and a margin
WIDE = {"sizing_mode": "stretch_width"}
WRAPPED = {"styles": {"flex-wrap": "wrap"}, **WIDE}
SLIDE = "menu.value = frames[cb_obj.value - 1]"
HINT = (
    "<p>Point at a region to see it. Drag over a cloud to select regions, by box or by lasso; shift adds to the "
    "selection, Escape clears it. Click a region to see its nearest neighbours of both sensors in the latent space.</p>"
    "<p>Selected regions are shown here as each sensor saw them, with the truth and the predictions. In the clouds, a "
    "black ring marks the same region seen by the other sensor, a blue one a nearest neighbour.</p>"
)
PAGE = """{% block preamble %}
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval';
      style-src 'unsafe-inline'; img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'">
    <meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
{% endblock %}"""  # the browser itself refuses every request of the page
CSS = (FOLDER / "explorer.css").read_text(encoding="utf-8")
NOTE = NEIGHBOURS.format(k=15)  # as many as the analysis looks at


@dataclass(frozen=True)
class Explorer:
    """Linked clouds of points; show it as a cell's last expression and read ``selection`` in the next cell.

    Explained in notebook 15.
    """

    title: str
    points: pd.DataFrame  # of ``Contents.described_points``, in random order
    source: bk.ColumnDataSource  # the points; set ``source.selected.indices`` to select from Python
    layout: bk.LayoutDOM

    @property
    def selection(self) -> pd.DataFrame:
        """Return the rows of ``points`` that are selected in the browser."""
        return self.points.iloc[self.source.selected.indices]

    def _ipython_display_(self) -> None:
        from bokeh.io import output_notebook  # these three only where there is a notebook
        from IPython.display import display
        from jupyter_bokeh import BokehModel

        output_notebook(INLINE, hide_banner=True)
        display(BokehModel(self.layout))


def explore(analysis: LatentAnalysis, models: Iterable[TrainedModel]) -> Explorer:
    """Draw models of a study, and the first one's network before training beside them, all on the same regions."""
    return draw(collect(analysis, list(models)))


def write_page(explorer: Explorer, path: Path) -> Path:
    """Write the explorer as one file that opens from disk and asks for nothing; return ``path``."""
    with atomic_write(path) as temporary:
        temporary.write_text(file_html(explorer.layout, INLINE, explorer.title, template=PAGE), encoding="utf-8")
    return Path(path)


def draw(contents: Contents) -> Explorer:
    """Lay out the explorer."""
    card, scenes = contents.card, contents.scenes
    order = np.random.default_rng(0).permutation(len(contents.points))  # or one sensor would lie on top of the other
    points = contents.described_points().iloc[order].reset_index(drop=True)
    sensors = [sensor for sensor in scenes.images if sensor in set(points["sensor"])]
    mappers, legends = colourings(points, card, sensors)
    source, names = _sources(contents, points, order)
    pictures = bk.ColumnDataSource(sprites(scenes, card, sensors, contents.predictions))
    kept, size = bk.IndexFilter(indices=list(points.index)), scenes.labels.shape[:0:-1]
    first = [f"{contents.models[0]}/{block}/{contents.embeddings[0]}" for block in BLOCKS]
    clouds = [
        _Cloud(block, cloud, source, names, kept, mappers["name"], sensors)
        for block, cloud in zip(BLOCKS, first, strict=True)
    ]
    for cloud in clouds:
        cloud.add_tools(pictures, sensors, size)

    texts = _captions(contents)
    below = [_words(texts[cloud]) for cloud in first]
    legend, panel = _words(legends["name"]), _words(HINT)
    panel.styles = {"overflow-y": "auto", "max-height": "640px", "flex": "1 1 360px"}
    button = bk.Button(label="Save selection as CSV", width=180, disabled=True, align="end")
    table, menus = _table(), _menus(contents, points, sensors, list(mappers))
    drawn = {name: [getattr(cloud, name) for cloud in clouds] for name in ("dots", "labels", "links")}
    drawn |= {"source": source, "pictures": pictures, "kept": kept, "table": table.source, "button": button}
    drawn |= {"legend": legend, "panel": panel, "captions": below, "mappers": mappers, "legends": legends}
    fixed = {"texts": texts, "hint": HINT, "blocks": BLOCKS, "sensors": sensors, "size": size}
    fixed |= {"error": ERROR, "correct": CORRECT, "columns": TABLE}
    script = bk.CustomJS.from_file(FOLDER / "show.js", **menus, **drawn, **fixed)
    for menu in menus.values():
        menu.js_on_change("value", script)
    source.selected.js_on_change("indices", script)
    exported = {"columns": [name for name in points if name != "scene"], "title": contents.title}
    button.js_on_click(bk.CustomJS.from_file(FOLDER / "save.js", source=source, **exported))

    sheets = [
        gridplot([[cloud.plot for cloud in clouds]], **WIDE),
        row(*below, **WIDE),
        _words(f"<small>{escape(NOTE)}</small>"),
    ]
    left = column(*sheets, **WIDE, styles={"flex": "1.4 1 560px"})
    controls = [*menus.values(), *_film_slider(contents, menus["embedding"]), button]
    lines = [_heading(contents), row(*controls, **WRAPPED), legend, row(left, panel, **WRAPPED), table]
    layout = column(*lines, styles={"background": "#fff", "padding": "10px"}, **WIDE)
    return Explorer(contents.title, points, source, layout)


def _sources(
    contents: Contents, points: pd.DataFrame, order: np.ndarray
) -> tuple[bk.ColumnDataSource, bk.ColumnDataSource]:
    """Return the points as drawn, with their places in every cloud, and where the names of classes stand."""
    small = points.astype({name: np.float32 for name in points.select_dtypes("float")})
    data = {name: values.to_numpy() for name, values in small.items()}
    edges = points[["left", "top", "right", "bottom"]].to_numpy().T
    data["view"] = _views(*edges, *contents.scenes.labels.shape[:0:-1])
    data |= {"wide": edges[2] - edges[0], "high": edges[3] - edges[1]}
    place, missing = np.argsort(order), np.full((len(points), 2), np.nan)
    for block, nearest in contents.nearest.items():
        data[f"near {'/'.join(block)}"] = place[nearest[order]].tolist()
    names = {"name": list(dict.fromkeys(points["name"]))}
    clouds = _to_one_window(contents)
    for key in contents.keys:
        cloud = clouds.get(key, missing)[order].astype(np.float32)
        named = class_places(points.assign(x=cloud[:, 0], y=cloud[:, 1]).dropna(subset="x"), 0.15, 0.04)
        for axis, letter in enumerate("xy"):
            data[f"{letter} {'/'.join(key)}"] = cloud[:, axis]
            names[f"{letter} {'/'.join(key)}"] = [named.get(name, missing[0])[axis] for name in names["name"]]
        sides = [side_of(x / (2 * HALF_WINDOW) + 0.5) for x in names[f"x {'/'.join(key)}"]]
        names[f"side {'/'.join(key)}"] = sides
    return bk.ColumnDataSource(data, name="points"), bk.ColumnDataSource(names)


def _to_one_window(contents: Contents) -> dict:
    """Return the clouds, centred and at most 1 wide; all epochs of a film are moved and scaled alike."""
    scaled = {}
    for key, cloud in contents.clouds.items():
        alike = [other for name, other in contents.clouds.items() if _family(name) == _family(key)]
        low, high = np.nanmin(np.concatenate(alike), axis=0), np.nanmax(np.concatenate(alike), axis=0)
        scaled[key] = (cloud - (low + high) / 2) / ((high - low).max() or 1.0)
    return scaled


def _family(key: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return what clouds that share a window have in common: epochs of a film differ in their number alone."""
    return *key[:2], key[2].split()[0]


def _views(left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray, width: int, height: int) -> list:
    """Return the view of each region, as ``x y width height`` in pixels: its box and what surrounds it."""
    side = np.maximum(32, 1.3 * np.maximum(right - left, bottom - top))
    w, h = np.minimum(side, width), np.minimum(side, height)
    x, y = np.clip((left + right - w) / 2, 0, width - w), np.clip((top + bottom - h) / 2, 0, height - h)
    return [" ".join(f"{value:.4g}" for value in view) for view in zip(x, y, w, h, strict=True)]


class _Cloud:
    """The plot of a block: points, names of classes, and links between points, empty until something is selected."""

    def __init__(
        self,
        block: str,
        cloud: str,
        source: bk.ColumnDataSource,
        names: bk.ColumnDataSource,
        kept: bk.IndexFilter,
        mapper: bk.ColorMapper,
        sensors: list[str],
    ):
        self.plot = figure(title=f"{block} block", name=block, aspect_ratio=1, tools="pan,wheel_zoom,reset", **WIDE)
        self.plot.x_range, self.plot.y_range = (bk.Range1d(-HALF_WINDOW, HALF_WINDOW) for _ in range(2))
        self.plot.axis.visible, self.plot.grid.visible = False, False
        markers = [MARKERS[marker] for _, marker in sensor_styles(sensors).values()]
        look = {"marker": factor_mark("sensor", markers, sensors), "fill_color": {"field": "name", "transform": mapper}}
        look |= {"size": 7, "line_color": "#00000066", "line_width": 0.5}
        look |= {"nonselection_alpha": 0.1, "selection_line_color": "black"}
        view = bk.CDSView(filter=kept)
        self.dots = self.plot.scatter(f"x {cloud}", f"y {cloud}", source=source, view=view, **look)
        self.links = bk.ColumnDataSource({name: [] for name in LINK}, name=f"links {block}")
        self.plot.segment("x", "y", "to_x", "to_y", source=self.links, line_color="colour", line_alpha=0.4)
        ring = {"size": 10, "fill_color": None, "line_color": "colour"}
        self.plot.scatter("to_x", "to_y", source=self.links, **ring)
        self.labels = bk.LabelSet(text="name", source=names, text_font_size="11px", text_baseline="middle")
        place = {"x": f"x {cloud}", "y": f"y {cloud}", "text_align": {"field": f"side {cloud}"}}
        self.labels.update(**place, background_fill_color="#ffffffb0")
        self.plot.add_layout(self.labels)

    def add_tools(self, pictures: bk.ColumnDataSource, sensors: list[str], size: tuple[int, int]) -> None:
        """Select by box, lasso or click, and show the region that the mouse points at, as each sensor saw it."""
        picture = bk.CustomJSHover(args={"pictures": pictures}, code="return pictures.get_column(format)[value]")
        views = "".join(
            f"<div><svg viewBox='@view' width='120' height='120'><image href='@scene{{{sensor}}}' width='{size[0]}' "
            f"height='{size[1]}' style='image-rendering: pixelated'/><rect x='@left' y='@top' width='@wide' "
            "height='@high' fill='none' stroke='#fff' vector-effect='non-scaling-stroke'/></svg>"
            f"<br>{escape(sensor)}</div>"
            for sensor in sensors
        )
        tip = f"<b>@name</b> seen by @sensor, scene @image<div style='display: flex; gap: 4px'>{views}</div>"
        hover = bk.HoverTool(renderers=[self.dots], tooltips=tip, formatters={"@scene": picture}, limit=1)
        box, *others = (tool(renderers=[self.dots]) for tool in (bk.BoxSelectTool, bk.LassoSelectTool, bk.TapTool))
        self.plot.add_tools(box, *others, hover)
        self.plot.toolbar.active_drag = box


def _table() -> bk.DataTable:
    """Return the table of what is selected, empty."""
    columns = [bk.TableColumn(field=name, title=title(name)) for name in TABLE]
    source = bk.ColumnDataSource({name: [] for name in TABLE})
    look = {"height": 240, "index_position": None, "reorderable": False}
    return bk.DataTable(source=source, columns=columns, **look, **WIDE)


def _captions(contents: Contents) -> dict[str, str]:
    """Return ``model/block/embedding`` -> what stands below this cloud, as HTML."""
    absent = f"The film shows {contents.filmed} alone"
    return {"/".join(key): f"<small>{escape(contents.captions.get(key, absent))}</small>" for key in contents.keys}


def _menus(contents: Contents, points: pd.DataFrame, sensors: list[str], colours: list[str]) -> dict[str, bk.Select]:
    classes = [name for name in contents.card.classes if name in set(points["name"])]
    options = {"model": contents.models, "embedding": contents.embeddings}
    options |= {"colour": [(name, title(name)) for name in colours], "show": ["everything", *sensors, *classes]}
    chosen = {"model": contents.models[0], "embedding": contents.embeddings[0], "colour": "name", "show": "everything"}
    return {name: bk.Select(title=name, options=options[name], value=chosen[name], width=180) for name in options}


def _film_slider(contents: Contents, menu: bk.Select) -> list[bk.Slider]:
    """Return a slider that chooses among the epochs of the film; none where there is no film."""
    frames = [name for name in contents.embeddings if name.startswith(EPOCH)]
    if not frames:
        return []
    slider = bk.Slider(
        start=1, end=len(frames), value=len(frames), title=f"frame of {len(frames)}", width=180, name="film"
    )
    slider.js_on_change("value", bk.CustomJS(args={"menu": menu, "frames": frames}, code=SLIDE))
    return [slider]


def _heading(contents: Contents) -> bk.Div:
    card = contents.card
    licence = f"This page must not be passed on: it holds pictures of {card.title}, whose licence forbids it."
    licence = f"<p class='licence'>{escape(licence)}</p>" if card.licensed else ""
    return _words(f"<h1>{escape(contents.title)}</h1><small>{escape(card.title)}</small>{licence}")


def _words(text: str) -> bk.Div:
    """Return HTML in the style of the explorer."""
    return bk.Div(text=text, stylesheets=[bk.InlineStyleSheet(css=CSS)], disable_math=True, **WIDE)

"""Explore latent spaces by hand: select points and see the regions behind them, as a page or in a notebook.

Both blocks of a model are drawn side by side from one Bokeh data source: what is selected in one is selected in both.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from bokeh import models as bk
from bokeh.embed import file_html
from bokeh.layouts import column, gridplot, row
from bokeh.palettes import Cividis256
from bokeh.plotting import figure
from bokeh.resources import INLINE
from bokeh.transform import factor_mark
from matplotlib.colors import to_hex
from PIL import Image

from crodino_lib.analysis.latent_analysis import LatentAnalysis
from crodino_lib.analysis.probes import class_errors
from crodino_lib.analysis.trained_models import TrainedModel
from crodino_lib.analysis.umap_embedding import sample_points
from crodino_lib.augment import plain
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.evaluate import confusion_per_image
from crodino_lib.figures.base import MISSING_COLOUR, SENSOR_COLOURS, SPARE_STYLES, class_colours, printed, sensor_styles
from crodino_lib.figures.image_grids import COLOUR_MAPS
from crodino_lib.figures.manifolds import NEIGHBOURS, fidelity
from crodino_lib.io import atomic_write, bar
from crodino_lib.methods.base import upsample

BLOCKS = ("shared", "private")
ERROR, CORRECT = "probe error", "correct pixels"  # of a model, 0..1; the first is measured in each block
LEVEL_COLOURS = (*SENSOR_COLOURS.values(), *(colour for colour, _ in SPARE_STYLES[:3]))
UNKNOWN = "#9a9a9a"  # colour of points without a value
SHAPES = ("circle", "triangle", "square", "diamond", "inverted_triangle", "hex", "star")
MARKERS = dict(zip("o^sDvPX", SHAPES, strict=True))
SYMBOLS = dict(zip(MARKERS, "●▲■◆▼⬢★", strict=True))  # the same in text
TABLE = ("name", "sensor", "image", *(f"{ERROR} {block}" for block in BLOCKS), CORRECT, "value")
TITLES = {f"{ERROR} {block}": f"error {block}" for block in BLOCKS}
TITLES |= {"name": "class", "image": "scene", CORRECT: "correct", "value": "colour"}
TOOLS = "box_select,lasso_select,tap,pan,wheel_zoom,reset"
TIPS = [("class", "@name"), ("sensor", "@sensor"), ("scene", "@image")]
WIDE = {"sizing_mode": "stretch_width"}
HINT = (
    "<p>Drag over a cloud to select regions, by box or by lasso; shift adds to the selection, Escape clears it.</p>"
    "<p>Selected regions are shown here as each sensor saw them, with the truth and the predictions.</p>"
)
PAGE = """{% block preamble %}
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval';
      style-src 'unsafe-inline'; img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'">
    <meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
{% endblock %}"""  # the browser itself refuses every request of the page
RAMP = f"linear-gradient(to right, {', '.join(Cividis256[::32])})"
CSS = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
NOTE = NEIGHBOURS.format(k=15)  # as many as the analysis looks at


@dataclass(frozen=True)
class Explorer:
    """Linked clouds of points; show it as a cell's last expression and read ``selection`` in the next cell.

    Explained in notebook 15.
    """

    title: str
    points: pd.DataFrame  # of ``draw``, with ``correct pixels MODEL`` (share of the region, 0..1) and ``factor/NAME``
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
    return draw(*collect(analysis, list(models)))


def write_page(explorer: Explorer, path: Path) -> Path:
    """Write the explorer as one file that opens from disk and asks for nothing; return ``path``."""
    with atomic_write(path) as temporary:
        temporary.write_text(file_html(explorer.layout, INLINE, explorer.title, template=PAGE), encoding="utf-8")
    return Path(path)


def collect(analysis: LatentAnalysis, models: Sequence[TrainedModel]) -> tuple:
    """Gather the arguments of ``draw`` from the analysis of a study; arguments as ``explore``."""
    study, split, card = analysis.study, analysis.split, analysis.study.card
    wanted = {model.name: (model, True) for model in models} | {f"{models[0].name}, untrained": (models[0], False)}
    fitted = analysis.embeddings(wanted)
    latents = {name: analysis.latents(*which)["region"] for name, which in wanted.items()}
    config = analysis.config
    latents = {name: sample_points(part, config.points, config.seed) for name, part in latents.items()}
    points = next(iter(latents.values())).stacked(BLOCKS[0])[1]
    for name, found in bar(latents.items(), label="explorer", unit="model"):
        for block in BLOCKS:
            vectors = [found.blocks[sensor, block] for sensor in found.sensors]
            errors = [class_errors(part, found.classes, found.images).clip(0, 1) for part in vectors]
            points[f"{ERROR} {name}/{block}"] = np.concatenate(errors)
    keys, scenes = ["model", "half", "embedding"], study.scenes[split]
    clouds = {key: cloud[["x", "y"]].to_numpy() for key, cloud in fitted.points.groupby(keys, sort=False)}
    captions = {}
    for _, fit in fitted.table.iterrows():
        quality = fidelity(fit).replace("\n", ", ")
        captions[tuple(fit[keys])] = f"{fit['points']} points: {quality}" if fit["points"] else fit["remark"]
    students = {(m.name, sensor): student for m in models for sensor, student in analysis.students(m).items()}
    predictions = {key: _class_maps(student, key[1], scenes, card) for key, student in students.items()}
    return f"{study.config.name}, {split}", card, scenes, points, clouds, captions, predictions


@torch.inference_mode()
def _class_maps(student: torch.nn.Module, sensor: str, scenes: Scenes, card: DatasetCard) -> np.ndarray:
    """Return the class maps (images, H, W) uint8 of a student, for unaugmented scenes."""
    maps = []
    for indices in torch.arange(len(scenes)).split(16):
        seen = plain(scenes, indices.tolist(), card, (sensor,), torch.device("cpu")).images[sensor]
        maps.append(upsample(student(seen).logits, seen).argmax(dim=1).byte())
    return torch.cat(maps).numpy()


def draw(
    title: str, card: DatasetCard, scenes: Scenes, points: pd.DataFrame, clouds: dict, captions: dict, predictions: dict
) -> Explorer:
    """Lay out the explorer; every model has the same points.

    Args:
        scenes: the split that the models looked at; points can be coloured by its factors.
        points: one row per region and sensor: ``image``, ``name`` (of the class), ``sensor``, ``left``, ``top``,
            ``right``, ``bottom`` (box in pixels) and ``probe error MODEL/BLOCK``, 0..1.
        clouds: (model, block, embedding) -> (points, 2) float; a block that has collapsed has none.
        captions: (model, block, embedding) -> how far the cloud can be believed, or why there is none.
        predictions: (model, sensor) -> (images, H, W) uint8 class maps, in the order of the scenes.
    """
    order = np.random.default_rng(0).permutation(len(points))  # or the last sensor would lie on top of the others
    models, embeddings = (list(dict.fromkeys(key[place] for key in captions)) for place in (0, 2))
    points = _described(points.iloc[order].reset_index(drop=True), models, card, scenes, predictions)
    sensors = [sensor for sensor in scenes.images if sensor in set(points["sensor"])]
    small = points.astype({name: np.float32 for name in points.select_dtypes("float")})
    source = bk.ColumnDataSource({name: values.to_numpy() for name, values in small.items()})
    for key in captions:
        cloud = clouds.get(key, np.full((len(points), 2), np.nan))[order]
        cloud = (cloud - (cloud.max(axis=0) + cloud.min(axis=0)) / 2) / (np.ptp(cloud, axis=0).max() or 1.0)
        for axis, values in zip("xy", cloud.T.astype(np.float32), strict=True):
            source.data[f"{axis} {'/'.join(key)}"] = values
    mappers, legends = _colourings(points, card, sensors)
    clouds_of = [f"{models[0]}/{block}/{embeddings[0]}" for block in BLOCKS]
    texts = {"/".join(key): f"<small>{escape(caption)}</small>" for key, caption in captions.items()}
    options = {"model": models, "embedding": embeddings, "colour": [(name, _title(name)) for name in mappers]}
    options["show"] = ["everything", *sensors, *(name for name in card.classes if name in set(points["name"]))]
    menus = {name: bk.Select(title=name, options=choices, width=180) for name, choices in options.items()}
    licence = f"This page must not be passed on: it holds pictures of {card.title}, whose licence forbids it."
    licence = f"<p class='licence'>{escape(licence)}</p>" if card.licensed else ""
    heading = _words(f"<h1>{escape(title)}</h1><small>{escape(card.title)}</small>{licence}")
    legend, panel, below = _words(legends["name"]), _words(HINT), [_words(texts[cloud]) for cloud in clouds_of]
    panel.styles = {"overflow-y": "auto", "max-height": "560px", "flex": "1 1 360px"}
    kept, plots, renderers = bk.IndexFilter(indices=list(points.index)), [], []
    markers = [MARKERS[marker] for _, marker in sensor_styles(sensors).values()]
    look = {"marker": factor_mark("sensor", markers, sensors), "size": 7, "line_color": "#00000066", "line_width": 0.5}
    look |= {"nonselection_alpha": 0.1, "selection_line_color": "black"}
    for block, cloud in zip(BLOCKS, clouds_of, strict=True):
        tools = {"tools": TOOLS, "active_drag": "box_select", "tooltips": TIPS}
        plot = figure(title=f"{block} block", aspect_ratio=1, **tools, **WIDE)
        plot.x_range, plot.y_range = bk.Range1d(-0.54, 0.54), bk.Range1d(-0.54, 0.54)
        plot.axis.visible, plot.grid.visible = False, False
        fill, view = {"field": "name", "transform": mappers["name"]}, bk.CDSView(filter=kept)
        renderers.append(plot.scatter(f"x {cloud}", f"y {cloud}", source=source, view=view, fill_color=fill, **look))
        plots.append(plot)
    columns = [bk.TableColumn(field=name, title=_title(name)) for name in TABLE]
    table = bk.DataTable(source=bk.ColumnDataSource({name: [] for name in TABLE}), columns=columns, height=240, **WIDE)
    table.index_position, table.reorderable = None, False
    parts = {"source": source, "renderers": renderers, "kept": kept, "table": table.source, "legend": legend}
    drawn = {"panel": panel, "captions": below, "mappers": mappers, "legends": legends, "texts": texts}
    names = {"hint": HINT, "blocks": BLOCKS, "sensors": sensors, "error": ERROR, "correct": CORRECT, "columns": TABLE}
    names |= {"sprites": _sprites(scenes, card, sensors, predictions), "size": scenes.labels.shape[:0:-1]}
    script = bk.CustomJS.from_file(Path(__file__).with_suffix(".js"), **menus, **parts, **drawn, **names)
    for name, menu in menus.items():
        menu.value = "name" if name == "colour" else options[name][0]
        menu.js_on_change("value", script)
    source.selected.js_on_change("indices", script)

    wrap = {"styles": {"flex-wrap": "wrap"}, **WIDE}
    left = column(gridplot([plots], **WIDE), row(*below, **WIDE), _words(f"<small>{escape(NOTE)}</small>"), **WIDE)
    left.styles = {"flex": "1.4 1 560px"}
    sheets = [heading, row(*menus.values(), **wrap), legend, row(left, panel, **wrap), table]
    return Explorer(title, points, source, column(*sheets, styles={"background": "#fff", "padding": "10px"}, **WIDE))


def _described(
    points: pd.DataFrame, models: Sequence[str], card: DatasetCard, scenes: Scenes, predictions: dict
) -> pd.DataFrame:
    """Return the points with their scenes, the share of correct pixels of every model, and the scenes' factors."""
    points["scene"] = pd.Index(scenes.ids).get_indexer(points["image"])
    points = points.assign(**{f"{CORRECT} {model}": np.nan for model in models})
    for (model, sensor), predicted in predictions.items():
        own, recall = points["sensor"] == sensor, _recalls(predicted, scenes.labels, len(card.classes))
        label = pd.Index(card.classes).get_indexer(points["name"][own])
        points.loc[own, f"{CORRECT} {model}"] = recall[points["scene"][own], label]
    for name, values in {} if scenes.factors is None else scenes.factors.iloc[points["scene"]].items():
        text = values.astype(str).where(values.notna(), "no value")
        points[f"factor/{name}"] = (pd.to_numeric(values) if values.dtype.kind in "iuf" else text).to_numpy()
    return points


def _words(text: str) -> bk.Div:
    return bk.Div(text=text, stylesheets=[bk.InlineStyleSheet(css=CSS)], disable_math=True, **WIDE)


def _title(name: str) -> str:
    return TITLES.get(name) or printed(name.removeprefix("factor/"))


def _recalls(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return (images, classes): the share of every class's pixels that is predicted right."""
    counts = confusion_per_image(torch.from_numpy(predicted).long(), torch.from_numpy(labels).long(), classes).numpy()
    return np.diagonal(counts, axis1=1, axis2=2) / np.maximum(counts.sum(axis=2), 1)


def _colourings(points: pd.DataFrame, card: DatasetCard, sensors: Sequence[str]) -> tuple[dict, dict]:
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
        legends[name] = f"<div class='legend'>{key}<b>{escape(_title(name))}</b>{''.join(shown)}</div>"
    return mappers, legends


def _sprites(scenes: Scenes, card: DatasetCard, sensors: Sequence[str], predictions: dict) -> dict[str, list[str]]:
    """Return sensor, ``truth`` or ``SENSOR MODEL`` -> a data URL per scene; colours span the middle 98 % of values."""
    palette = np.full((256, 3), MISSING_COLOUR)
    palette[: len(card.palette)] = list(class_colours(card).values())
    maps = {"truth": scenes.labels} | {
        f"{sensor} {model}": predicted for (model, sensor), predicted in predictions.items()
    }
    sprites = {name: [_webp(palette[labels], lossless=True) for labels in maps[name]] for name in maps}
    for sensor in sensors:
        images = scenes.images[sensor].transpose(0, 2, 3, 1).astype(np.float32)
        valid = scenes.valid[sensor].transpose(0, 2, 3, 1) if sensor in scenes.valid else np.True_
        known = images[np.broadcast_to(valid, images.shape)]
        low, high = (0, 255) if sensor == "rgb" or not known.size else np.percentile(known, (1, 99))
        colours = np.clip((images - low) / max(high - low, 1e-6), 0, 1)
        if images.shape[-1] == 1:  # three channels are colours already, such as normals
            colours = mpl.colormaps[COLOUR_MAPS.get(sensor, "cividis")](colours[..., 0])[..., :3]
        sprites[sensor] = [_webp(image, quality=82) for image in np.where(valid, colours, MISSING_COLOUR)]
    return sprites


def _webp(colours: np.ndarray, **settings: object) -> str:
    """Return (H, W, 3) colours, 0..1, as a data URL."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * colours).astype(np.uint8)).save(file, "webp", **settings)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

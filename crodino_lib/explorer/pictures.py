"""Turn scenes, truth and predictions into small pictures that a page carries with it."""

import base64
import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from PIL import Image

from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.figures.base import MISSING_COLOUR, class_colours
from crodino_lib.figures.image_grids import COLOUR_MAPS


def sprites(scenes: Scenes, card: DatasetCard, sensors: Sequence[str], predictions: dict) -> dict[str, list[str]]:
    """Return sensor, ``truth`` or ``SENSOR MODEL`` -> a data URL per scene; colours span the middle 98 % of values."""
    palette = np.full((256, 3), MISSING_COLOUR)
    palette[: len(card.palette)] = list(class_colours(card).values())
    maps = {"truth": scenes.labels} | {f"{sensor} {model}": said for (model, sensor), said in predictions.items()}
    urls = {name: [_webp(palette[labels], lossless=True) for labels in maps[name]] for name in maps}
    for sensor in sensors:
        images = scenes.images[sensor].transpose(0, 2, 3, 1).astype(np.float32)
        valid = scenes.valid[sensor].transpose(0, 2, 3, 1) if sensor in scenes.valid else np.True_
        known = images[np.broadcast_to(valid, images.shape)]
        low, high = (0, 255) if sensor == "rgb" or not known.size else np.percentile(known, (1, 99))
        colours = np.clip((images - low) / max(high - low, 1e-6), 0, 1)
        if images.shape[-1] == 1:  # three channels are colours already, such as normals
            colours = mpl.colormaps[COLOUR_MAPS.get(sensor, "cividis")](colours[..., 0])[..., :3]
        urls[sensor] = [_webp(image, quality=82) for image in np.where(valid, colours, MISSING_COLOUR)]
    return urls


def _webp(colours: np.ndarray, **settings: object) -> str:
    """Return (H, W, 3) colours, 0..1, as a data URL."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * colours).astype(np.uint8)).save(file, "webp", **settings)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

"""Segment pictures of your own with the student of a finished run."""

from pathlib import Path

import numpy as np
from PIL import Image

from crodino_lib.config import home
from crodino_lib.data.image_files import existing, read_picture
from crodino_lib.data.sample import IGNORE, DatasetCard, Sample, Scenes, SensorSet
from crodino_lib.data.scene_cache import resize_sample
from crodino_lib.io import atomic_write
from crodino_lib.settings import choose
from crodino_lib.study.runs import Run, finished_run
from crodino_lib.study.study import Study


def find_run(name: str) -> Run:
    """Return a finished run by its folder, or by that folder's name below ``results/local``; proposes the nearest."""
    folder = Path(name).expanduser()
    if not (folder / "run.json").exists():
        there = {file.parent.name: file.parent for file in home().glob("results/local/*/runs/*/*/*/run.json")}
        if not there:
            raise ValueError(
                f"there is no finished run in {home() / 'results' / 'local'} yet; train one: crodino study"
            )
        folder = there[choose(name, there, "finished run")]
    return finished_run(folder)


def read_for(sensor: str, card: DatasetCard, path: Path) -> Sample:
    """Read a picture of one sensor: a picture file of RGB, else an ``.npy`` of (H, W) values in the sensor's unit.

    Values that are not finite, and 0 in depth, are no measurement. Raises FileNotFoundError or ValueError.
    """
    if sensor == "rgb":
        pixels = read_picture(existing(path, "picture"), "rgb").pixels
        return {"id": path.stem, "rgb": pixels, "label": np.full(pixels.shape[1:], IGNORE)}
    if path.suffix != ".npy":
        unit = card.sensors[sensor].unit
        raise ValueError(f"{path}: give {sensor} as an .npy file of (H, W) numbers in {unit}; a picture has no unit")
    values = np.load(existing(path, "array"))
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}, expected (H, W) numbers")
    valid = np.isfinite(values) & ((values != 0) | (sensor != "depth"))
    image = np.where(valid, values, 0).astype(np.float32)[None]
    return {"id": path.stem, sensor: image, f"{sensor}_valid": valid[None], "label": np.full(values.shape, IGNORE)}


def predict(run: Run, card: DatasetCard, path: str | Path, sensor: str = "") -> np.ndarray:
    """Return the class of every pixel of a picture, (H, W) at its own size, from the run's student of one sensor.

    Args:
        run: a finished run.
        card: of its study: ``Study.card``.
        path: see ``read_for``.
        sensor: which student, where the run has several.
    """
    students = run.record["cost"]["students"]
    alone = [name for name in students if len(SensorSet.parse(name)) == 1]
    if not alone:
        raise ValueError(f"{run.folder} has no student of one sensor; it serves {', '.join(students)}")
    sensor = choose(sensor, alone, "student's sensor") if sensor or len(alone) > 1 else alone[0]
    sample = read_for(sensor, card, Path(path).expanduser())
    height, width = sample["label"].shape
    size = run.config.data.pixels((width, height))
    small = resize_sample(sample, size)
    valid = {sensor: small[f"{sensor}_valid"][None]} if sensor != "rgb" else {}
    scenes = Scenes({sensor: small[sensor][None]}, valid, small["label"][None].astype(np.uint8), [sample["id"]])
    classes = run.segment(card, scenes, [0], [sensor])[sensor][0].astype(np.uint8)
    return np.asarray(Image.fromarray(classes).resize((width, height), Image.Resampling.NEAREST))


def classes_picture(classes: np.ndarray, card: DatasetCard) -> Image.Image:
    """Return classes (H, W) as a picture whose pixels are class ids and whose palette is the dataset's."""
    picture = Image.fromarray(classes, mode="P")
    picture.putpalette([value for colour in card.palette for value in colour])
    return picture


def segment_file(name: str, path: str, sensor: str = "", out: str | None = None) -> None:
    """Segment a picture with the run of this name, write the classes as a PNG, and print the share of each."""
    run = find_run(name)
    card = Study.open(str(run.folder.parents[3])).card
    classes = predict(run, card, path, sensor)
    target = Path(out or f"{Path(path).stem}-classes.png").expanduser()
    with atomic_write(target) as temporary:
        classes_picture(classes, card).save(temporary, "PNG")
    for k in np.unique(classes):
        print(f"{100 * (classes == k).mean():5.1f} %  {card.classes[k]}")
    print(target)

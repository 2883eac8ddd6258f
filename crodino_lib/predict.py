"""Segment pictures of your own with the student of a finished run."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from crodino_lib.config import home
from crodino_lib.data.image_files import existing, read_picture
from crodino_lib.data.sample import DatasetCard, SensorSet
from crodino_lib.deployed import Deployed
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
    return finished_run(folder.resolve())


def read_for(sensor: str, card: DatasetCard, path: Path) -> np.ndarray:
    """Read a picture of one sensor: a picture file of RGB, else an ``.npy`` of its values, (H, W) or (H, W, C).

    Returns what ``deployed.Deployed`` takes. Raises FileNotFoundError or ValueError.
    """
    if sensor == "rgb":
        return read_picture(existing(path, "picture"), "rgb").pixels.transpose(1, 2, 0)
    if path.suffix != ".npy":
        unit = card.sensors[sensor].measured.unit
        raise ValueError(f"{path}: give {sensor} as an .npy file of (H, W) numbers in {unit}; a picture has no unit")
    values = np.load(existing(path, "array"), allow_pickle=False)
    channels = card.sensors[sensor].measured.channels
    if values.shape[2:] != ((channels,) if channels > 1 else ()) or values.ndim < 2 or values.dtype.kind not in "fiu":
        form = f"(H, W, {channels})" if channels > 1 else "(H, W)"
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}, expected {form} numbers")
    return values.astype(np.float32)


def deployed(run: Run, card: DatasetCard, sensors: str, native: tuple[int, int]) -> Deployed:
    """Return the run's student of these sensors behind its preprocessing, for pictures of ``native`` (width, height).

    The size matters only where networks see pictures at their native size. ValueError names the students there are.
    """
    name = choose(sensors, run.record["cost"]["students"], "student's sensor")
    seen = {sensor: card.sensors[sensor] for sensor in SensorSet.parse(name)}
    return Deployed(run.method(card).students[name], seen, run.config.data.pixels(native)).eval()


@torch.inference_mode()
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
    picture = read_for(sensor, card, Path(path).expanduser())
    student = deployed(run, card, sensor, picture.shape[1::-1])
    return student(torch.tensor(picture)).numpy()


def classes_picture(classes: np.ndarray, card: DatasetCard) -> Image.Image:
    """Return classes (H, W) as a picture whose pixels are class ids and whose palette is the dataset's."""
    picture = Image.fromarray(classes, mode="P")
    picture.putpalette([value for colour in card.palette for value in colour])
    return picture


def segment_file(name: str, path: str, sensor: str = "", out: str | None = None, root: str = "") -> None:
    """Segment a picture with the run of this name, write the classes as a PNG, and print the share of each.

    ``root`` is your copy of the run's dataset, empty for the built-in one.
    """
    run = find_run(name)
    card = Study.open(str(run.folder.parents[3]), root).card
    classes = predict(run, card, path, sensor)
    target = Path(out or f"{Path(path).stem}-classes.png").expanduser()
    with atomic_write(target) as temporary:
        classes_picture(classes, card).save(temporary, "PNG")
    for k in np.unique(classes):
        print(f"{100 * (classes == k).mean():5.1f} %  {card.classes[k]}")
    print(target)

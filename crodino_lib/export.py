"""Write the student of a finished run so that it is used without the study: a graph, a model card, an example."""

import contextlib
import json
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crodino_lib.config import RunConfig
from crodino_lib.data.decode import needed
from crodino_lib.data.sample import IGNORE, DatasetCard, SensorSet
from crodino_lib.deployed import Deployed
from crodino_lib.io import atomic_write, say
from crodino_lib.methods.registry import METHODS
from crodino_lib.predict import deployed, find_run
from crodino_lib.settings import choose
from crodino_lib.study.formats import to_markdown
from crodino_lib.study.runs import Run, finished_run
from crodino_lib.study.study import Study
from crodino_lib.study.tables import as_text, comparison_table

MODEL = {"onnx": "model.onnx", "torch": "model.pt2"}
OPSET = 18  # has all that the graph asks for; older ones run in more engines
LARGEST = 16384  # pixels along a side of a picture
CONTROLS = ("baseline", "self-training")
CHECKED = 20  # test scenes on which the file is compared with the run
AGREEMENT = 0.999  # of their pixels that must have the run's class: another engine rounds otherwise

Segment = Callable[[list[np.ndarray]], np.ndarray]
"""Return the classes (H, W) of aligned pictures, one per sensor."""


def export_run(name: str, form: str = "onnx", sensors: str = "", out: str | None = None, root: str = "") -> Path:
    """Write a student of a finished run, check what was written against the run, and return its folder.

    The folder holds the model, ``config.json`` (sensors, units, classes, colours), ``segment.py`` (an example that
    needs neither the study nor, for ``onnx``, torch) and ``README.md``, a model card in the form of Hugging Face's hub.

    Args:
        name: see ``predict.find_run``.
        form: ``onnx`` or ``torch``.
        sensors: which student, such as ``rgb`` or ``rgb+depth``; needed where the run has several.
        out: the folder (default ``export/METHOD-RUN-SENSORS`` in the study's folder); new, empty, or of an export.
        root: your copy of the run's dataset, empty for the built-in one.

    Raises:
        ValueError: there is no such run, form or student, its preprocessing cannot be written as a graph, or what was
            written does not give the classes of the run; the folder has no model card then.
    """
    choose(form, MODEL, "format of an export")
    run = find_run(name)
    study = Study.open(str(run.folder.parents[3]), root)
    students = list(run.record["cost"]["students"])
    sensors = choose(sensors, students, "student") if sensors or len(students) > 1 else students[0]
    student = deployed(run, study.card, sensors, study.card.native_size)
    folder = Path(out or study.folder / "export" / f"{run.folder.parent.name}-{run.folder.name}-{sensors}").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not any((folder / file).exists() for file in MODEL.values()):
        raise ValueError(f"{folder} is not empty and holds no export; files there would be lost: choose another folder")
    (folder / "README.md").unlink(missing_ok=True)  # the last to be written: with it the folder is whole
    say(f"tracing {run.name} of {sensors}: half a minute")
    segment = WRITERS[form](student, folder / MODEL[form])
    share, checked = agreement(run, study, sensors, segment)
    if share < AGREEMENT:
        raise ValueError(
            f"{folder / MODEL[form]} gives another class than {run.folder} at {1 - share:.2%} of the pixels of test "
            f"scenes; at most {1 - AGREEMENT:.1%} may differ"
        )
    write_text(folder / "config.json", json.dumps(configuration(run, study, sensors), indent=1))
    write_text(folder / "segment.py", fill("segment.py.j2", form=form, sensors=SensorSet.parse(sensors)))
    write_text(folder / "README.md", model_card(run, study, sensors, form, share, checked))
    say(f"{share:.2%} of the pixels of {checked} test scenes have the run's class")
    return folder


def write_onnx(student: Deployed, path: Path) -> Segment:
    """Write a student as an ONNX graph; return what ONNX Runtime makes of the file."""
    names = list(student.sensors)
    *_, runtime = (needed(name, "export", path, "needs") for name in ("onnx", "onnxscript", "onnxruntime"))
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # about the exporter's own insides
        named = {"input_names": names, "output_names": ["classes"]}
        program = torch.onnx.export(traced(student), dynamo=True, opset_version=OPSET, verbose=False, **named)
        with atomic_write(path) as temporary:
            program.save(temporary)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pictures: session.run(None, dict(zip(names, pictures, strict=True)))[0]


def write_torch(student: Deployed, path: Path) -> Segment:
    """Write a student as a program of torch.export, which needs no code of ours; return what the file computes."""
    with torch.no_grad(), warnings.catch_warnings(action="ignore"), atomic_write(path) as temporary:
        torch.export.save(traced(student), temporary)
    program = torch.export.load(path).module()
    return lambda pictures: program(*map(torch.from_numpy, pictures)).numpy()


WRITERS = {"onnx": write_onnx, "torch": write_torch}


def traced(student: Deployed) -> torch.export.ExportedProgram:
    """Return the graph of a student for pictures of any size; ValueError where its preprocessing has none."""
    filled = [name for name, sensor in student.sensors.items() if getattr(sensor, "holes", "") == "nearest"]
    if filled:
        raise ValueError(
            f"{filled[0]} is filled with the nearest measurement (depth_holes = 'nearest'), which is no graph of "
            "tensors; train with depth_holes = 'none' or 'constant' to export a student"
        )
    sides = {i: torch.export.Dim(side, min=1, max=LARGEST) for i, side in enumerate(("height", "width"))}
    examples = tuple(_example(name, sensor.measured.channels) for name, sensor in student.sensors.items())
    return torch.export.export(student, examples, dynamic_shapes=(tuple(sides for _ in examples),))


def _example(sensor: str, channels: int) -> Tensor:
    height, width = 203, 301  # neither equal nor a multiple of anything, or the graph would hold for such sizes alone
    if sensor == "rgb":
        return torch.zeros(height, width, 3, dtype=torch.uint8)
    return torch.ones(height, width, channels) if channels > 1 else torch.ones(height, width)


def agreement(run: Run, study: Study, sensors: str, segment: Segment) -> tuple[float, int]:
    """Return the share of pixels of test scenes to which ``segment`` gives the run's class, and how many scenes."""
    scenes = study.scenes["test"]
    places = np.linspace(0, len(scenes) - 1, min(CHECKED, len(scenes))).astype(int).tolist()
    expected = run.segment(study.card, scenes, places, [sensors])[sensors]

    def picture(name: str, place: int) -> np.ndarray:
        values = scenes.images[name][place]
        if name != "rgb":
            values = np.where(scenes.valid[name][place], values, np.nan).astype(np.float32)
        return np.ascontiguousarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))

    found = [segment([picture(name, place) for name in SensorSet.parse(sensors)]) for place in places]
    return float(np.mean(np.stack(found) == expected)), len(places)


def configuration(run: Run, study: Study, sensors: str) -> dict[str, Any]:
    """Return what a program needs to know of a model: inputs with units, classes with colours, the size it sees."""
    card = study.card
    inputs = {name: card.sensors[name].measured for name in SensorSet.parse(sensors)}
    return {
        "inputs": {name: {"unit": one.unit, "channels": one.channels} for name, one in inputs.items()},
        "id2label": dict(enumerate(card.classes)),
        "palette": card.palette,
        "ignored_label": IGNORE,
        "network_size": run.config.data.pixels(card.native_size),
        "method": run.name,
        "run": run.folder.name,
    }


def model_card(run: Run, study: Study, sensors: str, form: str, share: float, checked: int) -> str:
    """Return the model card: what it is, how it is used, how good it is beside its controls, what it costs."""
    from huggingface_hub import EvalResult, ModelCardData

    card = study.card
    name = f"{run.folder.parent.name}-{card.name}-{sensors}"
    result = EvalResult("image-segmentation", card.name, card.title, "mean_iou", round(run.miou(sensors), 4))
    header = ModelCardData(
        model_name=name,
        eval_results=[result],
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "cross-modal-distillation", *SensorSet.parse(sensors)],
        **_licence(card),
    )
    table = comparison_table(beside(run))
    table = table[(table["split"] == "test") & (table["sensors at test"] == sensors)]
    return fill(
        "model_card.md.j2",
        header=header.to_yaml(),
        name=name,
        run=run,
        form=form,
        model=MODEL[form],
        method=METHODS[run.config.method],
        sensors=sensors,
        inputs=configuration(run, study, sensors)["inputs"],
        size=run.config.data.pixels(card.native_size),
        card=card,
        caveat=study.caveat(),
        table=to_markdown(as_text(table).drop(columns="split")),
        cost=run.record["cost"]["students"][sensors],
        share=share,
        checked=checked,
    )


def beside(run: Run) -> list[Run]:
    """Return the run's other seeds, and the finished controls that were trained on the same data for as many steps."""

    def what(config: RunConfig) -> dict:
        return config.model_dump(exclude={"seed"})

    def equal(config: RunConfig) -> bool:
        same = all(getattr(config, part) == getattr(run.config, part) for part in ("data", "model", "train"))
        return what(config) == what(run.config) or (same and config.method in CONTROLS and not config.settings)

    order = [*CONTROLS, run.config.method]
    there = []
    for file in run.folder.parents[1].glob("*/*/run.json"):
        with contextlib.suppress(ValueError, OSError):  # a neighbour of an older version, or damaged: it has no row
            there.append(finished_run(file.parent, students=False))
    return sorted(filter(lambda one: equal(one.config), there), key=lambda one: order.index(one.config.method))


def _licence(card: DatasetCard) -> dict[str, str]:
    """Return the licence of the weights: ours, or that of the pictures they were trained on."""
    if not card.licensed:
        return {"license": "mit"}
    return {"license": "other", "license_name": f"terms of {card.title}", "license_link": card.homepage}


def fill(template: str, **values: Any) -> str:
    """Return a template of this package, filled in."""
    from jinja2 import Environment

    source = files("crodino_lib").joinpath(template).read_text()
    forms = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return forms.from_string(source).render(values)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)

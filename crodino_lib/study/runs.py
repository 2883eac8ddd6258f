"""Train each run once, record it whole, and find it again by everything that decided its result."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

import crodino_lib
from crodino_lib.augment import plain
from crodino_lib.callbacks import CountOperations, MeasureGradients
from crodino_lib.config import TRAINING_VERSION, RunConfig
from crodino_lib.cost import inference_cost, latency_ms
from crodino_lib.data.sample import DatasetCard, Scenes, SensorSet
from crodino_lib.device import autocast
from crodino_lib.evaluate import evaluate, load_confusion, save_confusion, scores
from crodino_lib.io import atomic_write, file_lock, read_json, read_table
from crodino_lib.methods.base import Method
from crodino_lib.methods.registry import build_method, method_name
from crodino_lib.settings import choose, load_object
from crodino_lib.train import train

FRAME_RECORDER = "crodino_lib.analysis.extraction:RecordLatents"  # an optional package: imported where frames are kept
TRACK, TRACKERS = "CRODINO_TRACK", {"tensorboard": "crodino_lib.tracking:Track"}
RECORDED = {"hash", "training_version", "config", "cost", "metrics", "dataset_fingerprint"}
CONVENTION = (
    "mIoU from one confusion matrix over the whole split at the size networks see; pixels labelled 255 left out; "
    "classes absent from both truth and prediction left out of the mean"
)
VERSIONS = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "umap-learn", "mitsuba")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and the content of its ``run.json``.

    The folder also has ``history.csv``, ``confusion.npz`` and one ``student-<sensors>.safetensors`` for each student.
    """

    folder: Path
    record: dict

    @property
    def config(self) -> RunConfig:
        """The settings it was trained with."""
        return RunConfig.parse(self.record["config"])

    @property
    def name(self) -> str:
        """Its method with the settings that are not default, as tables print it."""
        return method_name(self.record["config"]["method"], self.record["config"]["settings"])

    def history(self) -> pd.DataFrame:
        """Return one row per epoch: loss terms, learning rate, validation mIoU per student, seconds."""
        return read_table(self.folder / "history.csv", ("epoch",))

    def metrics(self) -> pd.DataFrame:
        """Return ``split``, ``sensors``, ``miou``, ``pixel_accuracy`` and ``images``, a row per split and sensors."""
        return pd.DataFrame(self.record["metrics"]).drop(columns="class_iou")

    def miou(self, sensors: str, split: str = "test") -> float:
        """Return the mIoU in 0..1 of one student, such as ``rgb`` or ``rgb+depth``, on one split."""
        wanted = (split, str(sensors))
        return next(row["miou"] for row in self.record["metrics"] if (row["split"], row["sensors"]) == wanted)

    def confusion(self) -> dict[tuple[str, str], np.ndarray]:
        """Return (split, sensors) -> (N, K, K) counts per image; rows are the truth."""
        return load_confusion(self.folder / "confusion.npz")

    def method(self, card: DatasetCard) -> Method:
        """Return the method with its trained students, in evaluation mode; with its teacher where that run is kept."""
        method = build_method(self.config, card)
        method.load_students(self.folder)
        if teacher := self.record["parent"]:
            folder = self.folder.parents[1] / teacher["method"] / teacher["run"]
            if finished_run(folder) is None:
                method.teacher = None
            else:
                method.load_teacher(folder)
        return method.eval()

    @torch.inference_mode()
    def segment(
        self, card: DatasetCard, scenes: Scenes, indices: list[int], students: Iterable[str] = ()
    ) -> dict[str, np.ndarray]:
        """Return the most likely classes (N, H, W) of some scenes, from every student or from those that are named."""
        method, cpu, found = self.method(card), torch.device("cpu"), {}
        for name in students or map(str, method.serves):
            images = plain(scenes, indices, card, SensorSet.parse(name), cpu).images
            found[name] = method.predict(images).argmax(dim=1).numpy()
        return found


def run_hash(config: RunConfig, fingerprint: str) -> str:
    """Return a hash of everything that decides a run's result: settings, data, and the version of the training."""
    settings = config.model_dump(mode="json")
    del settings["data"]["root"]  # where the copy lies decides nothing; its fingerprint does
    text = json.dumps([settings, fingerprint, TRAINING_VERSION], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run_folder(runs: Path, config: RunConfig, fingerprint: str) -> Path:
    """Return ``runs/<dataset>/<method>/<seed>-<hash>``."""
    return runs / config.data.dataset / config.method / f"{config.seed}-{run_hash(config, fingerprint)[:8]}"


def finished_run(folder: Path, students: bool = True) -> Run | None:
    """Return the run in ``folder`` if it is finished; with ``students`` their weights must be there, too.

    Raises:
        FileNotFoundError: the record is there, but another file of the run is missing.
        ValueError: its record is damaged, or another version of the training made it.
    """
    file = folder / "run.json"
    if not file.exists():
        return None
    run = Run(folder, read_json(file))
    if (made_by := run.record.get("training_version")) != TRAINING_VERSION:
        raise ValueError(
            f"{folder} was trained by version {made_by or 'before 2'} of the training, which computes something else "
            f"than version {TRAINING_VERSION}: their results do not compare. Move the folder away to train it again"
        )
    if missing := RECORDED - set(run.record):
        raise ValueError(f"{file} is damaged: it has no {', '.join(sorted(missing))}; delete the folder to train again")
    weights = [f"student-{name}.safetensors" for name in run.record["cost"]["students"]] if students else []
    if gone := [name for name in ("confusion.npz", "history.csv", *weights) if not (folder / name).exists()]:
        raise FileNotFoundError(
            f"the finished run {folder} has lost {', '.join(gone)}; delete the folder to train it again"
        )
    (folder / "resume.pt").unlink(missing_ok=True)  # left where a process died between its last two steps
    return run


def fetch_run(config: RunConfig, runs: Path, fingerprint: str, card: DatasetCard, scenes: Mapping[str, Scenes]) -> Run:
    """Return the finished run of ``config``: from its folder, else trained, resumed where it was interrupted.

    A run with a teacher fetches the teacher's first, so that all methods of a seed share one. ``runs`` is the folder of
    all runs; ``fingerprint``, ``card`` and ``scenes``, by split, are the dataset's.
    """
    folder = run_folder(runs, config, fingerprint)
    if run := finished_run(folder):
        return run
    method = build_method(config, card)
    parent = fetch_run(config.parent, runs, fingerprint, card, scenes) if config.parent else None
    if parent:
        method.load_teacher(parent.folder)
    for split in card.splits:
        _ = scenes[split]  # a damaged test picture is an error before training, not after
    with file_lock(folder):
        if run := finished_run(folder):  # another process finished it while this one waited
            return run
        return _train_and_record(config, folder, fingerprint, method, parent, scenes)


def _train_and_record(
    config: RunConfig, folder: Path, fingerprint: str, method: Method, parent: Run | None, scenes: Mapping[str, Scenes]
) -> Run:
    operations, resume_file = CountOperations(), folder / "resume.pt"
    callbacks = [operations, MeasureGradients()]
    if config.train.frames:
        callbacks.append(load_object(FRAME_RECORDER)(folder / "frames", config.train.frames))
    tracker = tracker_of(folder)
    callbacks += [tracker] if tracker else []
    trained = train(method, scenes["train"], scenes["val"], config, resume_file, callbacks)
    if tracker:
        tracker.close(trained.history)
    confusion = confusions(method, scenes, trained.cost["precision"])
    for name, weights in trained.students.items():
        with atomic_write(folder / f"student-{name}.safetensors") as path:
            save_file(weights, path)
    with atomic_write(folder / "history.csv") as path:
        trained.history.to_csv(path, index=False)
    save_confusion(folder / "confusion.npz", confusion)
    deployed = {name: deployed_cost(method, name) for name in method.students}
    record = {
        "config": config.model_dump(mode="json", exclude={"data": {"root"}}),
        "hash": run_hash(config, fingerprint),
        "training_version": TRAINING_VERSION,
        "dataset_fingerprint": fingerprint,
        "training_images": trained.cost["scenes"]["labelled"],
        "unlabelled_images": trained.cost["scenes"].get("unlabelled", 0),
        "label_free_terms": list(method.label_free) if "unlabelled" in trained.cost["scenes"] else [],
        "metrics": [
            {"split": split, "sensors": sensors, "images": len(counts)} | named_scores(counts, method.card)
            for (split, sensors), counts in confusion.items()
        ],
        "convention": CONVENTION,
        "cost": trained.cost | operations.cost(trained.cost["steps"]) | {"students": deployed},
        "parent": teacher_record(parent) if parent else None,
        "environment": environment(),
    }
    with atomic_write(folder / "run.json") as path:  # last: its presence means that the folder is complete
        path.write_text(json.dumps(record, indent=1))
    resume_file.unlink(missing_ok=True)
    return Run(folder, record)


def tracker_of(folder: Path) -> Any:
    """Return what shows the training while it runs, where ``CRODINO_TRACK`` names it, else None."""
    name = os.environ.get(TRACK)
    return load_object(TRACKERS[choose(name, TRACKERS, TRACK)])(folder / "events") if name else None


def confusions(method: Method, scenes: Mapping[str, Scenes], precision: str) -> dict[tuple[str, str], np.ndarray]:
    """Return the confusion per image of every test split and every set of sensors the method serves."""
    device, batch_size = next(method.parameters()).device, method.config.train.batch_size
    results = {}
    for split, sensors in product([name for name in method.card.splits if name not in ("train", "val")], method.serves):
        with autocast(device, precision):
            counts = evaluate(method.eval().predict, scenes[split], method.card, sensors, batch_size, device)
        results[split, str(sensors)] = counts
    return results


def named_scores(confusion: np.ndarray, card: DatasetCard) -> dict:
    """Return the scores of one split and set of sensors, as they stand in the record."""
    values = scores(confusion)
    classes = zip(card.classes, values["class_iou"], strict=True)
    named = {"class_iou": {name: None if np.isnan(iou) else iou for name, iou in classes}}
    return {"miou": values["miou"], "pixel_accuracy": values["pixel_accuracy"]} | named


def deployed_cost(method: Method, name: str) -> dict[str, float]:
    """Return parameters, operations and latency of one exported student on one scene at the run's size."""
    student = method.students[name]
    device = next(student.parameters()).device
    width, height = method.config.data.pixels(method.card.native_size)
    channels = [method.card.sensors[sensor].channels for sensor in SensorSet.parse(name)]
    images = [torch.zeros(1, count, height, width, device=device) for count in channels]
    return inference_cost(student, images) | {"latency_ms": latency_ms(student, images)}


def teacher_record(teacher: Run) -> dict:
    """Return the teacher's entry of run.json: which run it is, its scores and its share of the cost."""
    name = str(SensorSet(teacher.config.sensors))
    return {
        "method": teacher.config.method,
        "sensors": name,
        "run": teacher.folder.name,
        "hash": teacher.record["hash"],
        "miou": {row["split"]: row["miou"] for row in teacher.record["metrics"] if row["sensors"] == name},
        "train_seconds": teacher.record["cost"]["train_seconds"],
        "train_flops": teacher.record["cost"]["train_flops"],
    }


def environment() -> dict[str, str]:
    """Return versions, platform and commit a result was made with."""
    here = Path(crodino_lib.__file__).parent
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return {
        "crodino": crodino_lib.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "commit": git.stdout.strip() or "unknown",
        **{name: _version(name) for name in VERSIONS},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # training needs neither the renderer nor UMAP
        return "not installed"

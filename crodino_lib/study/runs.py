"""Runs: trained once, recorded whole, found again by everything that decided their result."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

import crodino_lib
from crodino_lib.config import RunConfig
from crodino_lib.cost import inference_cost, latency_ms
from crodino_lib.data.sample import DatasetCard, Scenes
from crodino_lib.evaluate import evaluate, load_confusion, save_confusion, scores
from crodino_lib.io import atomic_write, file_lock, read_json
from crodino_lib.methods.base import Method
from crodino_lib.methods.registry import build_method
from crodino_lib.train import autocast, train

TRAINING_CODE = ("data", "augment.py", "models", "losses", "methods", "train.py", "evaluate.py")
CONVENTION = (
    "mIoU from one confusion matrix over the whole split at the size networks see; pixels labelled 255 left out; "
    "classes absent from both truth and prediction left out of the mean"
)
RECORDED_VERSIONS = ("torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn", "umap-learn", "mitsuba")


@dataclass(frozen=True)
class Run:
    """A finished run in its folder.

    Attributes:
        folder: holds ``run.json``, ``history.csv``, ``confusion.npz`` and a ``student-<sensors>.safetensors`` each.
        record: what ``run.json`` says.
    """

    folder: Path
    record: dict

    @property
    def config(self) -> RunConfig:
        """The settings it was trained with."""
        return RunConfig.parse(self.record["config"])

    def history(self) -> pd.DataFrame:
        """One row per epoch: loss terms, learning rate, validation mIoU per sensor, seconds."""
        return pd.read_csv(self.folder / "history.csv")

    def confusion(self) -> dict[str, np.ndarray]:
        """``<split>/<sensors>`` -> (N, K, K) counts per image; rows are the truth."""
        return load_confusion(self.folder / "confusion.npz")

    def method(self, card: DatasetCard) -> Method:
        """The method with its trained students, in evaluation mode; with its teacher, where that run is still there."""
        method = build_method(self.config, card)
        method.load_students(self.folder)
        if teacher := self.record["parent"]:
            folder = self.folder.parents[1] / teacher["method"] / teacher["run"]
            if finished_run(folder):
                method.load_teacher(folder)
            else:
                method.teacher = None
        return method.eval()


def run_hash(config: RunConfig, fingerprint: str) -> str:
    """Hash of everything that decides a run's result: settings, data, and the source of the code that trains."""
    settings = config.model_dump(mode="json")
    del settings["data"]["root"]  # where the copy lies decides nothing; its fingerprint does
    text = json.dumps([settings, fingerprint, training_code_hash()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def training_code_hash() -> str:
    """Hash of the source files that decide a training's result."""
    return source_hash(*TRAINING_CODE)


def source_hash(*parts: str) -> str:
    """Hash of the library's source below the given files and folders."""
    library = Path(crodino_lib.__file__).parent
    files = [
        file
        for part in parts
        for file in ([library / part] if part.endswith(".py") else (library / part).rglob("*.py"))
    ]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(library)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def run_folder(runs: Path, config: RunConfig, fingerprint: str) -> Path:
    """``runs/<dataset>/<method>/<seed>-<hash>``."""
    return runs / config.data.dataset / config.method / f"{config.seed}-{run_hash(config, fingerprint)[:8]}"


def finished_run(folder: Path) -> Run | None:
    """The run in ``folder`` if it is finished.

    Raises:
        FileNotFoundError: it says that it is finished, but a file of it is gone.
        ValueError: its record is damaged.
    """
    if not (folder / "run.json").exists():
        return None
    run = Run(folder, read_json(folder / "run.json"))
    if missing := {"hash", "config", "cost", "metrics", "dataset_fingerprint"} - set(run.record):
        raise ValueError(
            f"{folder / 'run.json'} is damaged: it has no {', '.join(sorted(missing))}; remove the folder to train the "
            "run again"
        )
    students = [f"student-{name}.safetensors" for name in run.record["cost"]["students"]]
    if gone := [name for name in ("confusion.npz", "history.csv", *students) if not (folder / name).exists()]:
        raise FileNotFoundError(
            f"the finished run {folder} has lost {', '.join(gone)}; remove the folder to train it again"
        )
    (folder / "resume.pt").unlink(missing_ok=True)  # left where a process died between its last two steps
    return run


def fetch_run(config: RunConfig, runs: Path, fingerprint: str, card: DatasetCard, scenes: Mapping[str, Scenes]) -> Run:
    """The finished run of ``config``: from its folder, else trained, resumed where it was interrupted.

    A run with a teacher fetches the teacher's first, so that all rows of a seed share one.

    Args:
        config: the run.
        runs: where runs lie.
        fingerprint: of the dataset.
        card: of the dataset.
        scenes: split -> scenes, loaded when asked for.
    """
    folder = run_folder(runs, config, fingerprint)
    if run := finished_run(folder):
        return run
    method = build_method(config, card)
    parent = fetch_run(config.parent, runs, fingerprint, card, scenes) if config.parent else None
    if parent:
        method.load_teacher(parent.folder)
    for split in card.splits:
        _ = scenes[split]  # a damaged test picture is told before training, not after
    with file_lock(folder):
        if run := finished_run(folder):  # another process finished it while this one waited
            return run
        resume_file = folder / "resume.pt"
        trained = train(method, scenes["train"], scenes["val"], config, resume_file, frames=folder / "frames")
        confusion = confusions(method, scenes, card, config, trained.cost["precision"])
        for name, weights in trained.students.items():
            with atomic_write(folder / f"student-{name}.safetensors") as path:
                save_file(weights, path)
        with atomic_write(folder / "history.csv") as path:
            trained.history.to_csv(path, index=False)
        save_confusion(folder / "confusion.npz", confusion)
        record = {
            "finished": True,
            "config": config.model_dump(mode="json", exclude={"data": {"root"}}),
            "hash": run_hash(config, fingerprint),
            "dataset_fingerprint": fingerprint,
            "training_images": len(scenes["train"]),
            "metrics": {key: metrics(matrix, card) for key, matrix in confusion.items()},
            "convention": CONVENTION,
            "cost": trained.cost | {"students": {name: deployed_cost(method, name) for name in method.students}},
            "parent": teacher_record(parent) if parent else None,
            "environment": environment(),
        }
        with atomic_write(folder / "run.json") as path:  # last: its presence says that the folder is complete
            path.write_text(json.dumps(record, indent=1))
        resume_file.unlink(missing_ok=True)
        return Run(folder, record)


def confusions(
    method: Method, scenes: Mapping[str, Scenes], card: DatasetCard, config: RunConfig, precision: str
) -> dict[str, np.ndarray]:
    """Confusion per image of every test split and every set of sensors the method serves."""
    device = next(method.parameters()).device
    found = {}
    for split in card.splits:
        if split in ("train", "val"):
            continue
        for sensors in method.serves:
            with autocast(device, precision):
                matrix = evaluate(method.eval().predict, scenes[split], card, sensors, config.train.batch_size, device)
            found[f"{split}/{'+'.join(sensors)}"] = matrix
    return found


def metrics(confusion: np.ndarray, card: DatasetCard) -> dict:
    """Scores of one split, as they stand in the record."""
    found = scores(confusion)
    return {
        "miou": found["miou"],
        "pixel_accuracy": found["pixel_accuracy"],
        "class_iou": {
            name: None if np.isnan(iou) else iou for name, iou in zip(card.classes, found["class_iou"], strict=True)
        },
        "images": len(confusion),
    }


def deployed_cost(method: Method, name: str) -> dict[str, float]:
    """Parameters, operations and latency of one exported student on one scene at the run's size."""
    student = method.students[name]
    device = next(student.parameters()).device
    width, height = method.config.data.pixels(method.card.native_size)
    channels = [method.card.sensors[sensor].channels for sensor in name.split("+")]
    images = [torch.zeros(1, count, height, width, device=device) for count in channels]
    return inference_cost(student, images) | {"latency_ms": latency_ms(student, images)}


def teacher_record(teacher: Run) -> dict:
    """What a run's record says of its teacher's run: where it is, its score and its share of the cost."""
    name = "+".join(teacher.config.sensors)
    return {
        "method": teacher.config.method,
        "sensors": name,
        "run": teacher.folder.name,
        "hash": teacher.record["hash"],
        "miou": {key: metric["miou"] for key, metric in teacher.record["metrics"].items() if key.endswith(f"/{name}")},
        "train_seconds": teacher.record["cost"]["train_seconds"],
        "train_flops": teacher.record["cost"]["train_flops"],
    }


def environment() -> dict[str, str]:
    """Versions, platform and commit a result was made with."""
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(crodino_lib.__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "crodino": crodino_lib.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "commit": git.stdout.strip() or "unknown",
        **{name: version(name) for name in RECORDED_VERSIONS},
    }

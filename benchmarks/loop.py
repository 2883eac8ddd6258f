"""Measure a baseline's training beside a bare loop on the same batches, and beside the script that anybody would write.

    python benchmarks/loop.py [STEPS]

The bare loop has a forward pass, a backward pass, clipping and an optimiser's step, and nothing else. The script reads
pictures from disk in a DataLoader with a worker per core, augments them one by one with torchvision, and trains the
same architecture in float32 as timm builds it. Both take turns with the library's loop; each turn makes STEPS steps
(default 20). Prints images per second and ratios from one run on one machine. Run nothing else beside it.
"""

import crodino_lib.losses  # noqa: F401 # isort: skip  (first: it mends the import of torchvision)

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from unittest import mock

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

from crodino_lib import train as loop
from crodino_lib.config import RunConfig, StudyConfig
from crodino_lib.data.sample import IGNORE
from crodino_lib.methods.registry import build_method
from crodino_lib.models.segnet import single_sensor_net
from crodino_lib.study.study import Study
from crodino_lib.train import finite_sum, next_batch
from crodino_lib.training import Callback, Training, one_cycle

TURNS, WARM = 3, 3  # the first steps of a turn are not counted
CORES = os.cpu_count() or 1
CPU = torch.device("cpu")


class Clock(Callback):
    """Note when each step has its loss."""

    def __init__(self):
        super().__init__()
        self.moments: list[float] = []

    def on_terms(self, training, terms) -> None:
        """Note the moment."""
        self.moments.append(time.perf_counter())

    def step_seconds(self) -> float:
        """Return the median seconds from step to step."""
        return statistics.median(np.diff(self.moments[WARM:]))


def library(study: Study, config: RunConfig, batches: list | None = None) -> float:
    """Return the seconds of a step of ``train``; with ``batches``, they are given and not made."""
    clock, method, given = Clock(), build_method(config, study.card), cycle(batches or [])
    make = (lambda training: next(given)) if batches else next_batch
    with mock.patch.object(loop, "next_batch", make), tempfile.TemporaryDirectory() as folder:
        loop.train(method, study.scenes["train"], study.scenes["val"], config, Path(folder, "resume.pt"), [clock])
    return clock.step_seconds()


def bare(study: Study, config: RunConfig, batches: list) -> float:
    """Return the seconds of a step of a bare loop over the same batches, with the same network and precision."""
    method = build_method(config, study.card).to(memory_format=torch.channels_last).train()
    parameters = list(method.parameters())
    optimiser = torch.optim.AdamW(parameters, config.train.learning_rate, fused=True)
    clock, precision = Clock(), loop.resolve_precision(config.train.precision, CPU)
    for place, batch in enumerate(islice(cycle(batches), config.train.steps)):
        with loop.autocast(CPU, precision):
            loss, _ = finite_sum(method(batch, place / config.train.steps), place, batch.ids)
        clock.on_terms(None, None)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(parameters, config.train.clip_norm)
        optimiser.step()
    return clock.step_seconds()


class Pictures(Dataset):
    """Pictures and labels on disk, read and augmented one at a time."""

    def __init__(self, folder: Path, size: tuple[int, int]):
        self.folder, self.ids = folder, sorted(path.stem for path in (folder / "rgb").glob("*.png"))
        both = [v2.RandomResizedCrop(size, scale=(0.4, 1.0), ratio=(1.2, 1.5)), v2.RandomHorizontalFlip()]
        self.both, self.colours = v2.Compose(both), v2.ColorJitter(0.3, 0.3, 0.3, 0.05)
        numbers = [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
        self.numbers = v2.Compose(numbers)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a picture (3, H, W) and its labels (H, W)."""
        name = f"{self.ids[index]}.png"
        picture = v2.functional.to_image(Image.open(self.folder / "rgb" / name))
        labels = Mask(torch.from_numpy(np.array(Image.open(self.folder / "label" / name))))
        picture, labels = self.both(picture, labels)
        return self.numbers(self.colours(picture)), labels.long()


def script(study: Study, config: RunConfig, folder: Path) -> float:
    """Return the seconds of a step of the script."""
    width, height = config.data.pixels(study.card.native_size)
    loader = DataLoader(
        Pictures(folder, (height, width)), config.train.batch_size, shuffle=True, num_workers=CORES, drop_last=True,
        persistent_workers=True,
    )  # fmt: skip
    network = single_sensor_net(3, len(study.card.classes), config.model)
    network.encoder = timm.create_model(
        config.model.encoder, features_only=True, output_stride=config.model.output_stride
    )
    optimiser, told = torch.optim.AdamW(network.parameters(), config.train.learning_rate), Clock()
    schedule = one_cycle(optimiser, config.train, config.train.steps)
    compute_loss, step = nn.CrossEntropyLoss(ignore_index=IGNORE), 0
    while step < config.train.steps:
        for picture, labels in islice(loader, config.train.steps - step):
            loss = compute_loss(network.train()(picture).logits, labels)
            loss.item()
            told.on_terms(None, None)
            optimiser.zero_grad()
            loss.backward()
            clip_grad_norm_(network.parameters(), config.train.clip_norm)
            optimiser.step()
            schedule.step()
            step += 1
    return told.step_seconds()


def save_pictures(study: Study, folder: Path) -> None:
    """Write the training split as a PNG per picture and labels."""
    scenes = study.scenes["train"]
    for name in ("rgb", "label"):
        (folder / name).mkdir()
    for place, scene_id in enumerate(scenes.ids):
        Image.fromarray(np.ascontiguousarray(scenes.images["rgb"][place].transpose(1, 2, 0))).save(
            folder / "rgb" / f"{scene_id}.png"
        )
        Image.fromarray(np.asarray(scenes.labels[place])).save(folder / "label" / f"{scene_id}.png")


def main() -> None:
    """Measure in turns and print."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    scenes = {"scenes": [96, 2, 2], "steps": steps, "epochs": 1, "weights": "none"}
    with tempfile.TemporaryDirectory() as results, tempfile.TemporaryDirectory() as pictures:
        study = Study(StudyConfig.parse({"profile": "cpu", "study": "loop", **scenes}), Path(results))
        config = study.run_config("baseline", ("rgb",))
        method = build_method(config, study.card)
        training = Training(method, config, study.scenes["train"], study.scenes["val"], CPU, "fp32")
        batches = []
        for training.step in range(4):
            batches.append(next_batch(training))
        save_pictures(study, Path(pictures))
        acts: dict[str, Callable[[], float]] = {
            "train, given its batches": lambda: library(study, config, batches),
            "bare loop on the same batches": lambda: bare(study, config, batches),
            "train": lambda: library(study, config),
            "script with a DataLoader, float32, eager": lambda: script(study, config, Path(pictures)),
        }
        turns = [{name: act() for name, act in acts.items()} for _ in range(TURNS)]
    taken = {name: statistics.median(turn[name] for turn in turns) for name in acts}
    size, count = config.data.size, config.train.batch_size
    print(f"{size}, batch {count}, {torch.get_num_threads()} threads, {loop.resolve_precision('auto', CPU)}")
    for name, seconds in taken.items():
        print(f"{name:42} {1000 * seconds:8.1f} ms a step  {count / seconds:7.1f} images/s")
    given, plain, ours, script_s = taken.values()
    print(
        f"train takes {given / plain:.3f} of the bare loop's time, and {script_s / ours:.2f} times the script's speed"
    )


if __name__ == "__main__":
    main()

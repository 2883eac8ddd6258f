"""Made-up finished runs whose mIoU is chosen."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Finished:
    """A finished run whose students have a given share of right pixels in every image."""

    name: str
    seed: int
    right: dict  # sensors at test -> percent of the pixels of two equally frequent classes, or one per image
    teacher: dict | None = None
    trained_on: tuple = ("rgb",)
    steps: int = 100
    dataset: str = "rooms"
    read: list = field(default_factory=list)

    @property
    def folder(self):
        return Path(f"{self.name}-{self.seed}")

    @property
    def record(self):
        config = {
            "seed": self.seed,
            "sensors": self.trained_on,
            "data": {"dataset": self.dataset},
            "model": {},
            "train": {"steps": self.steps},
        }
        return {"config": config, "dataset_fingerprint": "abc", "parent": self.teacher}

    def confusion(self):
        self.read.append(self.name)
        return {("test", sensors): counts(right) for sensors, right in self.right.items()}


def counts(right):
    """Return (4, 2, 2) counts whose mIoU is ``right`` percent where that is one number: all errors go both ways."""
    rows = []
    for one in np.broadcast_to(np.asarray(right, float), 4):
        wrong = round(1e9 * (100 - one) / (100 + one))  # IoU = (1e9 - wrong) / (1e9 + wrong)
        rows.append([[10**9 - wrong, wrong], [wrong, 10**9 - wrong]])
    return np.array(rows)


def runs(**values):
    """Return runs of RGB students: method -> mIoU of the seeds 0, 1, ...; None for a seed without a run."""
    return [
        Finished(name.replace("_", "-").replace("--", ":"), seed, {"rgb": miou})
        for name, column in values.items()
        for seed, miou in enumerate(column)
        if miou is not None
    ]

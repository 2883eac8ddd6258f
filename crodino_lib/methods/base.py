"""What every row of the table is."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crodino_lib.augment import Batch
from crodino_lib.config import RunConfig, Strict
from crodino_lib.data.sample import DatasetCard
from crodino_lib.models.encoder import load_weights
from crodino_lib.models.segnet import SegNet, SegOutput


class Method(nn.Module, abc.ABC):
    """A row of the table: one deployable student per sensor, and whatever trains them.

    Attributes:
        Settings: the method's own settings; each departure from its paper is one of them.
        sensor_count: how many sensors it trains with.
        augmentation: ``paired`` draws geometry once per scene, ``decoupled`` once per sensor.
        split: whether its students' bottleneck is read as a shared and a private half.
        students: sensor -> network. What is not a student is dropped at export and never counted.
    """

    Settings: ClassVar[type[Strict]] = Strict
    sensor_count: ClassVar[int]
    augmentation: Literal["paired", "decoupled"] = "paired"
    split: ClassVar[bool] = False

    def __init__(self, card: DatasetCard, config: RunConfig, settings: Strict):
        super().__init__()
        self.card = card
        self.sensors = config.sensors
        self.settings = settings
        self.num_classes = len(card.classes)
        self.students = nn.ModuleDict({sensor: self._student(sensor, config) for sensor in config.sensors})
        torch.manual_seed(_seed(config.seed, "rest"))  # whatever a subclass adds

    def _student(self, sensor: str, config: RunConfig) -> SegNet:
        """A sensor's student; equal seeds give every method of a study the same start."""
        torch.manual_seed(_seed(config.seed, sensor))
        return SegNet(self.card.sensors[sensor].channels, self.num_classes, config.model, self.split)

    @abc.abstractmethod
    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Weighted loss terms of one batch; their sum is minimised.

        Args:
            batch: augmented images, labels and warps per sensor.
            progress: fraction of the run that is done, in [0, 1); schedules published in iterations become fractions.
        """

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The training step, where wrappers such as DistributedDataParallel look for it."""
        return self.training_step(batch, progress)

    @property
    def serves(self) -> tuple[tuple[str, ...], ...]:
        """The sets of sensors it answers, each sorted as in the run."""
        return tuple((sensor,) for sensor in self.sensors)

    def predict(self, images: dict[str, Tensor]) -> Tensor:
        """Logits (B, K, H, W) for one of the sets of sensors that the method serves.

        Raises:
            ValueError: the method does not serve this set.
        """
        (sensor,) = self.require_served(images)
        return upsample(self.students[sensor](images[sensor]).logits, images[sensor])

    def require_served(self, images: Iterable[str]) -> tuple[str, ...]:
        """The set of sensors given, if it is served."""
        given = tuple(sensor for sensor in self.sensors if sensor in images)
        if given not in self.serves or set(images) - set(given):
            served = " or ".join("{" + ", ".join(subset) + "}" for subset in self.serves)
            raise ValueError(f"this {type(self).__name__} answers {served}, not {{{', '.join(images)}}}")
        return given

    def latents(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bottleneck blocks ``<sensor>/shared`` and ``<sensor>/private`` (B, C, h, w) of every sensor given.

        A method without a split is cut in the same two halves, which then mean nothing: that is a null model.
        """
        blocks = {}
        for sensor, image in images.items():
            out: SegOutput = self.students[sensor](image)
            shared, private = out.context.chunk(2, dim=1)
            blocks |= {f"{sensor}/shared": shared, f"{sensor}/private": private}
        return blocks

    def load_students(self, folder: Path) -> None:
        """Load the students a finished run saved in ``folder``."""
        for sensor, student in self.students.items():
            student.load_state_dict(load_weights(folder / f"student-{sensor}.safetensors"))


def upsample(logits: Tensor, like: Tensor) -> Tensor:
    """Logits enlarged to the height and width of ``like``."""
    return F.interpolate(logits.float(), size=like.shape[-2:], mode="bilinear", align_corners=False)


def _seed(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4])

"""Define what every method is: deployable students, and whatever trains them."""

import abc
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard, SensorSet
from crodino_lib.losses import segmentation_cross_entropy
from crodino_lib.models.encoder import load_weights
from crodino_lib.models.segnet import SegNet, SegOutput, single_sensor_net
from crodino_lib.settings import Strict


class Teacher(nn.Module):
    """A trained network of ``sensors``, in their order; always in evaluation mode and never with gradients."""

    def __init__(self, network: nn.Module, sensors: tuple[str, ...]):
        super().__init__()
        self.network = network.requires_grad_(False)
        self.sensors = sensors
        self.train(False)

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode, whatever is asked: in training mode its BatchNorms would follow the batches."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: dict[str, Tensor]) -> SegOutput:
        """Return the output for a batch of images per sensor."""
        return self.network(*[images[sensor] for sensor in self.sensors])


class Method(nn.Module, abc.ABC):
    """A method: deployable students, and whatever trains them.

    Attributes:
        taught_by: ``fusion``: a network that sees both sensors of the study; ``first``: the baseline of the first
            sensor; None: no teacher.
        students: name of a ``SensorSet`` -> network. What is in no student is dropped at export and never counted.
        teacher: the trained network it learns from, or None.
    """

    Settings: ClassVar[type[Strict]] = Strict  # its own; each departure from its paper is one of them
    sensor_count: ClassVar[int]  # how many sensors its students are of
    taught_by: ClassVar[Literal["fusion", "first"] | None] = None
    can_teach: ClassVar[bool] = False  # whether it may be the teacher of other methods
    augmentation: Literal["paired", "decoupled"] = "paired"  # geometry is drawn once per scene, or once per sensor
    split: ClassVar[bool] = False  # whether its students' bottleneck is read as a shared and a private half

    def __init__(self, card: DatasetCard, config: RunConfig, settings: Strict, teacher: nn.Module | None = None):
        super().__init__()
        self.card = card
        self.config = config
        self.sensors = SensorSet(config.sensors)
        self.settings = settings
        self.num_classes = len(card.classes)
        self.students = nn.ModuleDict(self.build_students())
        self.teacher = Teacher(teacher, config.teacher_sensors) if teacher else None
        self.seed_for("rest")  # whatever a subclass adds

    def build_students(self) -> dict[str, nn.Module]:
        """Build one network per sensor; methods that serve other sets of sensors build others."""
        return {sensor: self.build_student(sensor) for sensor in self.sensors}

    def build_student(self, sensor: str, skip: bool = True) -> SegNet:
        """Build the network of one sensor; equal seeds give every method of a study the same start."""
        self.seed_for(sensor)
        channels = self.card.sensors[sensor].channels
        return single_sensor_net(channels, self.num_classes, self.config.model, self.split, skip)

    def seed_for(self, purpose: str) -> None:
        """Make the next random weights depend on the run's seed and on what they are for, and on nothing else."""
        told = hashlib.sha256(f"{self.config.seed}/{purpose}".encode())
        torch.manual_seed(int.from_bytes(told.digest()[:4]))

    @property
    def batch_sensors(self) -> tuple[str, ...]:
        """Every sensor of its batches: its own and those of its teacher."""
        return tuple(dict.fromkeys(self.sensors + (self.teacher.sensors if self.teacher else ())))

    @abc.abstractmethod
    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the weighted loss terms of one batch; cross-entropies are named ``segmentation/...``.

        Args:
            batch: augmented images, labels and warps per sensor.
            progress: fraction of the run that is done, in [0, 1); schedules published in iterations become fractions.
        """

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The training step, under the name that modules are called by."""
        return self.training_step(batch, progress)

    def segmentation(self, outputs: Mapping[str, SegOutput], labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the cross-entropy of every output, named by its student: a sensor, or else all, in paired geometry."""
        terms = {}
        for name, out in outputs.items():
            student, sensor = (name, name) if name in labels else (self.sensors, self.sensors[0])
            terms[f"segmentation/{student}"] = segmentation_cross_entropy(out.logits, labels[sensor])
        return terms

    def export(self) -> None:
        """Bring the students up to date, where they are cut from weights that are trained in another form."""

    def diagnostics(self) -> dict[str, float]:
        """Return extra scalars of an epoch for history.csv."""
        return {}

    @property
    def serves(self) -> tuple[SensorSet, ...]:
        """The sets of sensors that have a student, each sorted as in the run."""
        return tuple(SensorSet.parse(name) for name in self.students)

    def predict(self, images: dict[str, Tensor]) -> Tensor:
        """Return the logits (B, K, H, W) for one of the sets of sensors that the method serves.

        Raises:
            ValueError: the method does not serve this set.
        """
        given = SensorSet(sensor for sensor in self.sensors if sensor in images)
        if given not in self.serves or set(images) - set(given):
            served = " or ".join("{" + ", ".join(subset) + "}" for subset in self.serves)
            raise ValueError(f"this {type(self).__name__} serves {served}, not {{{', '.join(images)}}}")
        student = self.students[str(given)]
        return upsample(student(*[images[sensor] for sensor in given]).logits, images[given[0]])

    def latents(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the blocks ``<student>/shared`` and ``<student>/private`` (B, C, h, w) of every student it can feed.

        A method without a split is cut in the same two blocks, which then mean nothing: that is a null model.
        """
        blocks = {}
        for name, student in self.students.items():
            sensors = SensorSet.parse(name)
            if set(sensors) <= set(images):
                out: SegOutput = student(*[images[sensor] for sensor in sensors])
                blocks[f"{name}/shared"], blocks[f"{name}/private"] = out.context.chunk(2, dim=1)
        return blocks

    def load_students(self, folder: Path) -> None:
        """Load the students a finished run saved in ``folder``."""
        for name, student in self.students.items():
            student.load_state_dict(load_weights(folder / f"student-{name}.safetensors"))

    def load_teacher(self, folder: Path) -> None:
        """Load the teacher from the folder of its finished run."""
        path = folder / f"student-{SensorSet(self.teacher.sensors)}.safetensors"
        self.teacher.network.load_state_dict(load_weights(path))


def upsample(logits: Tensor, like: Tensor) -> Tensor:
    """Return logits enlarged to the height and width of ``like``."""
    return F.interpolate(logits.float(), size=like.shape[-2:], mode="bilinear", align_corners=False)

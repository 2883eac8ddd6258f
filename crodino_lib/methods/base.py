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

    def __init__(self, network: nn.Module, sensors: SensorSet):
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
    """A method: ``students``, name of a ``SensorSet`` -> network, and whatever trains them.

    What is in no student is dropped at export and never counted. ``teacher`` is the network it learns from, or None.
    """

    Settings: ClassVar[type[Strict]] = Strict  # its own; each departure from its paper is one of them
    sensor_count: ClassVar[int]  # how many sensors its students are of
    taught_by: ClassVar[Literal["fusion", "first"] | None] = None  # a network of both, the first one's baseline
    can_teach: ClassVar[bool] = False  # whether it may be the teacher of other methods
    augmentation: Literal["paired", "decoupled"] = "paired"  # geometry is drawn once per scene, or once per sensor
    split: ClassVar[bool] = False  # whether its students' bottleneck is read as a shared and a private half

    def __init__(self, card: DatasetCard, config: RunConfig, settings: Strict, teacher: nn.Module | None = None):
        super().__init__()
        self.card, self.config, self.settings = card, config, settings
        self.sensors = SensorSet(config.sensors)
        self.channels = {sensor: card.sensors[sensor].channels for sensor in self.sensors}
        self.num_classes = len(card.classes)
        self.students = nn.ModuleDict(self.build_students())
        self.teacher = Teacher(teacher, SensorSet(config.teacher_sensors)) if teacher else None
        self.seed_for("rest")  # whatever a subclass adds

    def build_students(self) -> dict[str, nn.Module]:
        """Build one network per sensor; methods that serve other sets of sensors build others."""
        return {sensor: self.build_student(sensor) for sensor in self.sensors}

    def build_student(self, sensor: str, skip: bool = True) -> SegNet:
        """Build the network of one sensor; equal seeds give every method of a study the same start."""
        self.seed_for(sensor)
        return single_sensor_net(self.channels[sensor], self.num_classes, self.config.model, self.split, skip)

    def seed_for(self, purpose: str) -> None:
        """Make the next random weights depend on the run's seed and on what they are for, and on nothing else."""
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{self.config.seed}/{purpose}".encode()).digest()[:4]))

    @property
    def batch_sensors(self) -> tuple[str, ...]:
        """Every sensor of its batches: its own and those of its teacher."""
        return tuple(dict.fromkeys(self.sensors + (self.teacher.sensors if self.teacher else ())))

    @abc.abstractmethod
    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the weighted loss terms of one augmented batch; cross-entropies are named ``segmentation/...``.

        ``progress`` is the fraction of the run that is done, in [0, 1); schedules in iterations become fractions.
        """

    @property
    def label_free(self) -> tuple[str, ...]:
        """Names of the terms that also train on unlabelled scenes; without any it is given labelled scenes alone."""
        return ()

    @property
    def budget(self) -> float:
        """Return its number of training steps as a multiple of the study's, which is 1 for all but a control."""
        return 1.0

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
        """Return the logits (B, K, H, W) for one of the sets of sensors it serves; ValueError for any other set."""
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
        for served in self.serves:
            if set(served) <= set(images):
                context = self.students[str(served)](*[images[sensor] for sensor in served]).context
                blocks[f"{served}/shared"], blocks[f"{served}/private"] = context.chunk(2, dim=1)
        return blocks

    def load_students(self, folder: Path) -> None:
        """Load the students a finished run saved in ``folder``."""
        for name, student in self.students.items():
            student.load_state_dict(load_weights(folder / f"student-{name}.safetensors"))

    def load_teacher(self, folder: Path) -> None:
        """Load the teacher from the folder of its finished run."""
        self.teacher.network.load_state_dict(load_weights(folder / f"student-{self.teacher.sensors}.safetensors"))


def upsample(logits: Tensor, like: Tensor) -> Tensor:
    """Return logits enlarged to the height and width of ``like``."""
    return F.interpolate(logits.float(), size=like.shape[-2:], mode="bilinear", align_corners=False)

"""ShaSpec: shared and specific encoders, trained with sensors missing at random."""

import torch
from pydantic import Field
from torch import Tensor, nn

from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard, SensorSet
from crodino_lib.losses import modality_cross_entropy, shared_distance
from crodino_lib.methods.base import Method
from crodino_lib.models import SharedSpecificNet
from crodino_lib.settings import Strict


class ShaSpecSettings(Strict):
    """Settings of ShaSpec; the defaults are published."""

    shared_weight: float = Field(0.1, ge=0, description="weight of the distance of the sensors' shared maps")
    specific_weight: float = Field(0.02, ge=0, description="weight of classifying the sensor from its specific maps")
    complete_stage: float = Field(0.31, ge=0, le=1, description="fraction of the run with all sensors: 80k/260k")


class ShaSpec(Method):
    """One network for both sensors or either; twice the baseline's encoders.

    Source: Wang et al., ShaSpec, CVPR 2023, two sensors. Absent sensors count in no term; the official code draws real
    shared features towards those of an all-zero image. Cross-entropy in place of Dice and BCE, as in every row.
    """

    Settings = ShaSpecSettings
    sensor_count = 2
    split = True

    def __init__(self, card: DatasetCard, config: RunConfig, settings: ShaSpecSettings, teacher: None = None):
        super().__init__(card, config, settings)
        encoder = self.students[str(self.sensors)].shared.encoder
        self.tell_sensor = nn.Linear(encoder.feature_info.channels()[-1], len(self.sensors))

    @property
    def label_free(self) -> tuple[str, ...]:
        """The terms on the maps."""
        return ("shared", "specific")

    def build_students(self) -> dict[str, nn.Module]:
        """Build the part of the network that each sensor alone uses, and the network of both sensors."""
        students = {}
        for available in (*(SensorSet([sensor]) for sensor in self.sensors), self.sensors):
            self.seed_for("shaspec")
            network = SharedSpecificNet(self.channels, available, self.num_classes, self.config.model)
            students[str(available)] = network.requires_grad_(available == self.sensors)
        return students

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the segmentation loss of the sensors that are present, and the two terms on their maps."""
        network = self.students[str(self.sensors)]
        present = self.sensors if progress < self.settings.complete_stage else self.draw_present()
        features = network.features({sensor: batch.images[sensor] for sensor in present})
        guesses = [self.tell_sensor(features.pooled[sensor]) for sensor in present]
        told = modality_cross_entropy(guesses, [self.sensors.index(sensor) for sensor in present])
        return self.segmentation({str(self.sensors): network.decode(features)}, batch.labels) | {
            "shared": self.settings.shared_weight * shared_distance(list(features.shared.values())),
            "specific": self.settings.specific_weight * told,
        }

    def draw_present(self) -> tuple[str, ...]:
        """Draw a non-empty set of sensors, all equally likely."""
        drawn = int(torch.randint(1, 2 ** len(self.sensors), ()))
        return tuple(sensor for i, sensor in enumerate(self.sensors) if drawn >> i & 1)

    def export(self) -> None:
        """Load the weights that each sensor alone uses."""
        state = self.students[str(self.sensors)].state_dict()
        for sensor in self.sensors:
            self.students[sensor].load_state_dict({name: state[name] for name in self.students[sensor].state_dict()})

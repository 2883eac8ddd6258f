"""ShaSpec: shared and specific encoders, trained with sensors missing at random."""

import torch
from pydantic import Field
from torch import Tensor, nn

from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.losses import modality_cross_entropy, segmentation_cross_entropy, shared_distance
from crodino_lib.methods.base import Method
from crodino_lib.models import SharedSpecificNet
from crodino_lib.settings import Strict


class ShaSpecSettings(Strict):
    """Settings of ShaSpec; the defaults are published."""

    shared_weight: float = Field(0.1, ge=0, description="weight of the distance of the sensors' shared maps")
    specific_weight: float = Field(0.02, ge=0, description="weight of classifying the sensor from its specific maps")
    complete_stage: float = Field(
        0.31, ge=0, le=1, description="fraction of the run before sensors go missing: 80k/260k"
    )


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

    def build_students(self) -> dict[str, nn.Module]:
        """Build the network of both sensors, and for each sensor alone the part that it uses."""
        channels = {sensor: self.card.sensors[sensor].channels for sensor in self.sensors}

        def network(*available: str) -> SharedSpecificNet:
            self.seed_for("shaspec")
            return SharedSpecificNet(channels, available, self.num_classes, self.config.model)

        alone = {sensor: network(sensor).requires_grad_(False) for sensor in self.sensors}
        return alone | {str(self.sensors): network(*self.sensors)}

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the segmentation loss of the sensors that are present, and the two terms on their maps."""
        both = str(self.sensors)
        present = self.sensors if progress < self.settings.complete_stage else self.draw_present()
        features = self.students[both].features({sensor: batch.images[sensor] for sensor in present})
        logits = self.students[both].decode(features).logits
        guesses = [self.tell_sensor(features.pooled[sensor]) for sensor in present]
        told = modality_cross_entropy(guesses, [self.sensors.index(sensor) for sensor in present])
        distance = shared_distance(list(features.shared.values()))
        return {
            f"segmentation/{both}": segmentation_cross_entropy(logits, batch.labels[present[0]]),
            "shared": self.settings.shared_weight * distance,
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
            student = self.students[sensor]
            student.load_state_dict({name: state[name] for name in student.state_dict()})

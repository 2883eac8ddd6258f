"""Train with cross-entropy alone: the baseline of one sensor, and fusion teachers, which are given both."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from crodino_lib.data.sample import Batch
from crodino_lib.methods.base import Method
from crodino_lib.models.fusion import LateFusion, fusion_net
from crodino_lib.settings import Strict


class BaselineSettings(Strict):
    """Settings of the baseline."""

    budget: float = Field(1.0, gt=0, description="training steps, as a multiple of the study's")


class Baseline(Method):
    """Train one network of one sensor with cross-entropy: the reference of every cost and every gain."""

    Settings = BaselineSettings
    sensor_count = 1
    can_teach = True

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropy of the one student."""
        (sensor,) = self.sensors
        return self.segmentation({sensor: self.students[sensor](batch.images[sensor])}, batch.labels)

    @property
    def budget(self) -> float:
        """Return its steps as a multiple of the study's: more than 1 for the control of equal time."""
        return self.settings.budget


class FusionSettings(Strict):
    """Settings of fusion teachers."""

    fusion: Literal["early", "middle", "late"] = Field("early", description="before, inside or behind the encoder")


class Fusion(Method):
    """One network of two sensors, cross-entropy."""

    Settings = FusionSettings
    sensor_count = 2
    can_teach = True

    def build_students(self) -> dict[str, nn.Module]:
        """Build the one network, which serves both sensors together."""
        self.seed_for("fusion")
        channels = list(self.channels.values())
        return {str(self.sensors): fusion_net(self.settings.fusion, channels, self.num_classes, self.config.model)}

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropy of the fused logits, and of each sensor's in late fusion."""
        ((name, network),) = self.students.items()
        images = [batch.images[sensor] for sensor in self.sensors]
        if not isinstance(network, LateFusion):
            return self.segmentation({name: network(*images)}, batch.labels)
        outputs = network.each(*images)
        alone = dict(zip(self.sensors, outputs, strict=True))
        return self.segmentation(alone | {name: network.ensemble(outputs)}, batch.labels)

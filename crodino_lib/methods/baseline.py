"""The single-sensor baseline."""

from torch import Tensor

from crodino_lib.data.sample import Batch
from crodino_lib.losses import segmentation_cross_entropy
from crodino_lib.methods.base import Method


class Baseline(Method):
    """One network, one sensor, cross-entropy. The reference of every cost and every gain."""

    sensor_count = 1
    can_teach = True

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropy of the one student."""
        (sensor,) = self.sensors
        logits = self.students[sensor](batch.images[sensor]).logits
        return {f"segmentation/{sensor}": segmentation_cross_entropy(logits, batch.labels[sensor])}

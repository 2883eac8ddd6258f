"""Cross pseudo supervision between sensors: two students learn from each other's predictions, without a teacher."""

from pydantic import Field
from torch import Tensor

from crodino_lib import losses
from crodino_lib.data.sample import Batch
from crodino_lib.methods.base import Method
from crodino_lib.settings import Strict


class CrossPseudoSettings(Strict):
    """Settings of cross pseudo supervision."""

    weight: float = Field(1.5, ge=0, description="weight of the other student's predictions; published for VOC")
    warmup: float = Field(0.5, ge=0, le=1, description="fraction of the run over which that weight rises from 0")


class CrossPseudo(Method):
    """A student per sensor: ``L = CE(labels) + 1.5 CE(most likely classes of the other student)``, over both sensors.

    The other student's classes count on labelled and unlabelled scenes alike and carry no gradient. Source: Chen et
    al., Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision, CVPR 2021, whose two networks see the same
    picture and differ by their start; here they see two sensors. Without its CutMix. The rise of the weight is ours: at
    full weight from the first step, as published, short trainings learn frequent classes alone.
    """

    Settings = CrossPseudoSettings
    sensor_count = 2

    @property
    def label_free(self) -> tuple[str, ...]:
        """The cross-entropies of predicted classes."""
        return tuple(f"pseudo/{sensor}" for sensor in self.sensors) if self.settings.weight else ()

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropies of labels and of the other student's classes."""
        outputs = {sensor: self.students[sensor](batch.images[sensor]) for sensor in self.sensors}
        terms = self.segmentation(outputs, batch.labels)
        for sensor, other in zip(self.sensors, reversed(self.sensors), strict=True):  # paired geometry: same pixels
            likely = losses.likely_labels(outputs[other].logits, batch.inside[sensor])
            loss = losses.segmentation_cross_entropy(outputs[sensor].logits, likely)
            fade = min(1.0, progress / self.settings.warmup) if self.settings.warmup else 1.0
            terms[f"pseudo/{sensor}"] = self.settings.weight * fade * loss
        return terms

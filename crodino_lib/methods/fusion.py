"""Fusion teachers: networks that are given both sensors."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from crodino_lib.data.sample import Batch
from crodino_lib.losses import segmentation_cross_entropy
from crodino_lib.methods.base import Method
from crodino_lib.methods.multi_stream import StreamedMethod
from crodino_lib.models import SegNet
from crodino_lib.models.cen import ExchangeForm, ExchangeFusion, ExchangeRule
from crodino_lib.models.fusion import LateFusion, fusion_net
from crodino_lib.settings import Strict


class FusionSettings(Strict):
    """Where the sensors are fused."""

    fusion: Literal["early", "middle", "late"] = Field("early", description="before, inside or behind the encoder")


class Fusion(Method):
    """One network of two sensors, cross-entropy."""

    Settings = FusionSettings
    sensor_count = 2
    can_teach = True

    def build_students(self) -> dict[str, nn.Module]:
        """Build the one network, which serves both sensors together."""
        self.seed_for("fusion")
        channels = [self.card.sensors[sensor].channels for sensor in self.sensors]
        network = fusion_net(self.settings.fusion, channels, self.num_classes, self.config.model)
        return {str(self.sensors): network}

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropy of the fused logits, and of each sensor's in late fusion."""
        ((name, network),) = self.students.items()
        images = [batch.images[sensor] for sensor in self.sensors]
        label = batch.labels[self.sensors[0]]  # paired geometry: the same for both
        if not isinstance(network, LateFusion):
            return {f"segmentation/{name}": segmentation_cross_entropy(network(*images).logits, label)}
        outputs = network.each(*images)
        terms = dict(zip(self.sensors, outputs, strict=True)) | {name: network.ensemble(outputs)}
        return {f"segmentation/{key}": segmentation_cross_entropy(out.logits, label) for key, out in terms.items()}


class CENSettings(Strict):
    """Settings of CEN."""

    exchange: ExchangeForm = Field("hard", description="replace channels by the other stream's, by the mean, or none")
    exchange_share: float = Field(0.2, ge=0, le=0.5, description="share of a layer that is replaced, of its own half")
    threshold: float | None = Field(None, ge=0, description="replace channels of a scale below this instead; CEN: 0.02")
    sparsity_weight: float = Field(6e-4, ge=0, description="weight of the scales' sum; CEN's 2e-4 counts three times")


class CEN(StreamedMethod):
    """Channel exchange: one trunk, two streams, their ensemble. It also serves each sensor alone, untrained for that.

    Source: Wang et al., NeurIPS 2020. Ours: the share of channels in place of the fixed threshold, which the scales of
    most pretrained encoders never cross, and BatchNorm statistics that follow the batches.
    """

    Settings = CENSettings
    can_teach = True

    def build_network(self, net: SegNet, rule: ExchangeRule) -> ExchangeFusion:
        """Build two streams and the ensemble of their logits."""
        return ExchangeFusion(net, self.sensors, rule)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropies of both streams and the ensemble, and the sparsity of the scales."""
        outputs = self.students[self.both].each(*[batch.images[sensor] for sensor in self.sensors])
        label = batch.labels[self.sensors[0]]
        sparsity = self.settings.sparsity_weight * self.students[self.both].trunk.sparsity()
        return self.segmentation(outputs, label) | {"sparsity": sparsity}

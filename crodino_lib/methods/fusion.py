"""Fusion teachers: networks that see both sensors, the upper bound of what a student can be taught."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from crodino_lib.augment import Batch
from crodino_lib.config import Strict
from crodino_lib.losses.segmentation import segmentation_cross_entropy
from crodino_lib.methods.base import Method
from crodino_lib.models.exchange import FUSED, ExchangeForm, ExchangeFusion, ExchangeRule
from crodino_lib.models.fusion import LateFusion, fusion_net
from crodino_lib.models.segnet import single_sensor_net


class FusionSettings(Strict):
    """Where the sensors meet."""

    fusion: Literal["early", "middle", "late"] = Field("early", description="before, inside or behind the encoder")


class Fusion(Method):
    """One network of two sensors, cross-entropy."""

    Settings = FusionSettings
    sensor_count = 2
    can_teach = True

    def build_students(self) -> dict[str, nn.Module]:
        """The one network, which serves both sensors together."""
        self.seed_for("fusion")
        channels = [self.card.sensors[sensor].channels for sensor in self.sensors]
        network = fusion_net(self.settings.fusion, channels, self.num_classes, self.config.model)
        return {"+".join(self.sensors): network}

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the fused logits, and of each sensor's where it has its own."""
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

    exchange: ExchangeForm = Field("hard", description="what a channel that gives way is replaced by")
    exchange_share: float = Field(0.2, ge=0, le=1, description="share of each layer's channels that give way")
    threshold: float | None = Field(None, ge=0, description="scale below which they do, instead; CEN: 0.02")
    sparsity_weight: float = Field(6e-4, ge=0, description="weight of the scales' sum; CEN's 2e-4 counts three times")


class CEN(Method):
    """Channel exchange: one trunk, two streams, their ensemble. It also answers each sensor alone, untrained for it.

    Source: Wang et al., NeurIPS 2020. Ours: the share of channels in place of the fixed threshold, which the scales of
    most pretrained encoders never cross, and BatchNorm statistics that follow the batches.
    """

    Settings = CENSettings
    sensor_count = 2
    can_teach = True

    def build_students(self) -> dict[str, nn.Module]:
        """Both sensors together, and each alone, cut from the same weights."""
        alone = {sensor: self.build_student(sensor).requires_grad_(False) for sensor in self.sensors}
        self.seed_for(self.sensors[0])
        net = single_sensor_net(3, self.num_classes, self.config.model)
        settings = self.settings
        rule = ExchangeRule(settings.exchange, settings.exchange_share, settings.threshold)
        return alone | {"+".join(self.sensors): ExchangeFusion(net, self.sensors, rule)}

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of both streams and of the ensemble; sparsity of the scales."""
        both = "+".join(self.sensors)
        outputs = self.students[both].each(*[batch.images[sensor] for sensor in self.sensors])
        label = batch.labels[self.sensors[0]]
        terms = {
            f"segmentation/{both if name == FUSED else name}": segmentation_cross_entropy(out.logits, label)
            for name, out in outputs.items()
        }
        return terms | {"sparsity": self.settings.sparsity_weight * self.students[both].trunk.sparsity()}

    def export(self) -> None:
        """Each sensor's plain network: its BatchNorms, no exchange."""
        trunk = self.students["+".join(self.sensors)].trunk
        for sensor in self.sensors:
            state = trunk.sensor_state(sensor, self.card.sensors[sensor].channels)
            self.students[sensor].load_state_dict(state)

    def diagnostics(self) -> dict[str, float]:
        """Share of exchanged channels per layer and sensor."""
        return self.students["+".join(self.sensors)].trunk.exchanged_shares()

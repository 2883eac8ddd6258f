"""CroDiNo-KD: two single-sensor networks and an auxiliary decoder that learn together, without a teacher.

A reconstruction: neither the full text nor official code of arXiv 2505.24361 was available. What is known, what comes
from the same authors' earlier code and what is our guess is told in notebook 04; each guess is one setting here.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from crodino_lib.augment import Batch
from crodino_lib.config import RunConfig, Strict
from crodino_lib.data.sample import DatasetCard
from crodino_lib.losses.cosine_overlap import cosine_overlap
from crodino_lib.losses.masked_l1 import masked_l1
from crodino_lib.losses.regions import region_vectors
from crodino_lib.losses.segmentation import segmentation_cross_entropy
from crodino_lib.losses.supervised_contrast import supervised_contrast
from crodino_lib.methods.base import Method
from crodino_lib.models.segnet import SegOutput, conv_block


class CroDiNoSettings(Strict):
    """Settings of CroDiNo-KD; the defaults are our reference reconstruction."""

    auxiliary: Literal["segmentation", "reconstruction"] = Field(
        "segmentation",
        description="what the auxiliary decoder does: segment from the shared half, or rebuild the input",
    )
    auxiliary_weight: float = Field(1.0, ge=0, description="weight of the auxiliary decoder's loss")
    overlap_weight: float = Field(1.0, ge=0, description="weight of the disentanglement: cosine of shared and private")
    contrast_weight: float = Field(0.1, ge=0, description="weight of the contrast of shared region vectors")
    contrast_warmup: float = Field(0.1, ge=0, lt=1, description="fraction of the run over which the contrast fades in")
    temperature: float = Field(0.1, gt=0, description="temperature of the contrast")
    augmentation: Literal["decoupled", "paired"] = Field("decoupled", description="geometry per sensor, or per scene")


class SharedSegmenter(nn.Module):
    """The auxiliary decoder that segments: one for both sensors, from the shared half alone.

    No skip: a skip would let a sensor's own detail pass by the split. GroupNorm: a BatchNorm would mix the statistics
    of two sensors, and fit neither.
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.decode = nn.Sequential(conv_block(channels, channels, 3, groups=8), nn.Conv2d(channels, classes, 1))

    def forward(self, shared: Tensor) -> Tensor:
        """Logits (B, K, h, w) from the shared half (B, C, h, w)."""
        return self.decode(shared)


class Reconstructor(nn.Module):
    """The auxiliary decoder that rebuilds: each sensor's input at stride 4 from both halves, one trunk for both."""

    def __init__(self, channels: int, sensor_channels: dict[str, int]):
        super().__init__()
        self.coarse = conv_block(channels, 64, 3, groups=8)
        self.fine = conv_block(64, 32, 3, groups=8)
        self.heads = nn.ModuleDict({sensor: nn.Conv2d(32, count, 1) for sensor, count in sensor_channels.items()})

    def forward(self, context: Tensor, sensor: str, size: tuple[int, int]) -> Tensor:
        """The sensor's image (B, channels, *size) from its bottleneck (B, 2C, h, w)."""
        fine = self.fine(F.interpolate(self.coarse(context), scale_factor=2, mode="bilinear", align_corners=False))
        return F.interpolate(self.heads[sensor](fine), size=size, mode="bilinear", align_corners=False)


class CroDiNoKD(Method):
    """Two students with split bottlenecks, an auxiliary decoder, three losses beside cross-entropy.

    ``L = CE + auxiliary + cosine_overlap + 0.1 supervised_contrast``, each summed or averaged over both sensors.
    """

    Settings = CroDiNoSettings
    sensor_count = 2
    split = True

    def __init__(self, card: DatasetCard, config: RunConfig, settings: CroDiNoSettings, teacher: None = None):
        super().__init__(card, config, settings)
        self.augmentation = settings.augmentation
        channels = config.model.block_channels
        if settings.auxiliary == "segmentation":
            self.auxiliary = SharedSegmenter(channels, self.num_classes)
        else:
            self.auxiliary = Reconstructor(2 * channels, {s: card.sensors[s].channels for s in config.sensors})

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation of both students, auxiliary decoding, disentanglement, contrast."""
        outputs = {sensor: self.students[sensor](batch.images[sensor]) for sensor in self.sensors}
        terms = {
            f"segmentation/{sensor}": segmentation_cross_entropy(out.logits, batch.labels[sensor])
            for sensor, out in outputs.items()
        }
        terms |= {f"auxiliary/{sensor}": self.auxiliary_loss(out, batch, sensor) for sensor, out in outputs.items()}
        overlaps = [cosine_overlap(out.shared, out.private) for out in outputs.values()]
        terms["overlap"] = self.settings.overlap_weight * torch.stack(overlaps).mean()
        fade = min(1.0, progress / self.settings.contrast_warmup) if self.settings.contrast_warmup else 1.0
        terms["contrast"] = self.settings.contrast_weight * fade * self.contrast(outputs, batch.labels)
        return terms

    def auxiliary_loss(self, out: SegOutput, batch: Batch, sensor: str) -> Tensor:
        """What the auxiliary decoder is trained for, for one sensor."""
        if self.settings.auxiliary == "segmentation":
            loss = segmentation_cross_entropy(self.auxiliary(out.shared), batch.labels[sensor])
        else:
            size = out.decoded.shape[-2:]
            weight = F.adaptive_avg_pool2d(batch.valid[sensor].float(), size)
            # invalid pixels are 0 in the image, so the mean over valid ones is the pooled image over the pooled weight
            target = F.adaptive_avg_pool2d(batch.images[sensor], size) / weight.clamp(min=1e-6)
            loss = masked_l1(self.auxiliary(out.context, sensor, size), target, weight)
        return self.settings.auxiliary_weight * loss

    def contrast(self, outputs: dict[str, SegOutput], labels: dict[str, Tensor]) -> Tensor:
        """Shared region vectors of both sensors by class; private ones stand in the denominators only.

        Labelled regions need no pixel correspondence, which decoupled geometry has destroyed.
        """
        shared = [region_vectors(out.shared, labels[s], self.num_classes) for s, out in outputs.items()]
        private = [region_vectors(out.private, labels[s], self.num_classes) for s, out in outputs.items()]
        return supervised_contrast(
            torch.cat([regions.vectors for regions in shared]),
            torch.cat([regions.classes for regions in shared]),
            self.settings.temperature,
            negatives=torch.cat([regions.vectors for regions in private]),
        )

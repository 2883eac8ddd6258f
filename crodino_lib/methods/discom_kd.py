"""DisCoM-KD: disentanglement by domain classifiers, without a teacher: as intended, released, or with one encoder."""

import math
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from crodino_lib import losses
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.methods.base import Method
from crodino_lib.models import TwoEncoderNet
from crodino_lib.models.segnet import conv_block
from crodino_lib.settings import Strict


class DisCoMSettings(Strict):
    """Settings of DisCoM-KD; published weights are 1, the reversal is constant."""

    encoders: Literal["two", "one"] = Field("two", description="encoders per sensor: published, or one that is split")
    domain_labels: Literal["fixed", "released"] = Field("fixed", description="targets: sensors, or those released")
    reversal: Literal["ramp", "constant"] = Field("ramp", description="reversed gradient: 0 to 1 in the run, or 1")
    auxiliary_weight: float = Field(1.0, ge=0, description="weight of segmenting from the single parts")
    domain_weight: float = Field(1.0, ge=0, description="weight of classifying the sensor from its specific parts")
    adversarial_weight: float = Field(0.1, ge=0, description="weight of hiding the sensor; 1 can destabilise networks")
    overlap_weight: float = Field(1.0, ge=0, description="weight of the cosines of the parts")


class Parts(NamedTuple):
    """Logits of a sensor's network, and the parts that the losses use, none of them negative."""

    logits: Tensor  # (B, K, H/4, W/4)
    shared: Tensor  # (B, C, h, w) s, invariant to the sensor
    informative: Tensor  # (B, C, h, w) u, specific to the sensor and used; half as many channels with one encoder
    irrelevant: Tensor  # w, as u: specific to the sensor and, with two encoders, not decoded

    @property
    def wide(self) -> Tensor:
        """Return u repeated to the width of s, which h and the cosine need: with one encoder u is half as wide."""
        return self.informative.repeat(1, self.shared.shape[1] // self.informative.shape[1], 1, 1)

    def overlap(self) -> Tensor:
        """Return the cosines of u with w and with s; the pair of s and w is absent, as in the official code."""
        with_shared = losses.cosine_overlap(self.wide, self.shared)
        return losses.cosine_overlap(self.informative, self.irrelevant) + with_shared


class DisCoMKD(Method):
    """One invariant and one specific map per sensor; all networks train together, on scenes that need not be pairs.

    ``L = CE + CE(h(s)) + CE(h(u)) + (domain(u) + domain(w)) / 2 + 0.1 domain(GRL(s)) + cos(u, w) + cos(u, s)``, summed
    over sensors; ``h`` and the three domain classifiers are one for both sensors and are dropped at export.

    Source: DisCoM-KD, BMVC 2024; main_DisCoM-KD.py of tanodino/CMKD_Disentangle. Ours: maps in place of vectors, the
    decoder as classifier, and with fixed labels the ramp and the smaller weight. Explained in notebook 06.
    """

    Settings = DisCoMSettings
    sensor_count = 2
    split = True
    augmentation = "decoupled"  # the official loaders also shuffle each sensor separately; here scenes stay pairs

    def __init__(self, card: DatasetCard, config: RunConfig, settings: DisCoMSettings, teacher: None = None):
        super().__init__(card, config, settings)
        channels = config.model.block_channels
        part = channels if settings.encoders == "two" else channels // 2
        self.auxiliary = nn.Conv2d(channels, self.num_classes, 1)
        # linear in the mean over positions: the mean of a 1x1 convolution, and the official pooled vector
        self.tell_shared, self.tell_informative, self.tell_irrelevant = (
            nn.Linear(width, len(self.sensors)) for width in (channels, part, part)
        )
        if settings.encoders == "two":
            # w's half of the specific projection; nothing deployed reads it, so it is kept out of the students
            self.irrelevant = nn.ModuleDict({sensor: conv_block(2 * channels, channels, 1) for sensor in self.sensors})

    @property
    def label_free(self) -> tuple[str, ...]:
        """All but the segmentations."""
        return ("domain", "adversarial", "overlap")

    def build_student(self, sensor: str) -> nn.Module:
        """Build two encoders, or one: then the student is exactly the baseline's network, whose decoder reads w too."""
        if self.settings.encoders == "one":
            return super().build_student(sensor)
        self.seed_for(sensor)
        return TwoEncoderNet(self.channels[sensor], self.num_classes, self.config.model)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the terms of segmentation from all and from single parts, domain, its reversal and overlap."""
        settings = self.settings
        parts = {sensor: self.parts(sensor, batch.images[sensor]) for sensor in self.sensors}
        terms = self.segmentation(parts, batch.labels)
        for sensor, part in parts.items():
            logits = [self.auxiliary(features) for features in (part.shared, part.wide)]
            single = sum(losses.segmentation_cross_entropy(found, batch.labels[sensor]) for found in logits)
            terms[f"auxiliary/{sensor}"] = settings.auxiliary_weight * single
        hidden = sum(self.adversarial(part, m, progress) for m, part in enumerate(parts.values()))
        return terms | {
            "domain": settings.domain_weight * sum(self.domain(part, m) for m, part in enumerate(parts.values())),
            "adversarial": settings.adversarial_weight * hidden,
            "overlap": settings.overlap_weight * sum(part.overlap() for part in parts.values()),
        }

    def parts(self, sensor: str, image: Tensor) -> Parts:
        """Return logits and parts of one sensor's images."""
        if self.settings.encoders == "two":
            out, specific = self.students[sensor].branches(image)
            return Parts(out.logits, out.shared, out.private, self.irrelevant[sensor](specific))
        out = self.students[sensor](image)
        return Parts(out.logits, out.shared, *out.private.chunk(2, dim=1))

    def domain(self, part: Parts, modality: int) -> Tensor:
        """Return the mean loss of classifying the sensor from its specific parts, which learn to reveal it."""
        released = self.settings.domain_labels == "released"
        heads = ((self.tell_informative, part.informative), (self.tell_irrelevant, part.irrelevant))
        guesses = [tell(features.mean(dim=(2, 3))) for tell, features in heads]
        return torch.stack([losses.domain_cross_entropy(guess, modality, released) for guess in guesses]).mean()

    def adversarial(self, part: Parts, modality: int, progress: float) -> Tensor:
        """Return the loss of classifying the sensor from the shared part, which learns to hide it."""
        strength = reversal_strength(progress) if self.settings.reversal == "ramp" else 1.0
        guess = self.tell_shared(losses.reverse_gradient(part.shared.mean(dim=(2, 3)), strength))
        return losses.domain_cross_entropy(guess, modality, self.settings.domain_labels == "released")


def reversal_strength(progress: float) -> float:
    """Return the strength of the reversal, rising from 0 towards 1: untrained classifiers should not be misled."""
    return 2 / (1 + math.exp(-10 * progress)) - 1  # Ganin and Lempitsky, ICML 2015, section 4

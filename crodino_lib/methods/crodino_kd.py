"""CroDiNo-KD: two single-sensor networks and an auxiliary decoder that are trained together, without a teacher.

A reconstruction: neither the full text nor official code of arXiv 2505.24361 was available. Notebook 04 lists what is
known, what comes from the same authors' earlier code and what is our guess; most guesses are settings here.
"""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from crodino_lib import losses
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.methods.base import Method
from crodino_lib.methods.baseline import Baseline
from crodino_lib.models import ClassBank, SegNet, SegOutput
from crodino_lib.models.segnet import conv_block
from crodino_lib.settings import Strict

OVERLAP_ROWS = 512  # positions of a batch compared by D2
POINTS_PER_IMAGE = 256  # points of a scene drawn by C3; those in both views count


class CroDiNoSettings(Strict):
    """Settings of CroDiNo-KD; the defaults are our reference reconstruction (C1, X1, D1 in docs/methods.md).

    Of the contrasts, ``class`` (C1) takes shared region vectors of both sensors by class, private ones as negatives
    only. ``class-pseudo`` (C1-lin) is the authors' earlier code: private vectors are anchors too, all of one sensor in
    one pseudo-class; its optimum collapses the private half to one direction. ``class-private`` (C1-mk) labels them by
    sensor and class, so that they stay structured. ``image`` (C2) pairs the mean shared vectors of a scene, ``pixel``
    (C3) points of both views that the warps map to one point of the scene.
    """

    auxiliary: Literal["segmentation", "both", "reconstruction", "swap"] = Field(
        "segmentation", description="segment the shared half (X1), each half (X4), swapped ones (X2), or rebuild (X3)"
    )
    auxiliary_weight: float = Field(1.0, ge=0, description="weight of the auxiliary decoder's loss")
    disentanglement: Literal["cosine", "frobenius", "cka", "sensor"] = Field(
        "cosine", description="cosine (D1), correlation (D2), CKA of regions (D3), sensor from private half (D4)"
    )
    overlap_weight: float = Field(1.0, ge=0, description="weight of the disentanglement")
    contrast: Literal["class", "class-pseudo", "class-private", "image", "pixel"] = Field(
        "class", description="vectors that are contrasted: C1, C1-lin, C1-mk, C2, C3"
    )
    contrast_weight: float = Field(0.1, ge=0, description="weight of the contrast")
    contrast_warmup: float = Field(0.1, ge=0, lt=1, description="fraction of the run over which the contrast fades in")
    contrast_confidence: float | None = Field(
        None, ge=0, le=1, description="class: least probability of a predicted class by which unlabelled scenes join"
    )
    temperature: float = Field(0.1, gt=0, description="temperature of the contrast")
    queue: int = Field(0, ge=0, description="class: region vectors of earlier batches kept, per class and sensor")
    pixel_points: int = Field(256, ge=2, description="pixel: points of a batch that are each other's candidates")
    augmentation: Literal["decoupled", "paired"] = Field("decoupled", description="geometry per sensor, or per scene")
    skip: bool = Field(True, description="whether the students' decoders read fine maps, which bypass the split")

    @model_validator(mode="after")
    def _suit_each_other(self) -> Self:
        if self.auxiliary == "swap" and self.augmentation != "paired":
            given = f"given augmentation {self.augmentation!r}"
            raise ValueError(f"auxiliary 'swap' joins two sensors' halves, so it needs augmentation 'paired', {given}")
        for name, off in {"queue": 0, "contrast_confidence": None}.items():
            if (value := getattr(self, name)) != off and not self.contrast.startswith("class"):
                needs = "is for classes: leave it out, or set contrast to 'class', 'class-pseudo' or 'class-private'"
                raise ValueError(f"{name} {value} {needs}, given contrast {self.contrast!r}")
        return self


class SharedSegmenter(nn.Sequential):
    """The auxiliary decoder that segments: logits (B, K, h, w) of a code, one decoder for both sensors.

    The code is one half (B, C, h, w) (X1, X4), or the shared beside the other sensor's private one, (B, 2C, h, w) (X2).
    No skip bypasses the split, and GroupNorm stands in for BatchNorm, which would mix two sensors' statistics.
    """

    def __init__(self, in_channels: int, channels: int, classes: int):
        super().__init__(conv_block(in_channels, channels, 3, groups=8), nn.Conv2d(channels, classes, 1))


class Reconstructor(nn.Module):
    """The auxiliary decoder that rebuilds: each sensor's input at stride 4 from both halves, one trunk for both."""

    def __init__(self, channels: int, sensor_channels: dict[str, int]):
        super().__init__()
        self.coarse = conv_block(channels, 64, 3, groups=8)
        self.fine = conv_block(64, 32, 3, groups=8)
        self.heads = nn.ModuleDict({sensor: nn.Conv2d(32, count, 1) for sensor, count in sensor_channels.items()})

    def forward(self, context: Tensor, sensor: str, size: tuple[int, int]) -> Tensor:
        """Return the sensor's image (B, channels, *size) rebuilt from its bottleneck (B, 2C, h, w)."""
        fine = self.fine(F.interpolate(self.coarse(context), scale_factor=2, mode="bilinear", align_corners=False))
        return F.interpolate(self.heads[sensor](fine), size=size, mode="bilinear", align_corners=False)


class CroDiNoKD(Method):
    """Two students with split bottlenecks, an auxiliary decoder, three losses beside cross-entropy.

    ``L = CE + auxiliary + cosine_overlap + 0.1 supervised_contrast``, over both sensors; settings choose each term.
    """

    Settings = CroDiNoSettings
    sensor_count = 2
    split = True

    def __init__(self, card: DatasetCard, config: RunConfig, settings: CroDiNoSettings, teacher: None = None):
        super().__init__(card, config, settings)
        self.augmentation = settings.augmentation
        channels = config.model.block_channels
        if settings.auxiliary == "reconstruction":
            self.auxiliary = Reconstructor(2 * channels, self.channels)
        else:
            halves = 2 if settings.auxiliary == "swap" else 1
            self.auxiliary = SharedSegmenter(halves * channels, channels, self.num_classes)
        if settings.disentanglement == "sensor":
            self.tell_sensor = nn.Linear(channels, len(self.sensors))
        kept = config.sensors if settings.queue else ()
        self.queues = nn.ModuleDict({s: ClassBank(self.num_classes, settings.queue, channels) for s in kept})

    def build_student(self, sensor: str) -> SegNet:
        """Build the network of one sensor, which starts as in every other method; without skips if set so."""
        return super().build_student(sensor, self.settings.skip)

    @property
    def label_free(self) -> tuple[str, ...]:
        """Rebuilding, disentanglement but by regions, and contrasts of scenes, points or predicted classes."""
        settings = self.settings
        by_class = settings.contrast.startswith("class") and settings.contrast_confidence is None
        used = {f"auxiliary/{s}": settings.auxiliary == "reconstruction" for s in self.sensors}
        used["overlap"] = settings.overlap_weight > 0 and settings.disentanglement != "cka"
        used["contrast"] = settings.contrast_weight > 0 and not by_class
        return tuple(name for name, is_used in used.items() if is_used)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the terms of segmentation, auxiliary decoding, disentanglement and contrast."""
        outputs = {sensor: self.students[sensor](batch.images[sensor]) for sensor in self.sensors}
        terms = self.segmentation(outputs, batch.labels)
        terms |= {f"auxiliary/{sensor}": self.auxiliary_loss(outputs, batch, sensor) for sensor in self.sensors}
        terms["overlap"] = self.settings.overlap_weight * self.disentanglement(outputs, batch)
        fade = min(1.0, progress / self.settings.contrast_warmup) if self.settings.contrast_warmup else 1.0
        terms["contrast"] = self.settings.contrast_weight * fade * self.contrast_loss(outputs, batch)
        return terms

    def auxiliary_loss(self, outputs: dict[str, SegOutput], batch: Batch, sensor: str) -> Tensor:
        """Return the weighed auxiliary loss of one sensor; swapped codes have the shared half's labels."""
        out, kind = outputs[sensor], self.settings.auxiliary
        if kind == "reconstruction":
            size = out.decoded.shape[-2:]
            weight = F.adaptive_avg_pool2d(batch.valid[sensor].float(), size)
            # invalid pixels are 0 in the image, so the mean over valid ones is the pooled image over the pooled weight
            target = F.adaptive_avg_pool2d(batch.images[sensor], size) / weight.clamp(min=1e-6)
            loss = losses.masked_l1(self.auxiliary(out.context, sensor, size), target, weight)
        else:
            others = [outputs[s].private for s in self.sensors if s != sensor] if kind == "swap" else []
            codes = [out.shared, out.private] if kind == "both" else [torch.cat([out.shared, *others], dim=1)]
            found = [losses.segmentation_cross_entropy(self.auxiliary(code), batch.labels[sensor]) for code in codes]
            loss = torch.stack(found).mean()
        return self.settings.auxiliary_weight * loss

    def disentanglement(self, outputs: dict[str, SegOutput], batch: Batch) -> Tensor:
        """Return the mean overlap of the sensors' halves, or the loss of telling the sensor from private halves."""
        if self.settings.disentanglement == "sensor":  # private ones: MDiCo's released code gives its head the shared
            return losses.modality_cross_entropy(
                [self.tell_sensor(outputs[sensor].private.mean(dim=(2, 3))) for sensor in self.sensors]
            )
        return torch.stack([self.overlap(out, batch.labels[sensor]) for sensor, out in outputs.items()]).mean()

    def overlap(self, out: SegOutput, labels: Tensor) -> Tensor:
        """Return the overlap of a sensor's two halves."""
        if self.settings.disentanglement == "cosine":
            return losses.cosine_overlap(out.shared, out.private)
        if self.settings.disentanglement == "frobenius":
            rows = [half.permute(0, 2, 3, 1).flatten(0, 2) for half in (out.shared, out.private)]
            # the mean over C^2 entries is at most 1 / C^2, negligible at weight 1; the sum is at most 1, which equal
            # halves reach that vary along one direction (1 / r along r directions)
            return out.shared.shape[1] ** 2 * losses.frobenius_overlap(*_drawn(rows, OVERLAP_ROWS))
        halves = [losses.region_vectors(half, labels, self.num_classes).vectors for half in (out.shared, out.private)]
        if len(halves[0]) < 4:  # too few regions to tell dependence from chance
            return 0 * (halves[0].sum() + halves[1].sum())
        # the estimate for independent halves scatters about 0: values below 0 are chance and must not be rewarded
        return losses.debiased_cka(*halves).clamp(min=0)

    def contrast_loss(self, outputs: dict[str, SegOutput], batch: Batch) -> Tensor:
        """Return the contrast that the settings choose."""
        shared = [outputs[sensor].shared for sensor in self.sensors]
        if self.settings.contrast == "image":
            return losses.info_nce(*(half.mean(dim=(2, 3)) for half in shared), self.settings.temperature)
        if self.settings.contrast != "pixel":
            return self.contrast(outputs, self.contrasted_labels(outputs, batch))
        # the same points of the scenes in both views, all each other's candidates; 0 where fewer than two are in both
        warps = [batch.warps[sensor] for sensor in self.sensors]
        *grids, visible = losses.sample_shared_points(*warps, POINTS_PER_IMAGE)
        points = [
            F.grid_sample(half.float(), grid, padding_mode="border", align_corners=False).squeeze(-1).mT[visible]
            for half, grid in zip(shared, grids, strict=True)
        ]
        return losses.info_nce(*_drawn(points, self.settings.pixel_points), self.settings.temperature)

    def contrasted_labels(self, outputs: dict[str, SegOutput], batch: Batch) -> dict[str, Tensor]:
        """Return the labels of the contrast: known ones and, if set so, confident ones of the students."""
        if self.settings.contrast_confidence is None:
            return batch.labels
        given = {s: (out.logits, batch.inside[s], self.settings.contrast_confidence) for s, out in outputs.items()}
        return {s: losses.fill_unlabelled(batch.labels[s], losses.likely_labels(*it)) for s, it in given.items()}

    def contrast(self, outputs: dict[str, SegOutput], labels: dict[str, Tensor]) -> Tensor:
        """Contrast shared region vectors of both sensors by class, with private ones as negatives only (C1).

        Regions need no pixel correspondence, which decoupled geometry removes. C1-lin and C1-mk give private vectors
        labels of their own; queues add keys of earlier batches and, in training, store those of this batch.
        """
        shared = {s: losses.region_vectors(out.shared, labels[s], self.num_classes) for s, out in outputs.items()}
        private = [losses.region_vectors(out.private, labels[s], self.num_classes) for s, out in outputs.items()]
        vectors, classes = ([regions[i] for regions in shared.values()] for i in (0, 1))
        negatives = torch.cat([regions.vectors for regions in private])
        if self.settings.contrast != "class":
            vectors, negatives = [*vectors, negatives], None
            classes += [self.private_classes(regions.classes, m) for m, regions in enumerate(private)]
        held = [queue.all() for queue in self.queues.values()]
        memory = [torch.cat(part) for part in zip(*held, strict=True)]  # vectors and classes, or nothing
        given = (torch.cat(vectors), torch.cat(classes), self.settings.temperature, negatives)
        loss = losses.supervised_contrast(*given, *memory)
        if self.training:
            for sensor, queue in self.queues.items():
                queue.push(shared[sensor].vectors, shared[sensor].classes)
        return loss

    def private_classes(self, classes: Tensor, position: int) -> Tensor:
        """Return labels for private vectors of the sensor at position m: K + m in C1-lin, K + m K + k in C1-mk."""
        if self.settings.contrast == "class-pseudo":
            return torch.full_like(classes, self.num_classes + position)
        return self.num_classes * (1 + position) + classes


class BaselineAux(Baseline):
    """The baseline with CroDiNo-KD's auxiliary decoder on its own features: CroDiNo-KD without the second sensor.

    The decoder reads the same half of the bottleneck as there (X1), which nothing else separates from the other.
    """

    can_teach = False

    def __init__(self, card: DatasetCard, config: RunConfig, settings: Strict, teacher: None = None):
        super().__init__(card, config, settings)
        channels = config.model.block_channels
        self.auxiliary = SharedSegmenter(channels, channels, self.num_classes)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropies of the student and of the auxiliary decoder."""
        (sensor,) = self.sensors
        out = self.students[sensor](batch.images[sensor])
        first, _ = out.context.chunk(2, dim=1)
        auxiliary = losses.segmentation_cross_entropy(self.auxiliary(first), batch.labels[sensor])
        return self.segmentation({sensor: out}, batch.labels) | {f"auxiliary/{sensor}": auxiliary}


def _drawn(rows: list[Tensor], wanted: int) -> list[Tensor]:
    """Draw the same rows of every tensor, at most ``wanted``, on the CPU so that every device draws the same."""
    chosen = torch.randperm(len(rows[0]))[:wanted].to(rows[0].device)
    return [part[chosen] for part in rows]

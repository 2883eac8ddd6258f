"""CSK-Net: one network that serves both sensors together and each alone, the second one at the baseline's cost.

A reconstruction: neither the full text nor official code of arXiv 2312.02240 was available. What is known, and what is
our guess, is told in notebook 05; each guess is one setting here. "EO" is the first sensor of a run, "IR" the second.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crodino_lib.config import RunConfig, Strict
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.losses import (
    cover,
    feature_imitation,
    nearest_labels,
    pixel_contrast,
    pixel_distillation,
    sample_pixels,
)
from crodino_lib.methods.multi_stream import StreamedMethod
from crodino_lib.models.bank import ClassBank
from crodino_lib.models.cen import FUSED, ExchangeForm, ExchangeRule
from crodino_lib.models.csk_net import GatedFusion, GateForm
from crodino_lib.models.segnet import SegNet, SegOutput

PROJECTED = 256  # width of the space in which pixels are contrasted
BANK_KEYS = 64  # of every class, drawn from the bank for every step
INERT = 0.01  # below this share of exchanged channels the row would be named after something that does not happen


class CSKSettings(Strict):
    """Settings of CSK-Net; the defaults are our reference reconstruction."""

    exchange: ExchangeForm = Field("mixed", description="what a channel that gives way is replaced by")
    exchange_share: float = Field(0.2, ge=0, le=0.5, description="share of a layer that gives way, of its own half")
    threshold: float | None = Field(None, ge=0, description="BatchNorm scale below which they do, instead; CEN: 0.02")
    exchange_where: Literal["deep", "all"] = Field("deep", description="the last two stages, or all")
    exchange_dropout: float = Field(0.5, ge=0, le=1, description="share of steps without exchange")
    sparsity_weight: float = Field(2e-4, ge=0, description="weight of the sum of scales that may give way")
    gate: GateForm = Field("unit", description="form of the Gated Spectral Unit; none takes the mean")
    retention_weight: float = Field(1.0, ge=0, description="weight of the EO teacher's logits for the EO stream")
    retention_features: float = Field(1.0, ge=0, description="weight of its two finest maps from stride 4 on")
    retention_where_right: bool = Field(False, description="learn from the teacher only where it is right")
    fused_weight: float = Field(1.0, ge=0, description="weight of the fused logits for the IR stream")
    temperature: float = Field(4.0, gt=0, description="temperature of both distillations")
    contrast_weight: float = Field(0.1, ge=0, description="weight of the pixel contrast")
    contrast_start: float = Field(0.1, ge=0, lt=1, description="fraction of the run before the contrast begins")
    contrast_temperature: float = Field(0.1, gt=0, description="temperature of the contrast")
    contrast_pixels: int = Field(2, ge=1, description="pixels of every class, image and view that are contrasted")
    hardest: float = Field(0.1, gt=0, le=1, description="share of nearest negatives and farthest positives kept")
    bank: int = Field(512, ge=1, description="vectors of every class kept from earlier batches; published: 5000")


class CSKNet(StreamedMethod):
    """Shared convolutions, a BatchNorm per sensor, channel exchange, gated fusion, contrastive distillation."""

    Settings = CSKSettings
    taught_by = "first"

    def __init__(self, card: DatasetCard, config: RunConfig, settings: CSKSettings, teacher: nn.Module | None = None):
        super().__init__(card, config, settings, teacher)
        width = config.model.decoder_channels
        self.project = projection_head(width)
        self.project_teacher = projection_head(width)  # another network's features, so a head of its own
        self.bank = ClassBank(self.num_classes, settings.bank, PROJECTED)

    def build_network(self, net: SegNet, rule: ExchangeRule) -> GatedFusion:
        """Two streams and the fused one."""
        return GatedFusion(net, self.sensors, rule, self.settings.exchange_where, self.settings.gate)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation of three streams, retention of the EO teacher, fused to IR, contrast, sparsity."""
        eo, ir = self.sensors
        settings, label = self.settings, batch.labels[eo]  # paired geometry: the same for both
        exchanging = torch.rand(()).item() >= settings.exchange_dropout
        outputs = self.students[self.both].each(batch.images[eo], batch.images[ir], exchanging=exchanging)
        teacher = self.teacher(batch.images)
        terms = self.segmentation(outputs, label)
        fused, seen = outputs[FUSED].logits, cover(label, outputs[eo].logits.shape[-2:])
        terms["retention/logits"] = settings.retention_weight * self.retention(outputs[eo], teacher, label)
        terms["retention/features"] = settings.retention_features * self.imitation(outputs[eo], teacher, label)
        terms["fused"] = settings.fused_weight * pixel_distillation(
            outputs[ir].logits, fused, settings.temperature, seen
        )
        if settings.contrast_weight:
            started = float(progress >= settings.contrast_start)
            terms["contrast"] = settings.contrast_weight * started * self.contrast(outputs, teacher, label)
        terms["sparsity"] = settings.sparsity_weight * self.students[self.both].trunk.sparsity()
        return terms

    def retention(self, eo: SegOutput, teacher: SegOutput, label: Tensor) -> Tensor:
        """Distillation of the EO teacher's logits into the EO stream, inside the scene."""
        seen = cover(label, eo.logits.shape[-2:])
        if self.settings.retention_where_right:
            seen = seen * (teacher.logits.argmax(dim=1) == nearest_labels(label, seen.shape[-2:]))
        return pixel_distillation(eo.logits, teacher.logits, self.settings.temperature, seen)

    def imitation(self, eo: SegOutput, teacher: SegOutput, label: Tensor) -> Tensor:
        """Distance of the EO stream's two finest maps, from stride 4 on, from the teacher's."""
        first = self.students[self.both].levels[0]
        pairs = zip(eo.pyramid[first : first + 2], teacher.pyramid[first : first + 2], strict=True)
        found = [feature_imitation(mine, theirs, cover(label, mine.shape[-2:])) for mine, theirs in pairs]
        return torch.stack(found).mean()

    def contrast(self, outputs: dict[str, SegOutput], teacher: SegOutput, label: Tensor) -> Tensor:
        """Pixels of the IR and fused views against those of all views, of the EO teacher, and of earlier batches."""
        vectors, classes, views = [], [], []
        for view, (name, out) in enumerate([*outputs.items(), ("teacher", teacher)]):
            pixels, found, _ = sample_pixels(out.decoded, label, self.settings.contrast_pixels)
            head = self.project_teacher if name == "teacher" else self.project
            vectors.append(nn.functional.normalize(head(pixels).float(), dim=1) if len(pixels) > 1 else pixels[:0])
            classes.append(found)
            views.append(torch.full_like(found, view))
        if any(len(part) < 2 for part in vectors):
            return outputs[FUSED].logits.sum() * 0.0  # nothing is labelled
        kept, kept_classes = self.bank.sample(BANK_KEYS)
        keys, key_classes = torch.cat([*vectors, kept]), torch.cat([*classes, kept_classes])
        key_views = torch.cat([*views, torch.full_like(kept_classes, -1)])
        anchors = torch.cat(vectors[1:3])  # IR and fused: what EO and its teacher are to shape
        anchor_classes, anchor_views = torch.cat(classes[1:3]), torch.cat(views[1:3])
        same_view = anchor_views[:, None] == key_views[None]
        comparable = ~(same_view & (anchor_classes[:, None] == key_classes[None]))  # positives are of other views
        loss = pixel_contrast(
            anchors,
            anchor_classes,
            keys,
            key_classes,
            self.settings.contrast_temperature,
            comparable=comparable,
            hardest=self.settings.hardest,
        )
        self.bank.push(torch.cat(vectors[2:]), torch.cat(classes[2:]))
        return loss

    def diagnostics(self) -> dict[str, float]:
        """What is exchanged, per layer and sensor; warns where a threshold leaves the exchange nothing to do."""
        most = max(self.students[self.both].trunk.exchanged_shares().values())
        if self.settings.exchange != "none" and most < INERT:
            warnings.warn(
                f"the exchange is inert: at most {100 * most:.1f} % of a layer's channels give way. "
                "Raise threshold, or leave it out to exchange a share of every layer",
                stacklevel=2,
            )
        return super().diagnostics()


def projection_head(channels: int) -> nn.Sequential:
    """Pixels' features (M, C) to the space they are contrasted in (M, 256)."""
    return nn.Sequential(
        nn.Linear(channels, channels), nn.BatchNorm1d(channels), nn.ReLU(inplace=True), nn.Linear(channels, PROJECTED)
    )

"""CSK-Net: one network that serves both sensors together and each alone, the second one at the baseline's cost.

A reconstruction: neither the full text nor official code of arXiv 2312.02240 was available. Notebook 05 lists what is
known and what is our guess; each guess is one setting here. "EO" is the first sensor of a run, "IR" the second.
"""

import warnings
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crodino_lib import losses
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.methods.multi_stream import StreamedMethod
from crodino_lib.models import ClassBank, SegNet, SegOutput
from crodino_lib.models.cen import FUSED, ExchangeForm, ExchangeRule
from crodino_lib.models.csk_net import GatedFusion, GateForm
from crodino_lib.settings import Strict

PROJECTED = 256  # width of the space in which pixels are contrasted
BANK_KEYS = 64  # of every class, drawn from the bank for every step
INERT = 0.01  # share of exchanged channels below which the exchange has no effect


class CSKSettings(Strict):
    """Settings of CSK-Net; the defaults are our reference reconstruction."""

    exchange: ExchangeForm = Field("mixed", description="replace channels by the other stream's, by the mean, or none")
    exchange_share: float = Field(0.2, ge=0, le=0.5, description="share of a layer that is replaced, of its own half")
    threshold: float | None = Field(None, ge=0, description="replace channels of a scale below this; CEN: 0.02")
    exchange_where: Literal["deep", "all"] = Field("deep", description="exchange in the last two stages, or in all")
    exchange_dropout: float = Field(0.5, ge=0, le=1, description="share of steps without exchange")
    sparsity_weight: float = Field(2e-4, ge=0, description="weight of the sum of scales that may be replaced")
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
        """Build two streams and the fused one."""
        return GatedFusion(net, self.sensors, rule, self.settings.exchange_where, self.settings.gate)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the terms of segmentation, retention of the EO teacher, fused to IR, contrast and sparsity."""
        eo, ir = self.sensors
        settings, label = self.settings, batch.labels[eo]  # paired geometry: the same for both
        exchanging = torch.rand(()).item() >= settings.exchange_dropout
        outputs = self.students[self.both].each(batch.images[eo], batch.images[ir], exchanging=exchanging)
        teacher = self.teacher(batch.images)
        terms = self.segmentation(outputs, label)
        terms["retention/logits"] = settings.retention_weight * self.retention(outputs[eo], teacher, label)
        terms["retention/features"] = settings.retention_features * self.imitation(outputs[eo], teacher, label)
        mine, fused = outputs[ir].logits, outputs[FUSED].logits
        valid = losses.cover(label, mine.shape[-2:])
        terms["fused"] = settings.fused_weight * losses.pixel_distillation(mine, fused, settings.temperature, valid)
        if settings.contrast_weight:
            started = float(progress >= settings.contrast_start)
            terms["contrast"] = settings.contrast_weight * started * self.contrast(outputs, teacher, label)
        terms["sparsity"] = settings.sparsity_weight * self.students[self.both].trunk.sparsity()
        return terms

    def retention(self, eo: SegOutput, teacher: SegOutput, label: Tensor) -> Tensor:
        """Return the distillation of the EO teacher's logits into the EO stream, inside the scene."""
        valid = losses.cover(label, eo.logits.shape[-2:])
        if self.settings.retention_where_right:
            valid = valid * (teacher.logits.argmax(dim=1) == losses.nearest_labels(label, valid.shape[-2:]))
        return losses.pixel_distillation(eo.logits, teacher.logits, self.settings.temperature, valid)

    def imitation(self, eo: SegOutput, teacher: SegOutput, label: Tensor) -> Tensor:
        """Return the distance of the EO stream's two finest maps, from stride 4 on, from the teacher's."""
        first = self.students[self.both].levels[0]
        pairs = zip(eo.pyramid[first : first + 2], teacher.pyramid[first : first + 2], strict=True)
        found = [losses.feature_imitation(mine, theirs, losses.cover(label, mine.shape[-2:])) for mine, theirs in pairs]
        return torch.stack(found).mean()

    def contrast(self, outputs: dict[str, SegOutput], teacher: SegOutput, label: Tensor) -> Tensor:
        """Contrast pixels of the IR and fused views with those of all views, the EO teacher and earlier batches."""
        vectors, classes, views = [], [], []
        for view, (name, out) in enumerate([*outputs.items(), ("teacher", teacher)]):
            pixels, found, _ = losses.sample_pixels(out.decoded, label, self.settings.contrast_pixels)
            head = self.project_teacher if name == "teacher" else self.project
            vectors.append(nn.functional.normalize(head(pixels).float(), dim=1) if len(pixels) > 1 else pixels[:0])
            classes.append(found)
            views.append(torch.full_like(found, view))
        if any(len(part) < 2 for part in vectors):
            return outputs[FUSED].logits.sum() * 0.0  # nothing is labelled
        kept, kept_classes = self.bank.sample(BANK_KEYS)
        keys, key_classes = torch.cat([*vectors, kept]), torch.cat([*classes, kept_classes])
        key_views = torch.cat([*views, torch.full_like(kept_classes, -1)])
        anchors = torch.cat(vectors[1:3])  # IR and fused, which learn from EO and its teacher
        anchor_classes, anchor_views = torch.cat(classes[1:3]), torch.cat(views[1:3])
        same_view = anchor_views[:, None] == key_views[None]
        comparable = ~(same_view & (anchor_classes[:, None] == key_classes[None]))  # positives are of other views
        temperature, hardest = self.settings.contrast_temperature, self.settings.hardest
        given = (anchors, anchor_classes, keys, key_classes, temperature)
        loss = losses.pixel_contrast(*given, comparable=comparable, hardest=hardest)
        self.bank.push(torch.cat(vectors[2:]), torch.cat(classes[2:]))
        return loss

    def diagnostics(self) -> dict[str, float]:
        """Return what is exchanged, per layer and sensor; warn where a threshold leaves nothing to exchange."""
        most = max(self.students[self.both].trunk.exchanged_shares().values())
        if self.settings.exchange != "none" and most < INERT:
            warnings.warn(
                f"the exchange is inert: at most {100 * most:.1f} % of a layer's channels are replaced. "
                "Raise threshold, or leave it out to exchange a share of every layer",
                stacklevel=2,
            )
        return super().diagnostics()


def projection_head(channels: int) -> nn.Sequential:
    """Create the head from pixels' features (M, C) to the space of the contrast (M, 256)."""
    hidden = (nn.Linear(channels, channels), nn.BatchNorm1d(channels), nn.ReLU(inplace=True))
    return nn.Sequential(*hidden, nn.Linear(channels, PROJECTED))

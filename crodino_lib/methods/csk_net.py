"""CSK-Net: one network that serves both sensors together and each alone, the second one at the baseline's cost.

A reconstruction: neither the full text nor official code of arXiv 2312.02240 was available. Notebook 05 lists what is
known and what is our guess; most guesses are settings here. "EO" is the first sensor of a run, "IR" the second.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from crodino_lib import losses
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.methods.cen import CENSettings, StreamedMethod
from crodino_lib.models import ClassBank, SegNet, SegOutput
from crodino_lib.models.cen import FUSED, ExchangeForm, ExchangePlace, ExchangeRule
from crodino_lib.models.csk_net import GatedFusion, GateForm

PROJECTED = 256  # width of the space in which pixels are contrasted
BANK_KEYS = 64  # of every class, drawn from the bank for every step


class CSKSettings(CENSettings):
    """Settings of CSK-Net; the defaults are our reference reconstruction."""

    exchange: ExchangeForm = Field("mixed", description="replace channels by the other stream's, by the mean, or none")
    exchange_where: ExchangePlace = Field("deep", description="exchange in the last two stages, or in all")
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
        self.project, self.project_teacher = (  # two heads, as the teacher's features are another network's
            nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, PROJECTED))
            for _ in range(2)
        )
        self.bank = ClassBank(self.num_classes, settings.bank, PROJECTED)

    @property
    def label_free(self) -> tuple[str, ...]:
        """Retention, distillation into IR, and the contrast, for which the EO teacher tells the classes."""
        settings = self.settings
        terms = {
            "retention/logits": settings.retention_weight and not settings.retention_where_right,
            "retention/features": settings.retention_features,
            "fused": True,
            "contrast": settings.contrast_weight,
        }
        return tuple(term for term, used in terms.items() if used)

    def build_network(self, net: SegNet, rule: ExchangeRule) -> GatedFusion:
        """Build two streams and the fused one."""
        return GatedFusion(net, self.sensors, rule, self.settings.exchange_where, self.settings.gate)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the terms of segmentation, retention of the EO teacher, fused to IR, contrast and sparsity."""
        eo, ir = self.sensors
        settings, label, inside = self.settings, batch.labels[eo], batch.inside[eo]  # paired geometry: equal for both
        exchanging = torch.rand(()).item() >= settings.exchange_dropout
        outputs = self.both.each(batch.images[eo], batch.images[ir], exchanging=exchanging)
        teacher = self.teacher(batch.images)
        terms = self.segmentation(outputs, batch.labels)
        terms["retention/logits"] = settings.retention_weight * self.retention(outputs[eo], teacher, label, inside)
        terms["retention/features"] = settings.retention_features * self.imitation(outputs[eo], teacher, inside)
        mine, fused = outputs[ir].logits, outputs[FUSED].logits
        valid = losses.cover(inside, mine.shape[-2:])
        terms["fused"] = settings.fused_weight * losses.pixel_distillation(mine, fused, settings.temperature, valid)
        if settings.contrast_weight:
            started = float(progress >= settings.contrast_start)
            classes = losses.fill_unlabelled(label, losses.likely_labels(teacher.logits, inside))
            terms["contrast"] = settings.contrast_weight * started * self.contrast(outputs, teacher, classes)
        return terms | {"sparsity": settings.sparsity_weight * self.both.trunk.sparsity()}

    def retention(self, eo: SegOutput, teacher: SegOutput, label: Tensor, inside: Tensor) -> Tensor:
        """Return the distillation of the EO teacher's logits into the EO stream, inside the scene."""
        valid = losses.cover(inside, eo.logits.shape[-2:])
        if self.settings.retention_where_right:
            valid = valid * (teacher.logits.argmax(dim=1) == losses.nearest_labels(label, valid.shape[-2:]))
        return losses.pixel_distillation(eo.logits, teacher.logits, self.settings.temperature, valid)

    def imitation(self, eo: SegOutput, teacher: SegOutput, inside: Tensor) -> Tensor:
        """Return the distance of the EO stream's two finest maps, from stride 4 on, from the teacher's."""
        first = self.both.levels[0]
        pairs = zip(eo.pyramid[first : first + 2], teacher.pyramid[first : first + 2], strict=True)
        covers = [(mine, theirs, losses.cover(inside, mine.shape[-2:])) for mine, theirs in pairs]
        return torch.stack([losses.feature_imitation(*maps) for maps in covers]).mean()

    def contrast(self, outputs: dict[str, SegOutput], teacher: SegOutput, label: Tensor) -> Tensor:
        """Contrast pixels of the IR and fused views with those of all views, the EO teacher and earlier batches."""
        seen = (*outputs.values(), teacher)  # by EO, IR, fused and the teacher: views 0 to 3
        drawn = [losses.sample_pixels(out.decoded, label, self.settings.contrast_pixels) for out in seen]
        pixels, classes, _ = zip(*drawn, strict=True)
        if len(pixels[0]) < 2:
            return outputs[FUSED].logits.sum() * 0.0  # nothing is labelled
        heads = [self.project] * len(outputs) + [self.project_teacher]
        vectors = [F.normalize(head(found).float(), dim=1) for head, found in zip(heads, pixels, strict=True)]
        kept, kept_classes = self.bank.sample(BANK_KEYS)
        keys, key_classes = torch.cat([*vectors, kept]), torch.cat([*classes, kept_classes])
        views = torch.cat([torch.full_like(part, view) for view, part in enumerate([*classes, kept_classes])])
        mine = (views == 1) | (views == 2)  # IR and fused learn from EO and its teacher
        other_view, other_class = (of[mine][:, None] != of for of in (views, key_classes))
        given = (keys[mine], key_classes[mine], keys, key_classes, self.settings.contrast_temperature)
        comparable = other_view | other_class  # positives are of other views
        loss = losses.pixel_contrast(*given, comparable=comparable, hardest=self.settings.hardest)
        self.bank.push(torch.cat(vectors[2:]), torch.cat(classes[2:]))
        return loss

"""Distillation: a student learns from labels and from a trained teacher; each method of the table is one loss here.

Losses that need no labels are computed inside the scene, labelled or not; outside, where augmentation pads, the
teacher's output means nothing. CIRKD's relations are computed everywhere, as published.
"""

import abc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from crodino_lib import losses
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.methods.base import Method
from crodino_lib.models import ClassBank, SegOutput
from crodino_lib.models.segnet import conv_block
from crodino_lib.settings import Strict


class DistillationSettings(Strict):
    """Settings of all distillation methods; ``methods.toml`` lists which method has which."""

    loss: Literal[
        "pixels", "channels", "features", "decoupled", "relations", "memory", "prototypes", "masks", "generation"
    ] = Field("pixels", description="output of the teacher that the student follows")
    weight: float = Field(1.0, ge=0, description="weight of that loss")
    cross_entropy_weight: float = Field(1.0, ge=0, description="weight of the labels' cross-entropy")
    temperature: float = Field(1.0, gt=0, description="temperature of losses pixels, channels, features and decoupled")
    pixel_weight: float = Field(0.0, ge=0, description="weight of loss pixels beside the main loss")
    channel_weight: float = Field(0.0, ge=0, description="weight of loss channels beside the main loss")
    memory_weight: float = Field(0.0, ge=0, description="weight of loss memory, each of its two terms")
    max_cells: int = Field(256, ge=1, description="relations: largest number of positions of a map, which is pooled")
    pixel_keys: int = Field(2000, ge=1, description="memory: pixels kept per class; published 20000, for 40000 steps")
    region_keys: int = Field(500, ge=1, description="memory: regions kept per class; published 2000")
    mask_stage: float = Field(0.25, ge=0, lt=1, description="masks: first part of the run, in which tokens learn")
    centre_logits: bool = Field(True, description="masks: subtract each position's mean logit; published: not")

    def weights(self) -> dict[str, float]:
        """Return the losses of the method and their weights."""
        weights = {"pixels": self.pixel_weight, "channels": self.channel_weight, "memory": self.memory_weight}
        weights[self.loss] = weights.get(self.loss, 0.0) + self.weight
        return {name: weight for name, weight in weights.items() if weight}


def adapter(student_channels: int, teacher_channels: int, bias: bool = False) -> nn.Module:
    """Create the 1x1 convolution from the student's channels to the teacher's; the identity where they agree."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1, bias=bias)  # CIRKD losses/cwd.py has none, MGD does


def at_size_of(teacher: SegOutput, student: SegOutput) -> SegOutput:
    """Return the teacher's output, interpolated where a map's size is not the student's; channels may differ."""
    maps, likes = ([*out.pyramid, out.logits, out.context, out.decoded] for out in (teacher, student))
    sizes = [like.shape[-2:] for like in likes]
    *pyramid, logits, context, decoded = (
        x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        for x, size in zip(maps, sizes, strict=True)
    )
    return replace(teacher, logits=logits, pyramid=pyramid, context=context, decoded=decoded)


@torch.no_grad()
def outputs_for_zeros(method: Method) -> tuple[SegOutput, SegOutput]:
    """Return a student's and its teacher's output for one image of zeros, which tell the widths of their maps."""
    (sensor,) = method.sensors
    images = {name: torch.zeros(1, method.card.sensors[name].channels, 64, 64) for name in method.batch_sensors}
    outputs = method.students[sensor].eval()(images[sensor]), method.teacher(images)  # so no statistic moves
    method.students.train()
    return outputs


class View(NamedTuple):
    """What the student's view shows of the scenes, as in ``Batch``."""

    labels: Tensor  # (B, H, W) int64
    inside: Tensor  # (B, H, W) bool


class Term(nn.Module, abc.ABC):
    """One loss and the modules trained for it alone; their widths are read from outputs for one image of zeros."""

    def __init__(self, settings: DistillationSettings, num_classes: int, student: SegOutput, teacher: SegOutput):
        super().__init__()
        self.settings, self.num_classes = settings, num_classes

    @abc.abstractmethod
    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return the unweighted terms; the teacher's maps have the sizes of the student's."""


class Softened(Term):
    """Hinton's distillation of every position, or CWD of every channel, of a map that ``SegOutput`` calls ``of``."""

    def __init__(self, name: str, loss: Callable[..., Tensor], of: str, *given):
        super().__init__(*given)
        self.name, self.loss, self.of = name, loss, of
        self.adapt = adapter(*(getattr(out, of).shape[1] for out in given[2:]))

    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return the distillation term of the map."""
        mine, theirs = self.adapt(getattr(student, self.of)), getattr(teacher, self.of)
        valid = losses.cover(view.inside, theirs.shape[-2:])
        return {self.name: self.loss(mine, theirs, self.settings.temperature, valid)}


class Decoupled(Term):
    """Decoupled distillation: the right class, and the ranking of the wrong ones at eight times its weight."""

    warmup = 20 / 300  # published: 20 of 240 to 300 epochs

    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return the distillation term on the logits, which fades in."""
        small = losses.nearest_labels(view.labels, student.logits.shape[-2:])
        loss = losses.decoupled_distillation(student.logits, teacher.logits, small, self.settings.temperature)
        return {"decoupled": min(progress / self.warmup, 1.0) * loss}


class Relations(Term):
    """CIRKD within the batch: similarities between positions, padding included as published."""

    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return the distillation term on ``context``, the feature behind the ASPP."""
        cells = self.settings.max_cells
        return {"relations": losses.cross_image_similarity(student.context, teacher.context, max_cells=cells)}


class Memory(Term):
    """CIRKD against memories of the teacher's pixels and regions, on ``context``.

    Pixel keys are up to 16 random positions of a class in an image, where the official code takes the image's first
    ones, of whatever class. The banks are filled before they are used, as published: an anchor may be its own key.
    Source: CIRKD losses/cirkd_memory.py::StudentSegContrast, without the cross-entropy of its auxiliary head.
    """

    per_image, pixels_used, regions_used = 16, 4096, 1024  # published; the last two are shared by the classes

    def __init__(self, settings: DistillationSettings, num_classes: int, student: SegOutput, teacher: SegOutput):
        super().__init__(settings, num_classes, student, teacher)
        width = teacher.context.shape[1]
        hidden = conv_block(student.context.shape[1], width, 1)
        self.project = nn.Sequential(hidden, nn.Conv2d(width, width, 1, bias=False))
        self.pixels = ClassBank(num_classes, settings.pixel_keys, width)
        self.regions = ClassBank(num_classes, settings.region_keys, width)

    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return the terms of every labelled position against the memories of pixels and of regions."""
        directions = F.normalize(teacher.context, dim=1)  # so that no position dominates a region's mean
        self.pixels.push(*losses.sample_pixels(directions, view.labels, self.per_image)[:2])
        self.regions.push(*losses.region_vectors(directions, view.labels, self.num_classes)[:2])
        both = torch.cat([self.project(student.context), teacher.context], dim=1)  # concatenated: one choice of rows
        rows, _, _ = losses.sample_pixels(both, view.labels, per_class=both[0, 0].numel())
        anchors, targets = rows.chunk(2, dim=1)
        banks = {"pixel_memory": (self.pixels, self.pixels_used), "region_memory": (self.regions, self.regions_used)}
        keys = {name: bank.sample(used // self.num_classes + 1)[0] for name, (bank, used) in banks.items()}
        return {name: losses.memory_similarity(anchors, targets, drawn) for name, drawn in keys.items()}


class Prototypes(Term):
    """ProtoKD's maps of similarity to each class. Its Dice loss is left out: no other method has one."""

    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return the distillation term on ``decoded``."""
        maps = (student.decoded, teacher.decoded)
        return {"prototypes": losses.prototype_map_distance(*maps, view.labels, self.num_classes)}


class Masks(Term):
    """MasKD on the logits: tokens learn masks on the frozen teacher, then the student follows it under them."""

    count = 8  # published for segmentation
    rate = 100  # their published learning rate is 0.1, a hundred times that of our one optimiser

    def __init__(self, settings: DistillationSettings, num_classes: int, student: SegOutput, teacher: SegOutput):
        super().__init__(settings, num_classes, student, teacher)
        self.tokens = nn.Parameter(0.01 * torch.randn(self.count, num_classes) / self.rate)

    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return two terms that train the tokens at first, and one that trains the student afterwards; else 0."""
        mine, theirs = self.centred(student.logits), self.centred(teacher.logits)
        valid = losses.cover(view.inside, theirs.shape[-2:])
        masks = losses.receptive_masks(theirs, self.rate * self.tokens)
        terms = dict.fromkeys(("tokens", "overlap", "masks"), torch.zeros((), device=theirs.device))
        if progress >= self.settings.mask_stage:  # a part of the run in place of the published 10,000 iterations
            return terms | {"masks": losses.masked_distillation(mine, theirs, masks, valid)}
        told = losses.segmentation_cross_entropy(masks.sum(dim=1, keepdim=True) * theirs, view.labels)
        return terms | {"tokens": told, "overlap": losses.mask_overlap(masks * valid.unsqueeze(1))}

    def centred(self, logits: Tensor) -> Tensor:
        """Return logits less their mean at each position: a common constant changes squared errors, not softmax."""
        logits = logits.float()
        return logits - logits.mean(dim=1, keepdim=True) if self.settings.centre_logits else logits


class Generation(Term):
    """MGD: the teacher's deepest map, generated from a quarter of the student's positions."""

    masked = 0.75  # published for segmentation

    def __init__(self, settings: DistillationSettings, num_classes: int, student: SegOutput, teacher: SegOutput):
        super().__init__(settings, num_classes, student, teacher)
        width = teacher.pyramid[-1].shape[1]
        self.adapt = adapter(student.pyramid[-1].shape[1], width, bias=True)
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.generate = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, student: SegOutput, teacher: SegOutput, view: View, progress: float) -> dict[str, Tensor]:
        """Return the generation term on the last map of the pyramid, weighed as published on its size."""
        mine, theirs = self.adapt(student.pyramid[-1]), teacher.pyramid[-1]
        kept = torch.rand(len(mine), 1, *mine.shape[-2:]) >= self.masked  # on the CPU: every device draws alike
        generated = self.generate(mine * kept.to(mine))
        alpha, valid = losses.alpha_for(*theirs.shape[1:]), losses.cover(view.inside, theirs.shape[-2:])
        return {"generation": losses.masked_generation(generated, theirs, alpha, valid)}


LOSSES: dict[str, Callable[..., Term]] = {
    "pixels": partial(Softened, "pixels", losses.pixel_distillation, "logits"),
    "channels": partial(Softened, "channels", losses.channel_distillation, "logits"),  # where each class is located
    "features": partial(Softened, "features", losses.channel_distillation, "decoded"),  # the classifier's input
    **{term.__name__.lower(): term for term in (Decoupled, Relations, Memory, Prototypes, Masks, Generation)},
}
LABEL_FREE = {n: (n,) for n in ("pixels", "channels", "features", "relations", "generation")}  # loss -> terms
LABEL_FREE["masks"] = ("masks", "overlap")  # tokens keep apart without labels


class Distillation(Method):
    """A student of one sensor and a teacher: ``L = a CE + sum_i w_i L_i``. Both are given the same view of a scene.

    Sources and departures stand with the losses and the settings. kd-v1 and kd-v2 are named as in tables of the
    CroDiNo-KD authors; that these are alpha 0 and 0.5 of their earlier code is our inference. ProtoKD's weight of the
    divergence is published per class and without T^2: 2.5 a pixel there is 0.025 here.
    """

    Settings = DistillationSettings
    sensor_count = 1
    taught_by = "fusion"

    def __init__(self, card: DatasetCard, config: RunConfig, settings: DistillationSettings, teacher: nn.Module):
        super().__init__(card, config, settings, teacher)
        outputs, self.weights = outputs_for_zeros(self), settings.weights()
        self.losses = nn.ModuleDict({name: LOSSES[name](settings, self.num_classes, *outputs) for name in self.weights})

    @property
    def label_free(self) -> tuple[str, ...]:
        """The losses that need no labels: the teacher's output stands in for them."""
        return tuple(f"distillation/{term}" for name in self.weights for term in LABEL_FREE.get(name, ()))

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the weighed cross-entropy and distillation terms."""
        (sensor,) = self.sensors
        view = View(batch.labels[sensor], batch.inside[sensor])
        student = self.students[sensor](batch.images[sensor])
        teacher = at_size_of(self.teacher(batch.images), student)
        cross_entropy = losses.segmentation_cross_entropy(student.logits, view.labels)
        terms = {f"segmentation/{sensor}": self.settings.cross_entropy_weight * cross_entropy}
        for name, loss in self.losses.items():
            found = loss(student, teacher, view, progress)
            terms |= {f"distillation/{term}": self.weights[name] * value for term, value in found.items()}
        return terms


class SelfTraining(Distillation):
    """The control of every cross-modal row: the same loss and the same scenes, but the student's own baseline teaches.

    What a teacher of another sensor brings is the difference to this row; all else, such as soft labels of unlabelled
    scenes, this row has too.
    """

    taught_by = "first"

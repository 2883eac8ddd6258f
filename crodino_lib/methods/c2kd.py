"""C2KD: a student and a teacher learn from each other through proxies, where these rank the classes alike."""

import copy
from pathlib import Path

from pydantic import Field
from torch import Tensor, nn

from crodino_lib import losses
from crodino_lib.config import RunConfig
from crodino_lib.data.sample import Batch, DatasetCard
from crodino_lib.methods.base import Method
from crodino_lib.methods.distillation import at_size_of, outputs_for_zeros
from crodino_lib.settings import Strict


class C2KDSettings(Strict):
    """Settings of C2KD; the defaults are those of its released code."""

    proxy_weight: float = Field(1.0, ge=0, description="weight of a network and its proxy following each other")
    selected_weight: float = Field(1.0, ge=0, description="weight of the proxies following each other where selected")
    threshold: float = Field(0.0, ge=-1, le=1, description="rank correlation above which a position is selected")
    remove_target: bool = Field(False, description="leave out the right class; released: its logit is set to 0")


def proxy(channels: int, classes: int) -> nn.Module:
    """Create a proxy: one hidden 1x1 convolution, then a classifier of each position."""
    hidden = nn.Conv2d(channels, channels, 1, bias=False)
    return nn.Sequential(hidden, nn.BatchNorm2d(channels), nn.LeakyReLU(0.1), nn.Conv2d(channels, classes, 1))


class C2KD(Method):
    """A student of one sensor and ``partner``, a copy of its teacher that is trained on and dropped at export.

    ``L = sum_m CE_m + D(m', m) + D(m, m') + S(m', n')`` over m = student and partner, where n is the other network and
    ' a proxy; ``D`` is the divergence per pixel and ``S`` ``selected_distillation`` of the first argument, which alone
    has gradients, from the second. Source: Huo et al., C2KD, CVPR 2024; huofushuo/C2KD
    ave/utils/helper.py::train_network_distill, which classifies: code of the paper's segmentation is not released.

    Ours: samples are labelled pixels, and every pixel of the scene for ``D``; proxies read ``decoded``, not the pooled
    third stage of four; one optimiser, the study's. The published teacher is of the other sensor alone, a study's
    teacher ``baseline``. In a teacher ``late`` or ``cen``, whose logits train their weights alone, the networks learn
    through the proxy.
    """

    Settings = C2KDSettings
    sensor_count = 1
    taught_by = "fusion"

    def __init__(self, card: DatasetCard, config: RunConfig, settings: C2KDSettings, teacher: nn.Module):
        super().__init__(card, config, settings, teacher)
        self.partner = copy.deepcopy(self.teacher.network).requires_grad_()  # there from the start, for resuming
        self.names = (*self.sensors, "teacher")
        widths = [out.decoded.shape[1] for out in outputs_for_zeros(self)]
        self.proxies = nn.ModuleList(proxy(width, self.num_classes) for width in widths)

    def load_teacher(self, folder: Path) -> None:
        """Load the teacher from the folder of its finished run, also into the copy that is trained on."""
        super().load_teacher(folder)
        self.partner.load_state_dict(self.teacher.network.state_dict())

    @property
    def label_free(self) -> tuple[str, ...]:
        """The terms between a network and its proxy; those between proxies set the right class apart."""
        return tuple(f"proxy/{name}" for name in self.names) if self.settings.proxy_weight else ()

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return cross-entropy, the term between it and its proxy, and that of its proxy, of both networks."""
        (sensor,), settings, terms = self.sensors, self.settings, {}
        labels, student = batch.labels[sensor], self.students[sensor](batch.images[sensor])
        outputs = student, at_size_of(self.partner(*[batch.images[name] for name in self.teacher.sensors]), student)
        proxies = [head(out.decoded) for head, out in zip(self.proxies, outputs, strict=True)]
        size = student.logits.shape[-2:]
        inside, small = losses.cover(batch.inside[sensor], size), losses.nearest_labels(labels, size)
        for name, out, own, other in zip(self.names, outputs, proxies, reversed(proxies), strict=True):
            bond = sum(losses.pixel_distillation(*maps, 1.0, inside) for maps in ((own, out.logits), (out.logits, own)))
            selected = losses.selected_distillation(own, other, small, settings.threshold, settings.remove_target)
            terms[f"segmentation/{name}"] = losses.segmentation_cross_entropy(out.logits, labels)
            terms[f"proxy/{name}"] = settings.proxy_weight * bond
            terms[f"selected/{name}"] = settings.selected_weight * selected
        return terms

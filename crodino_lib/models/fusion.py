"""Networks of two sensors that are fused before, inside or behind the encoder."""

import torch
from torch import Tensor, nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.encoder import first_convolution, stages
from crodino_lib.models.segnet import SegNet, SegOutput, encoder_for, single_sensor_net


class EarlyFusion(nn.Module):
    """Stack all sensors as the channels of one encoder.

    The RGB stem keeps its weights, every other channel starts from their mean over colours, and all are scaled so that
    the stem's response is as large as before.
    """

    def __init__(self, channels: list[int], config: ModelConfig):
        super().__init__()
        total = sum(channels)
        self.encoder = encoder_for(total, config)
        self.feature_info = self.encoder.feature_info
        with torch.no_grad():
            colours = encoder_for(3, config)
            weight = first_convolution(colours).weight
            mean = weight.mean(dim=1, keepdim=True)
            parts = [weight if count == 3 else mean.repeat(1, count, 1, 1) for count in channels]
            first_convolution(self.encoder).weight.copy_(torch.cat(parts, dim=1) * 3 / total)

    def forward(self, *images: Tensor) -> list[Tensor]:
        """Return the pyramid of the stacked images."""
        return self.encoder(torch.cat(images, dim=1))


class AttentionComplementaryModule(nn.Module):
    """Weigh a sensor's channels as ACNet does: ``sigmoid(conv1x1(mean over positions))`` times the map.

    Source: Hu et al., ACNet, ICIP 2019; one full 1x1 convolution, without bottleneck or normalisation.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weigh = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map (B, C, h, w) with each channel multiplied by its weight in (0, 1)."""
        return features * torch.sigmoid(self.weigh(features.mean(dim=(2, 3), keepdim=True)))


class MiddleFusion(nn.Module):
    """ACNet's encoder: one branch per sensor and a merged branch that their weighed maps are added to, stage by stage.

    The sensors' branches receive nothing from the merged branch, and only the merged pyramid is decoded.
    Source: Hu et al., ACNet, ICIP 2019. Ours: the study's encoder and decoder in place of ResNet-50, transposed
    residual blocks and five supervised scales, so that it compares with every other method.
    """

    def __init__(self, channels: list[int], config: ModelConfig):
        super().__init__()
        encoders = [encoder_for(c, config) for c in [*channels, 3]]
        self.feature_info = encoders[0].feature_info
        self.branches = nn.ModuleList(encoders[:-1])
        self.merge = stages(encoders[-1])[1:]  # it begins where the first maps are added, so it needs no stem
        self.attention = nn.ModuleList(
            nn.ModuleList(map(AttentionComplementaryModule, self.feature_info.channels())) for _ in channels
        )

    def forward(self, *images: Tensor) -> list[Tensor]:
        """Return the merged pyramid."""
        pyramids = [branch(image) for branch, image in zip(self.branches, images, strict=True)]
        merged = []
        for i, levels in enumerate(zip(*pyramids, strict=True)):
            level = sum(attention[i](own) for attention, own in zip(self.attention, levels, strict=True))
            merged.append(self.merge[i - 1](merged[-1]) + level if merged else level)
        return merged


class LateFusion(nn.Module):
    """One network per sensor, a learned weight for each one's logits: the ensemble of CEN (Wang et al., NeurIPS 2020).

    The weights are the only fusion parameters, and the logits reach them detached: the networks train independently,
    except that their gradients are clipped together.
    """

    def __init__(self, channels: list[int], classes: int, config: ModelConfig):
        super().__init__()
        self.networks = nn.ModuleList(single_sensor_net(count, classes, config) for count in channels)
        self.ensemble = Ensemble(len(channels))

    def forward(self, *images: Tensor) -> SegOutput:
        """Return the weighed logits; every other map is the concatenation of the sensors' maps."""
        return self.ensemble(self.each(*images))

    def each(self, *images: Tensor) -> list[SegOutput]:
        """Return the output of each sensor's network."""
        return [network(image) for network, image in zip(self.networks, images, strict=True)]


class Ensemble(nn.Module):
    """Compute ``sum_m softmax(alpha)_m logits_m``, the logits detached.

    ``alpha`` learns at ten times the networks' rate: in a few hundred steps of Adam it would not leave its start.
    """

    rate = 10.0

    def __init__(self, members: int):
        super().__init__()
        self.learned = nn.Parameter(torch.zeros(members))

    def forward(self, outputs: list[SegOutput]) -> SegOutput:
        """Return one output; maps are concatenated, since separate networks have no common basis."""
        weights = (self.rate * self.learned).softmax(dim=0)
        logits = sum(weight * out.logits.detach() for weight, out in zip(weights, outputs, strict=True))
        levels = zip(*([*out.pyramid, out.context, out.decoded] for out in outputs), strict=True)
        *pyramid, context, decoded = (torch.cat(maps, dim=1) for maps in levels)
        return SegOutput(logits, pyramid, context, None, None, decoded)


def fusion_net(fusion: str, channels: list[int], classes: int, config: ModelConfig) -> nn.Module:
    """Create the network of ``early``, ``middle`` or ``late`` fusion."""
    if fusion == "late":
        return LateFusion(channels, classes, config)
    encoder = EarlyFusion if fusion == "early" else MiddleFusion
    return SegNet(encoder(channels, config), classes, config)

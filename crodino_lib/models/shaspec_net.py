"""ShaSpec's network: one shared bottleneck, one specific bottleneck per sensor, a decoder that stands missing ones."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.cen import activate, as_three_channels, give_streams
from crodino_lib.models.encoder import create_encoder
from crodino_lib.models.segnet import Bottleneck, Decoder, SegOutput


class Features(NamedTuple):
    """What the sensors that are there have given, by sensor.

    Attributes:
        shared: (B, 2C, h, w) maps of the shared bottleneck.
        specific: (B, 2C, h, w) maps of each sensor's own.
        pooled: (B, C') means over positions of each specific encoder's last map, which tell the sensor.
        fine: the shared encoder's maps at the skip.
        pyramid: the shared encoder's maps.
    """

    shared: dict[str, Tensor]
    specific: dict[str, Tensor]
    pooled: dict[str, Tensor]
    fine: dict[str, Tensor]
    pyramid: dict[str, list[Tensor]]


class SharedSpecificNet(nn.Module):
    """Each sensor as what it shares plus a composed rest; a missing sensor is the shared part of one that is there.

    Args:
        channels: sensor -> channels, of every sensor the decoder has a place for.
        available: the sensors it takes.
        classes: number of classes K.
        config: encoder and widths.

    Source: Wang et al., ShaSpec, CVPR 2023. Ours: the study's network; the mean of the shared maps as skip; where the
    official code has instance norms, a BatchNorm per sensor in the shared part and per set of sensors in the decoder.
    """

    def __init__(self, channels: dict[str, int], available: tuple[str, ...], classes: int, config: ModelConfig):
        super().__init__()
        self.sensors, self.available = tuple(channels), available

        def bottleneck(count: int) -> Bottleneck:
            return Bottleneck(create_encoder(config.encoder, config.weights, count, config.output_stride), config)

        self.shared = bottleneck(3)
        give_streams(self.shared, available)
        self.specific = nn.ModuleDict({sensor: bottleneck(channels[sensor]) for sensor in available})
        width = 2 * config.block_channels
        self.compose = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)
        self.decoder = Decoder(len(channels) * width, self.shared.skip_channels, config.decoder_channels, classes)
        subsets = [c for count in range(1, len(available) + 1) for c in itertools.combinations(available, count)]
        give_streams(self.decoder, ["+".join(subset) for subset in subsets])  # what is missing moves its input's mean

    def forward(self, *images: Tensor) -> SegOutput:
        """Segment from all the sensors it takes."""
        return self.decode(self.features(dict(zip(self.available, images, strict=True))))

    def features(self, images: dict[str, Tensor]) -> Features:
        """Shared and specific maps of the sensors given."""
        activate(self.shared, tuple(images))
        pyramid, shared = self.shared(torch.cat([as_three_channels(image) for image in images.values()]))
        levels = [level.chunk(len(images)) for level in pyramid]
        pyramids = {sensor: [level[i] for level in levels] for i, sensor in enumerate(images)}
        own = {sensor: self.specific[sensor](image) for sensor, image in images.items()}
        return Features(
            shared=dict(zip(images, shared.chunk(len(images)), strict=True)),
            specific={sensor: context for sensor, (_, context) in own.items()},
            pooled={sensor: maps[-1].mean(dim=(2, 3)) for sensor, (maps, _) in own.items()},
            fine={sensor: maps[self.shared.skip_index] for sensor, maps in pyramids.items()},
            pyramid=pyramids,
        )

    def decode(self, features: Features) -> SegOutput:
        """Logits from the sensors that are there; ``context`` is the mean shared beside the mean specific map."""
        composed = {
            sensor: shared + self.compose(torch.cat([shared, features.specific[sensor]], dim=1))
            for sensor, shared in features.shared.items()
        }
        substitute = next(iter(features.shared.values()))
        activate(self.decoder, ("+".join(composed),))
        bottleneck = torch.cat([composed.get(sensor, substitute) for sensor in self.sensors], dim=1)
        logits, decoded = self.decoder(bottleneck, _mean(features.fine))
        shared, private = _mean(features.shared), _mean(features.specific)
        pyramid = next(iter(features.pyramid.values()))
        return SegOutput(logits, pyramid, torch.cat([shared, private], dim=1), shared, private, decoded)


def _mean(maps: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(maps.values())).mean(dim=0)

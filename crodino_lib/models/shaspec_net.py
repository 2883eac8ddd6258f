"""ShaSpec's network: one shared bottleneck, one specific bottleneck per sensor, a decoder for any set of sensors."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.cen import activate, give_streams, stacked, unstacked
from crodino_lib.models.segnet import Decoder, SegOutput, bottleneck


class Features(NamedTuple):
    """Maps of the sensors that are present, by sensor."""

    shared: dict[str, Tensor]  # (B, 2C, h, w) of the shared bottleneck
    specific: dict[str, Tensor]  # (B, 2C, h, w) of each sensor's own bottleneck
    pooled: dict[str, Tensor]  # (B, C') means of each specific encoder's last map, for the sensor classifier
    pyramid: dict[str, list[Tensor]]  # the shared encoder's maps


class SharedSpecificNet(nn.Module):
    """Compose each sensor from shared and specific maps; a missing sensor is replaced by a present one's shared map.

    Args:
        channels: sensor -> channels, of every sensor the decoder has a place for.
        available: the sensors that the network can be given.
        classes: number of classes K.
        config: encoder and widths.

    Source: Wang et al., ShaSpec, CVPR 2023. Ours: the study's network; the mean of the shared maps as skip; where the
    official code has instance norms, a BatchNorm per sensor in the shared part and per set of sensors in the decoder.
    """

    def __init__(self, channels: dict[str, int], available: tuple[str, ...], classes: int, config: ModelConfig):
        super().__init__()
        self.sensors, self.available = tuple(channels), available
        self.shared = bottleneck(3, config)
        give_streams(self.shared, available)
        self.specific = nn.ModuleDict({sensor: bottleneck(channels[sensor], config) for sensor in available})
        width = 2 * config.block_channels
        self.compose = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)
        self.decoder = Decoder(len(channels) * width, self.shared.skip_channels, config.decoder_channels, classes)
        subsets = [c for count in range(1, len(available) + 1) for c in itertools.combinations(available, count)]
        give_streams(self.decoder, ["+".join(subset) for subset in subsets])  # a missing sensor moves its input's mean

    def forward(self, *images: Tensor) -> SegOutput:
        """Segment from all available sensors."""
        return self.decode(self.features(dict(zip(self.available, images, strict=True))))

    def features(self, images: dict[str, Tensor]) -> Features:
        """Return shared and specific maps of the sensors given."""
        activate(self.shared, images)
        pyramid, shared = self.shared(stacked(images.values()))
        parts = unstacked([*pyramid, shared], images)
        own = {sensor: self.specific[sensor](image) for sensor, image in images.items()}
        return Features(
            shared={sensor: maps[-1] for sensor, maps in parts.items()},
            specific={sensor: context for sensor, (_, context) in own.items()},
            pooled={sensor: maps[-1].mean(dim=(2, 3)) for sensor, (maps, _) in own.items()},
            pyramid={sensor: maps[:-1] for sensor, maps in parts.items()},
        )

    def decode(self, features: Features) -> SegOutput:
        """Return the output; ``context`` is the mean shared map and the mean specific map, concatenated."""
        composed = {
            sensor: shared + self.compose(torch.cat([shared, features.specific[sensor]], dim=1))
            for sensor, shared in features.shared.items()
        }
        substitute = next(iter(features.shared.values()))
        activate(self.decoder, ["+".join(composed)])
        stack = torch.cat([composed.get(sensor, substitute) for sensor in self.sensors], dim=1)
        pyramids = list(features.pyramid.values())
        logits, decoded = self.decoder(stack, _mean(pyramid[self.shared.skip_index] for pyramid in pyramids))
        shared, private = _mean(features.shared.values()), _mean(features.specific.values())
        return SegOutput(logits, pyramids[0], torch.cat([shared, private], dim=1), shared, private, decoded)


def _mean(maps: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(maps)).mean(dim=0)

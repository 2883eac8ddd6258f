"""Networks with shared and specific bottlenecks: ShaSpec's, for any set of sensors, and DisCoM-KD's, for one."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.cen import activate, give_streams, stacked, unstacked
from crodino_lib.models.segnet import Decoder, SegOutput, bottleneck, conv_block


class Features(NamedTuple):
    """Maps of the sensors that are present, by sensor."""

    shared: dict[str, Tensor]  # (B, 2C, h, w) of the shared bottleneck
    specific: dict[str, Tensor]  # (B, 2C, h, w) of each sensor's own bottleneck
    pooled: dict[str, Tensor]  # (B, C') means of each specific encoder's last map, for the sensor classifier
    pyramid: dict[str, list[Tensor]]  # the shared encoder's maps


class SharedSpecificNet(nn.Module):
    """Compose each sensor from shared and specific maps; a missing sensor is replaced by a present one's shared map.

    ``channels`` is sensor -> channels of all that the decoder has a place for; ``available`` those it can be given.

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


class TwoEncoderNet(nn.Module):
    """Segment by an invariant and a specific branch, each with encoder, context and projection, and one decoder.

    This is the baseline plus a second encoder and context: both projections together are as large as the baseline's.
    The invariant branch and the decoder are initialised first, in the baseline's order, so their weights start equal.

    Source: DisCoM-KD, BMVC 2024, whose vectors are per-position maps here, and whose classifier is the decoder.
    """

    def __init__(self, in_channels: int, classes: int, config: ModelConfig):
        super().__init__()
        channels = config.block_channels
        self.invariant = bottleneck(in_channels, config)
        self.decoder = Decoder(2 * channels, self.invariant.skip_channels, config.decoder_channels, classes)
        self.specific = bottleneck(in_channels, config)
        for branch in (self.invariant, self.specific):
            branch.projection = _first_channels(branch.projection, channels)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment images (B, channels, H, W), normalised; H and W multiples of 16."""
        return self.branches(image)[0]

    def branches(self, image: Tensor) -> tuple[SegOutput, Tensor]:
        """Return the output, and the specific map (B, 2C, h, w) before its projection, which only training uses.

        In the output ``shared`` is the invariant map, ``private`` the informative part of the specific one, and
        ``context`` both: the decoder's input beside the invariant encoder's fine map.
        """
        pyramid, shared = self.invariant(image)
        specific = self.specific.context(self.specific.encoder(image)[-1])
        private = self.specific.projection(specific)
        context = torch.cat([shared, private], dim=1)
        logits, decoded = self.decoder(context, pyramid[self.invariant.skip_index])
        return SegOutput(logits, pyramid, context, shared, private, decoded), specific


def _first_channels(projection: nn.Sequential, count: int) -> nn.Sequential:
    """Return the projection to the first ``count`` channels, whose values do not change."""
    narrow = conv_block(projection[0].in_channels, count, 1)
    state = projection.state_dict()
    narrow.load_state_dict({name: value[:count] if value.ndim else value for name, value in state.items()})
    return narrow

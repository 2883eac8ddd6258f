"""DisCoM-KD's network of one sensor: an encoder for what sensors share, an encoder for what is the sensor's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.encoder import create_encoder
from crodino_lib.models.segnet import Bottleneck, Decoder, SegOutput, conv_block


class TwoEncoderNet(nn.Module):
    """An invariant and a specific branch, each encoder, context and projection; one decoder, as wide as the baseline's.

    The baseline and a second encoder and context: both projections together are as large as the baseline's one. The
    invariant branch and the decoder are drawn first and in the baseline's order, so that they start where it starts.

    Args:
        in_channels: channels of the sensor.
        classes: number of classes K.
        config: encoder and widths.

    Source: DisCoM-KD, BMVC 2024, whose vectors are per-position maps here, and whose classifier is the decoder.
    """

    def __init__(self, in_channels: int, classes: int, config: ModelConfig):
        super().__init__()

        def bottleneck() -> Bottleneck:
            return Bottleneck(create_encoder(config.encoder, config.weights, in_channels, config.output_stride), config)

        channels = config.block_channels
        self.invariant = bottleneck()
        self.decoder = Decoder(2 * channels, self.invariant.skip_channels, config.decoder_channels, classes)
        self.specific = bottleneck()
        for branch in (self.invariant, self.specific):
            branch.projection = _first_channels(branch.projection, channels)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment images (B, channels, H, W), normalised; H and W multiples of 16."""
        return self.branches(image)[0]

    def branches(self, image: Tensor) -> tuple[SegOutput, Tensor]:
        """The output, and the specific map (B, 2C, h, w) before its projection, for what only training looks at.

        In the output ``shared`` is the invariant map, ``private`` the informative part of the specific one, and
        ``context`` both: what the decoder sees beside the invariant encoder's fine map.
        """
        pyramid, shared = self.invariant(image)
        specific = self.specific.context(self.specific.encoder(image)[-1])
        private = self.specific.projection(specific)
        context = torch.cat([shared, private], dim=1)
        logits, decoded = self.decoder(context, pyramid[self.invariant.skip_index])
        return SegOutput(logits, pyramid, context, shared, private, decoded), specific


def _first_channels(projection: nn.Sequential, count: int) -> nn.Sequential:
    """The projection to its first ``count`` channels: each is computed from the input alone, so they do not change."""
    narrow = conv_block(projection[0].in_channels, count, 1)
    state = projection.state_dict()
    narrow.load_state_dict({name: value[:count] if value.ndim else value for name, value in state.items()})
    return narrow

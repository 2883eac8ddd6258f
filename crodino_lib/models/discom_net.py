"""DisCoM-KD's network of one sensor: an encoder for shared features and an encoder for the sensor's own."""

import torch
from torch import Tensor, nn

from crodino_lib.config import ModelConfig
from crodino_lib.models.segnet import Decoder, SegOutput, bottleneck, conv_block


class TwoEncoderNet(nn.Module):
    """Segment by an invariant and a specific branch, each with encoder, context and projection, and one decoder.

    This is the baseline plus a second encoder and context: both projections together are as large as the baseline's.
    The invariant branch and the decoder are initialised first, in the baseline's order, so their weights start equal.

    Args:
        in_channels: channels of the sensor.
        classes: number of classes K.
        config: encoder and widths.

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

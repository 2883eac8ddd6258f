"""The segmentation network of the study: encoder, context, a projection that can be split, decoder."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from crodino_lib.config import ModelConfig
from crodino_lib.models.encoder import create_encoder, hasten_depthwise


@dataclass
class SegOutput:
    """A network's output for a batch, and every map that a loss may use."""

    logits: Tensor  # (B, K, H/4, W/4)
    pyramid: list[Tensor]  # encoder maps, one per stride, finest first
    context: Tensor  # (B, 2C, h, w) bottleneck, after context and projection; not negative
    shared: Tensor | None  # (B, C, h, w) first half of the bottleneck; None where the method has no split
    private: Tensor | None  # (B, C, h, w) second half of the bottleneck; None where the method has no split
    decoded: Tensor  # (B, D, H/4, W/4) input of the classifier


def conv_block(in_channels: int, out_channels: int, kernel: int, groups: int = 0) -> nn.Sequential:
    """Create a convolution, BatchNorm (GroupNorm where ``groups`` are given) and ReLU."""
    normalise = nn.GroupNorm(groups, out_channels) if groups else nn.BatchNorm2d(out_channels)
    convolve = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolve, normalise, nn.ReLU(inplace=True))


class Decoder(nn.Module):
    """DeepLabV3+'s decoder: the bottleneck at stride 4 beside a narrow skip, two convolutions, a classifier.

    Source: Chen et al., Encoder-Decoder with Atrous Separable Convolution, ECCV 2018, with dense convolutions.
    """

    def __init__(self, context_channels: int, skip_channels: int, channels: int, classes: int):
        super().__init__()
        narrow = 32  # few channels, so that the skip does not outweigh the bottleneck
        self.skip = conv_block(skip_channels, narrow, 1)
        self.fuse = nn.Sequential(conv_block(context_channels + narrow, channels, 3), conv_block(channels, channels, 3))
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, context: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the map they are computed from, both at the skip's resolution."""
        up = F.interpolate(context, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        decoded = self.fuse(torch.cat([up, self.skip(skip)], dim=1))
        return self.classify(decoded), decoded


class Bottleneck(nn.Module):
    """The part before the decoder: encoder, context, projection.

    ``encoder`` makes a pyramid of images and has timm's ``feature_info``: timm's, or one of ``models/fusion.py``.
    """

    def __init__(self, encoder: nn.Module, config: ModelConfig):
        super().__init__()
        self.encoder = encoder
        channels = encoder.feature_info.channels()
        self.skip_index = encoder.feature_info.reduction().index(4)
        self.skip_channels = channels[self.skip_index]
        width = 2 * config.block_channels
        self.context = ASPP(channels[-1], list(config.atrous_rates), width)
        self.projection = conv_block(width, width, 1)  # ends in a ReLU: cosines between halves cannot be negative
        hasten_depthwise(self.encoder)

    def forward(self, *images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return pyramid and bottleneck map (B, 2C, h, w) of images (B, channels, H, W), H and W multiples of 16."""
        pyramid = self.encoder(*images)
        return pyramid, self.projection(self.context(pyramid[-1]))


def encoder_for(in_channels: int, config: ModelConfig) -> nn.Module:
    """Create the encoder of every network of a study, for images of so many channels."""
    return create_encoder(config.encoder, config.weights, in_channels, config.output_stride, config.dilate)


def bottleneck(in_channels: int, config: ModelConfig) -> Bottleneck:
    """Create a bottleneck of one sensor, or of sensors with as many channels."""
    return Bottleneck(encoder_for(in_channels, config), config)


class SegNet(Bottleneck):
    """Segment images of one sensor; other networks of a study are built from its parts, so that costs compare.

    With ``split``, the bottleneck is read as a shared and a private half: that names channels, and adds none. Without
    ``skip``, zeros take the place of the fine map that the decoder reads.
    """

    def __init__(self, encoder: nn.Module, classes: int, config: ModelConfig, split: bool = False, skip: bool = True):
        super().__init__(encoder, config)
        self.split, self.skip = split, skip
        self.decoder = Decoder(2 * config.block_channels, self.skip_channels, config.decoder_channels, classes)

    def forward(self, *images: Tensor) -> SegOutput:
        """Segment images (B, channels, H, W), normalised, in the encoder's order; H and W multiples of 16."""
        return self.decode(self.encoder(*images))

    def decode(self, pyramid: list[Tensor]) -> SegOutput:
        """Return the output for a pyramid of the encoder."""
        context = self.projection(self.context(pyramid[-1]))
        fine = pyramid[self.skip_index]
        logits, decoded = self.decoder(context, fine if self.skip else torch.zeros_like(fine))
        shared, private = context.chunk(2, dim=1) if self.split else (None, None)
        return SegOutput(logits, pyramid, context, shared, private, decoded)


def single_sensor_net(
    in_channels: int, classes: int, config: ModelConfig, split: bool = False, skip: bool = True
) -> SegNet:
    """Create the network of one sensor: the baseline, and every deployable student."""
    return SegNet(encoder_for(in_channels, config), classes, config, split, skip)

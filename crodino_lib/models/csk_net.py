"""CSK-Net's network: two streams of one trunk, and a fused stream behind Gated Spectral Units."""

from typing import Literal

import torch
from torch import Tensor, nn

from crodino_lib.models.cen import FUSED, ExchangePlace, ExchangeRule, StreamedNet
from crodino_lib.models.segnet import SegNet, SegOutput

GateForm = Literal["unit", "channel", "fourier", "none"]


class GatedSpectralUnit(nn.Module):
    """Fuse two sensors' maps by a learned gate; "spectral" is read as the sensing band.

    ``unit`` is a gated multimodal unit, ``g tanh(W_a a) + (1 - g) tanh(W_b b)`` with a gate per position and channel;
    ``channel`` a gate per channel; ``fourier`` mixes amplitudes and keeps b's phase, the other meaning of "spectral";
    ``none`` is the mean. A reconstruction: no source gives CSK-Net's equations. The unit is from Arevalo et al., Gated
    Multimodal Units, ICLR 2017 workshop. Explained in notebook 05.
    """

    def __init__(self, channels: int, form: GateForm = "unit"):
        super().__init__()
        self.form = form
        if form == "unit":
            self.view_a, self.view_b = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        if form == "channel":
            narrow = max(8, channels // 4)
            first, second = nn.Conv2d(2 * channels, narrow, 1), nn.Conv2d(narrow, channels, 1)
            self.weigh = nn.Sequential(first, nn.ReLU(inplace=True), second)
        if form in ("unit", "fourier"):
            self.weigh = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the fused map (B, C, h, w) of two maps."""
        if self.form != "fourier":
            return sum(self.contributions(a, b))
        with torch.autocast(a.device.type, enabled=False):  # there is no Fourier transform in bf16
            (_, first), (spectrum, second) = map(_spectrum, (a, b))
            gate = self._open(first, second)
            mixed = gate * first + (1 - gate) * second
            return torch.fft.irfft2(mixed * spectrum / second, s=a.shape[-2:], norm="ortho")

    def contributions(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return each sensor's summand of the fused map; not defined for ``fourier``, which mixes amplitudes."""
        gate = self.gate(a, b)
        if self.form == "unit":
            a, b = self.view_a(a).tanh(), self.view_b(b).tanh()
        return gate * a, (1 - gate) * b

    def gate(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the share of ``a`` in the fused map (``fourier``: in its spectrum), in [0, 1], broadcastable."""
        if self.form == "none":
            return a.new_full((1, 1, 1, 1), 0.5)
        if self.form == "fourier":
            a, b = (_spectrum(x)[1] for x in (a, b))
        return self._open(a, b)

    def _open(self, a: Tensor, b: Tensor) -> Tensor:
        stacked = torch.cat([a, b], dim=1)
        return self.weigh(stacked.mean(dim=(2, 3), keepdim=True) if self.form == "channel" else stacked).sigmoid()


def _spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the spectrum of a map and its amplitude."""
    spectrum = torch.fft.rfft2(x.float(), norm="ortho")
    return spectrum, (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()  # 1e-12: a finite gradient at 0


class GatedFusion(nn.Module):
    """CSK-Net's network: two streams that exchange deep channels, and a fused stream behind gates.

    Gates stand where the decoder reads: at the end of the encoder and at the skip. The decoder's convolutions are
    shared by all three streams, its BatchNorms are each stream's own.
    """

    def __init__(self, net: SegNet, sensors: tuple[str, str], rule: ExchangeRule, where: ExchangePlace, gate: GateForm):
        super().__init__()
        self.trunk = StreamedNet(net, sensors, rule, where, fused=True)
        channels = net.encoder.feature_info.channels()
        self.levels = (net.skip_index, len(channels) - 1)
        self.gates = nn.ModuleList(GatedSpectralUnit(channels[level], gate) for level in self.levels)

    def forward(self, *images: Tensor) -> SegOutput:
        """Return the output of the fused stream."""
        pyramids = self.trunk.encode(dict(zip(self.trunk.sensors, images, strict=True)))
        return self.trunk.decode({FUSED: self.fuse(pyramids)})[FUSED]

    def each(self, *images: Tensor, exchanging: bool = True) -> dict[str, SegOutput]:
        """Return the outputs of each sensor's stream and of the fused one."""
        pyramids = self.trunk.encode(dict(zip(self.trunk.sensors, images, strict=True)), exchanging)
        return self.trunk.decode(pyramids | {FUSED: self.fuse(pyramids)})

    def fuse(self, pyramids: dict[str, list[Tensor]]) -> list[Tensor]:
        """Return the fused pyramid: gated at the levels that the decoder reads, the mean elsewhere."""
        a, b = (pyramids[sensor] for sensor in self.trunk.sensors)
        fused = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
        for level, gate in zip(self.levels, self.gates, strict=True):
            fused[level] = gate(a[level], b[level])
        return fused

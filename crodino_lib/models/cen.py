"""Channel exchange (CEN): one trunk for two sensors, with shared convolutions and a BatchNorm per stream."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from crodino_lib.models.encoder import SUITED, stages
from crodino_lib.models.fusion import Ensemble
from crodino_lib.models.segnet import SegNet, SegOutput

FUSED = "fused"
ExchangeForm = Literal["hard", "mixed", "none"]
ExchangePlace = Literal["deep", "all"]


@dataclass(frozen=True)
class ExchangeRule:
    """Choose the channels of a stream that are replaced by the other stream's, and how.

    A ``share`` of each layer is replaced: the channels with the smallest BatchNorm scales of the stream's own half.
    Both streams start from the same scales, so over all channels they would lose the same ones.
    """

    form: ExchangeForm = "mixed"  # hard: the other stream's channel (CEN); mixed: the mean of both; none: no exchange
    share: float = 0.2
    threshold: float | None = None  # where given, every channel with a scale below it is replaced instead (CEN: 0.02)

    def gives_way(self, scale: Tensor, stream: int) -> Tensor:
        """Return which channels are replaced, (C,) bool, from the (C,) scales of the first (0) or second (1) stream."""
        size = scale.detach().abs()
        if self.threshold is not None:
            return size < self.threshold
        half = own_half(len(size), stream)
        chosen = torch.zeros_like(size, dtype=torch.bool)
        chosen[half.start + size[half].argsort()[: int(self.share * len(size))]] = True
        return chosen


def own_half(channels: int, stream: int) -> slice:
    """Return the channels that a stream may lose, so that none is lost by both (CEN): its half."""
    return slice(0, channels // 2) if stream == 0 else slice(channels // 2, channels)


def exchange(features: list[Tensor], scales: list[Tensor], rule: ExchangeRule) -> list[Tensor]:
    """Replace the least important channels of two normalised maps (B, C, h, w) by those of the other map.

    ``scales`` are those of both BatchNorms, (C,) each; the choice of channels has no gradient. Source: Wang et al.,
    Deep Multimodal Fusion by Channel Exchanging, NeurIPS 2020; ``mixed`` is our reading of CSK-Net's "mixed". Explained
    in notebook 05.
    """
    if rule.form == "none":
        return features
    taken = [features[1], features[0]] if rule.form == "hard" else [(features[0] + features[1]) / 2] * 2
    return [
        torch.where(rule.gives_way(scale, stream).view(1, -1, 1, 1), other, own)
        for stream, (own, other, scale) in enumerate(zip(features, taken, scales, strict=True))
    ]


class StreamNorm(nn.Module):
    """Normalise a batch that holds several streams one after the other, with one BatchNorm per stream.

    Every stream starts from ``norm``, the BatchNorm to replace; with its activation, where timm fuses one.
    """

    def __init__(self, norm: nn.BatchNorm2d, streams: Sequence[str]):
        super().__init__()
        self.norms = nn.ModuleDict({s: nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum) for s in streams})
        for own in self.norms.values():
            own.load_state_dict(norm.state_dict())
        self.act = getattr(norm, "act", nn.Identity())
        self.active = tuple(streams)
        self.rule: ExchangeRule | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each stream by its own statistics, exchange channels, activate."""
        norms = [self.norms[stream] for stream in self.active]
        parts = [norm(part) for norm, part in zip(norms, x.chunk(len(norms)), strict=True)]
        if self.rule:
            parts = exchange(parts, [norm.weight for norm in norms], self.rule)
        return self.act(torch.cat(parts))


def give_streams(network: nn.Module, streams: Sequence[str]) -> None:
    """Replace every BatchNorm of ``network`` by one per stream; ValueError where it has none, or another norm."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    others = [type(m).__name__ for m in network.modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm)]
    if others or not norms:
        found = [*others, "no normalisation"][0]
        raise ValueError(f"one BatchNorm per sensor needs an encoder with BatchNorm, found {found}; {SUITED}")
    for name, norm in norms.items():
        network.set_submodule(name, StreamNorm(norm, streams))


def activate(network: nn.Module, streams: Collection[str]) -> None:
    """Set which streams the next batch holds, in their order."""
    for module in network.modules():
        if isinstance(module, StreamNorm):
            module.active = tuple(streams)


def stacked(images: Collection[Tensor]) -> Tensor:
    """Return all images in one batch for RGB's stem: one channel is repeated; ValueError unless there are 1 or 3."""
    for image in images:
        if image.shape[1] not in (1, 3):
            raise ValueError(f"a shared stem takes sensors of 1 or 3 channels, this one has {image.shape[1]}")
    return torch.cat([image.expand(-1, 3, -1, -1) for image in images])


def unstacked(maps: Iterable[Tensor], streams: Collection[str]) -> dict[str, list[Tensor]]:
    """Return each stream's part of every map of a batch that holds the streams one after the other."""
    parts = zip(*(level.chunk(len(streams)) for level in maps), strict=True)
    return {stream: list(part) for stream, part in zip(streams, parts, strict=True)}


class StreamedNet(nn.Module):
    """Run one SegNet's convolutions on several streams, each with its own BatchNorms.

    ``net`` is an RGB network, which is modified. The two ``sensors`` are streams; with ``fused`` the decoder has one
    more. ``rule`` chooses the channels that are exchanged at the middle BatchNorm of each residual block: of the last
    two stages (``deep``), or of all.
    """

    def __init__(self, net: SegNet, sensors: tuple[str, str], rule: ExchangeRule, where: ExchangePlace, fused: bool):
        super().__init__()
        self.net = net
        self.sensors = sensors
        self.rule = rule
        for part in (net.context, net.projection, net.decoder):
            give_streams(part, (*sensors, FUSED) if fused else sensors)
        give_streams(net.encoder, sensors)
        self.exchanging = {
            f"stage {number} block {name or 0}": norm
            for number, stage in enumerate(stages(net.encoder))
            if where == "all" or number >= len(net.encoder.feature_info.channels()) - 2
            for name, norm in middle_norms(stage)
        }

    def encode(self, images: dict[str, Tensor], exchanging: bool = True) -> dict[str, list[Tensor]]:
        """Return the pyramid of every sensor given; channels are exchanged only if both sensors are given."""
        activate(self.net.encoder, images)
        for norm in self.exchanging.values():
            norm.rule = self.rule if exchanging and len(images) == 2 else None
        return unstacked(self.net.encoder(stacked(images.values())), images)

    def decode(self, pyramids: dict[str, list[Tensor]]) -> dict[str, SegOutput]:
        """Return the output of every stream given."""
        activate(self.net, pyramids)
        out = self.net.decode([torch.cat(levels) for levels in zip(*pyramids.values(), strict=True)])
        parts = unstacked([out.logits, out.context, out.decoded], pyramids).items()
        return {
            s: SegOutput(logits, pyramids[s], context, None, None, decoded) for s, (logits, context, decoded) in parts
        }

    def sparsity(self) -> Tensor:
        """Return the sum of the absolute scales of each sensor's own half."""
        found = self.scales().items()
        return sum(w[own_half(len(w), self.sensors.index(sensor))].abs().sum() for (sensor, _), w in found)

    def scales(self) -> dict[tuple[str, str], Tensor]:
        """Return the scales by which channels are chosen: (sensor, layer) -> (C,)."""
        return {(s, layer): norm.norms[s].weight for layer, norm in self.exchanging.items() for s in self.sensors}

    def exchanged(self) -> dict[tuple[str, str], Tensor]:
        """Return which channels are replaced: (sensor, layer) -> (C,) bool."""
        return {key: self.rule.gives_way(w, self.sensors.index(key[0])) for key, w in self.scales().items()}

    def exchanged_shares(self) -> dict[str, float]:
        """Return the share of each layer's channels that is replaced, per sensor."""
        found = self.exchanged().items()
        return {f"exchanged/{sensor}/{layer}": chosen.float().mean().item() for (sensor, layer), chosen in found}

    def exchanged_scales(self) -> dict[str, float]:
        """Return the mean absolute scale of replaced channels, relative to their layer's."""
        found, scales = {}, self.scales()
        for (sensor, layer), chosen in self.exchanged().items():
            if chosen.any():
                size = scales[sensor, layer].abs()
                found[f"exchanged/{sensor}/{layer}/scale"] = (size[chosen].mean() / size.mean()).item()
        return found

    def sensor_state(self, sensor: str, channels: int) -> dict[str, Tensor]:
        """Return the state of the plain SegNet that equals this network for one sensor alone."""
        own, found = f".norms.{sensor}.", self.net.state_dict().items()
        state = {name.replace(own, "."): value for name, value in found if own in name or ".norms." not in name}
        if channels == 1:
            stem = next(name for name, value in state.items() if value.ndim == 4)  # the encoder comes first
            state[stem] = state[stem].sum(dim=1, keepdim=True)  # equals the response to three equal channels
        return state


def middle_norms(stage: nn.Module) -> list[tuple[str, StreamNorm]]:
    """Return the last BatchNorm but one of every residual block, where CEN exchanges channels."""
    found = []
    for name, block in stage.named_modules():
        convs = [getattr(block, f"conv{i}", None) for i in (1, 2, 3)]
        norms = [getattr(block, f"bn{i}", None) or getattr(conv, "bn", None) for i, conv in enumerate(convs, start=1)]
        norms = [norm for norm in norms if isinstance(norm, StreamNorm)]
        if len(norms) > 1:
            found.append((name, norms[-2]))
    return found


class ExchangeFusion(nn.Module):
    """CEN (Wang et al., NeurIPS 2020): two streams that exchange channels, and learned weights of their logits."""

    def __init__(self, net: SegNet, sensors: tuple[str, str], rule: ExchangeRule):
        super().__init__()
        self.trunk = StreamedNet(net, sensors, rule, "all", fused=False)
        self.ensemble = Ensemble(2)

    def forward(self, *images: Tensor) -> SegOutput:
        """Return the ensemble of both streams."""
        return self.each(*images)[FUSED]

    def each(self, *images: Tensor) -> dict[str, SegOutput]:
        """Return the outputs of both streams and of their ensemble."""
        outputs = self.trunk.decode(self.trunk.encode(dict(zip(self.trunk.sensors, images, strict=True))))
        return outputs | {FUSED: self.ensemble(list(outputs.values()))}

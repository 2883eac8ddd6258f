"""Augment batches on the device: photometry in each sensor's own physics, geometry per scene or per sensor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from crodino_lib.data.sample import IGNORE, Batch, DatasetCard, Scenes, Sensor
from crodino_lib.settings import Strict, choose

Regime = Literal["paired", "decoupled"]
Masked = tuple[Tensor, Tensor]  # (B, C, H, W) float32 values, and (B, 1, H, W) bool: where they are valid
# NTSC: luma and two chroma axes, in which hue is an angle and grey is the origin
TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FROM_YIQ = torch.linalg.inv(TO_YIQ)
KNOBS = 5  # of rgb, which has the most
HOLE_PX = 4
NOISE_SQUARE_M = 10.0  # range of the depth cameras whose noise grows with the square


class AugmentConfig(Strict):
    """Numbers of the one recipe of every method, which no study changes; the regime is chosen by the method."""

    scale_min: float = Field(0.5, gt=0, description="smallest zoom; below 1 the scene shrinks and is padded")
    scale_max: float = Field(2.0, gt=0, description="largest zoom; above 1 it is cropped")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    rgb_jitter: float = Field(0.4, ge=0, lt=1, description="brightness, contrast and saturation, as a factor 1 +- this")
    rgb_hue: float = Field(0.1, ge=0, le=0.5, description="largest turn of the hue, in turns")
    blur_sigma: float = Field(1.0, ge=0, description="largest blur of rgb and thermal, in pixels of the scene")
    depth_gain: float = Field(0.1, ge=0, lt=1, description="depth multiplied by 1 +- this")
    depth_noise: float = Field(0.002, ge=0, description="largest noise of depth, in metres per square metre of depth")
    depth_holes: float = Field(0.1, ge=0, lt=1, description="largest share of depth lost in holes of 4x4 pixels")
    thermal_offset: float = Field(0.5, ge=0, description="thermal shifted by +- this many deviations of the sensor")
    thermal_gain: float = Field(0.1, ge=0, lt=1, description="thermal contrast multiplied by 1 +- this")


RECIPE = AugmentConfig()


@dataclass(frozen=True)
class Draws:
    """Random numbers of one sensor of a batch."""

    warp: Tensor  # (B, 2, 3) as in Batch
    knobs: Tensor  # (5, B, 1, 1, 1) even in [-1, 1): what the sensor's photometry turns, once a scene
    pixels: torch.Generator  # on the device, of what is drawn for every pixel


def plain(scenes: Scenes, indices: list[int], card: DatasetCard, sensors: Sequence[str], device: torch.device) -> Batch:
    """Return scenes unaugmented and normalised, for validation, tests and latents."""
    labels, batch = _begun(scenes, indices, device)
    for sensor in sensors:
        values, valid = card.sensors[sensor].encode(*_values(scenes, indices, sensor, device))
        batch.images[sensor] = normalise(values, valid, card.sensors[sensor])
        batch.valid[sensor], batch.labels[sensor] = valid, labels
        batch.inside[sensor] = torch.ones_like(labels, dtype=torch.bool)
        batch.warps[sensor] = torch.eye(2, 3, device=device).expand(len(indices), 2, 3)
    return batch


def augment(
    scenes: Scenes,
    indices: list[int],
    card: DatasetCard,
    sensors: Sequence[str],
    regime: Regime,
    generator: torch.Generator,
    device: torch.device,
    config: AugmentConfig = RECIPE,
) -> Batch:
    """Return an augmented batch: photometry in the sensor's unit, its encoding, then geometry, then normalisation.

    Args:
        indices: scenes of the batch.
        sensors: sensors of the batch; each draws for itself, so adding or moving one changes no other's draws.
        regime: ``paired`` draws geometry once per scene, ``decoupled`` once per sensor; photometry is always the
            sensor's own.
        generator: on the CPU; advanced by one draw. Equal states give equal batches.

    Raises:
        ValueError: an unknown regime or sensor; proposes the nearest.
    """
    choose(regime, get_args(Regime), "augmentation regime")
    seed = int(torch.randint(2**62, (), generator=generator))
    labels, batch = _begun(scenes, indices, device)
    for name in sensors:
        sensor = card.sensors[choose(name, card.sensors, f"sensor of {card.name}")]
        draws = draw(len(indices), list(card.sensors).index(name), regime, seed, device, config)
        values, valid = _values(scenes, indices, name, device)
        recipe = config.model_copy(update={"depth_noise": 0.0}) if sensor.smooth else config
        jitter = jitter_depth if name == "depth" and sensor.metric else jitter_thermal
        jitter = jitter_rgb if name == "rgb" else jitter
        values, valid = sensor.encode(*jitter(values, valid, sensor.measured, draws, recipe))
        values, valid, batch.labels[name], batch.inside[name] = warped(
            values, valid, labels, draws.warp, smooth=not sensor.metric
        )
        batch.images[name] = normalise(sensor.mirror(values, draws.warp), valid, sensor)
        batch.valid[name], batch.warps[name] = valid, draws.warp
    return batch


def draw(count: int, position: int, regime: Regime, seed: int, device: torch.device, config: AugmentConfig) -> Draws:
    """Draw the augmentation of ``count`` scenes for the sensor at ``position`` of its card.

    Scene parameters are drawn on the CPU, so that every device sees the same ones.
    """
    geometry = torch.Generator().manual_seed(seed if regime == "paired" else seed + 1 + position)
    photometry = torch.Generator().manual_seed(seed + 1001 + position)
    return Draws(
        random_warp(count, geometry, config).to(device),
        (2 * torch.rand(KNOBS, count, 1, 1, 1, generator=photometry) - 1).to(device),
        torch.Generator(device).manual_seed(seed + 2001 + position),
    )


def random_warp(count: int, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """Draw zoom, crop position and flip: (count, 2, 3) maps from output to scene coordinates.

    The zoom is drawn evenly on a logarithmic scale. The window lies inside the scene where it is smaller, and holds the
    whole scene where it is larger; its position is even over what that allows.
    """
    low, high = math.log(config.scale_min), math.log(config.scale_max)
    draws = torch.rand(count, 4, generator=generator)
    window = torch.exp(-(low + (high - low) * draws[:, 0]))  # width of the window in widths of the scene
    flip = torch.where(draws[:, 1] < config.flip, -1.0, 1.0)
    warp = torch.zeros(count, 2, 3)
    warp[:, 0, 0], warp[:, 1, 1] = flip * window, window
    warp[:, :, 2] = (2 * draws[:, 2:] - 1) * (1 - window).abs()[:, None]
    return warp


def warped(values: Tensor, valid: Tensor, labels: Tensor, warp: Tensor, smooth: bool) -> tuple[Tensor, ...]:
    """Warp the values (B, C, H, W), validity (B, 1, H, W) and labels (B, H, W) int64 of a sensor.

    Args:
        warp: (B, 2, 3) as in ``Batch``.
        smooth: interpolate values between valid pixels; otherwise take the nearest, as depth needs at its edges.

    Returns:
        Values, validity and labels, as large as before, and where they are inside the scene, (B, H, W) bool; outside
        values are invalid and labels 255.
    """
    grid = F.affine_grid(warp, list(values.shape), align_corners=False)
    # labels are shifted by one so that outside, where grid_sample gives 0, is told from class 0
    exact = torch.cat([(labels + 1).unsqueeze(1).float(), valid.float(), *([] if smooth else [values])], dim=1)
    exact = F.grid_sample(exact, grid, mode="nearest", align_corners=False)
    seen, sampled = exact[:, 0].long() - 1, exact[:, 2:]
    if smooth:
        sampled = among_valid(lambda x: F.grid_sample(x, grid, mode="bilinear", align_corners=False), values, valid)
    return sampled, exact[:, 1:2] > 0.5, torch.where(seen < 0, IGNORE, seen), seen >= 0


def among_valid(average: Callable[[Tensor], Tensor], values: Tensor, valid: Tensor) -> Tensor:
    """Apply ``average``, a linear map over pixels, to the valid values alone; their weights sum to one."""
    stacked = average(torch.cat([values * valid, valid.float()], dim=1))
    return stacked[:, :-1] / stacked[:, -1:].clamp(min=1e-3)


def jitter_rgb(values: Tensor, valid: Tensor, sensor: Sensor, draws: Draws, config: AugmentConfig) -> Masked:
    """Change brightness, contrast, saturation and hue, and blur.

    The hue turns in the chroma plane of YIQ, not in HSV: all but the blur is then one matrix and one offset per scene.
    """
    brightness, contrast, saturation = (1 + config.rgb_jitter * draws.knobs[:3]).view(3, -1, 1, 1)
    turn = 2 * math.pi * config.rgb_hue * draws.knobs[3].flatten()
    to_yiq, from_yiq = TO_YIQ.to(values.device), FROM_YIQ.to(values.device)
    chroma = torch.eye(3, device=values.device).repeat(len(values), 1, 1)
    chroma[:, 1, 1] = chroma[:, 2, 2] = turn.cos()
    chroma[:, 1, 2], chroma[:, 2, 1] = -turn.sin(), turn.sin()
    chroma[:, 1:] *= saturation
    matrix = brightness * contrast * (from_yiq @ chroma @ to_yiq)
    mean_luma = (values.mean(dim=(2, 3)) @ to_yiq[0]).view(-1, 1, 1)
    pixels = torch.baddbmm(brightness * (1 - contrast) * mean_luma, matrix, values.flatten(2))
    return blur(pixels.clamp(0, 255).view_as(values), valid, config.blur_sigma * draws.knobs[4].abs()), valid


def jitter_depth(values: Tensor, valid: Tensor, sensor: Sensor, draws: Draws, config: AugmentConfig) -> Masked:
    """Add gain, square holes, and noise that grows with the squared distance up to 10 m and linearly beyond."""
    gain = 1 + config.depth_gain * draws.knobs[0]
    deviation = config.depth_noise * draws.knobs[1].abs() * values * values.clamp(max=NOISE_SQUARE_M)
    noise = torch.randn(values.shape, generator=draws.pixels, device=values.device)
    coarse = [-(-side // HOLE_PX) for side in values.shape[-2:]]
    lots = torch.rand(len(values), 1, *coarse, generator=draws.pixels, device=values.device)
    kept = (lots >= config.depth_holes * draws.knobs[2].abs()).float()
    kept = F.interpolate(kept, scale_factor=HOLE_PX)[..., : values.shape[-2], : values.shape[-1]]
    return gain * values + deviation * noise, valid & (kept > 0)


def jitter_thermal(values: Tensor, valid: Tensor, sensor: Sensor, draws: Draws, config: AugmentConfig) -> Masked:
    """Add offset, gain about the sensor's mean, and blur: drift and focus of thermal and of any other sensor."""
    mean, std = _moments(sensor, values.device)
    gain = 1 + config.thermal_gain * draws.knobs[0]
    offset = config.thermal_offset * draws.knobs[1] * std
    return blur(mean + gain * (values - mean) + offset, valid, config.blur_sigma * draws.knobs[2].abs()), valid


def blur(values: Tensor, valid: Tensor, sigma: Tensor) -> Tensor:
    """Blur values (B, C, H, W) by a Gaussian of ``sigma`` (B, 1, 1, 1) pixels, cut at 2, among valid pixels."""
    offsets = torch.arange(-2, 3, device=values.device)
    weights = torch.exp(-0.5 * (offsets / sigma.flatten(1).clamp(min=0.05)) ** 2)  # below 0.05 nothing is blurred

    def smooth(stack: Tensor) -> Tensor:
        kernels = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(stack.shape[1], dim=0)
        flat = stack.reshape(1, -1, *stack.shape[-2:])  # a group per scene and channel
        flat = F.conv2d(flat, kernels.view(-1, 1, 1, 5), padding=(0, 2), groups=len(kernels))
        return F.conv2d(flat, kernels.view(-1, 1, 5, 1), padding=(2, 0), groups=len(kernels)).view_as(stack)

    return among_valid(smooth, values, valid)


def normalise(values: Tensor, valid: Tensor, sensor: Sensor) -> Tensor:
    """Return ``(value - mean) / std`` per channel, 0 where invalid."""
    mean, std = _moments(sensor, values.device)
    return ((values - mean) / std * valid).contiguous(memory_format=torch.channels_last)


def _moments(sensor: Sensor, device: torch.device) -> Tensor:
    """Return mean and standard deviation, (2, 1, C, 1, 1)."""
    return torch.tensor([sensor.mean, sensor.std], device=device).view(2, 1, -1, 1, 1)


def _values(scenes: Scenes, indices: list[int], sensor: str, device: torch.device) -> Masked:
    """Return values in the sensor's unit, and where they are valid."""
    values = torch.from_numpy(scenes.images[sensor][indices]).to(device).float()
    if sensor == "rgb":
        return values, torch.ones_like(values[:, :1], dtype=torch.bool)
    return values, torch.from_numpy(scenes.valid[sensor][indices]).to(device)


def _begun(scenes: Scenes, indices: list[int], device: torch.device) -> tuple[Tensor, Batch]:
    """Return the labels (B, H, W) int64, and a batch without sensors."""
    labels = torch.from_numpy(scenes.labels[indices]).to(device).long()
    return labels, Batch({}, {}, {}, {}, {}, [scenes.ids[i] for i in indices])

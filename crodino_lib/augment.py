"""Augmentation, batched on the device: geometry per scene or per sensor, photometry in each sensor's own physics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from crodino_lib.config import Strict
from crodino_lib.data.sample import IGNORE, DatasetCard, Scenes, Sensor

Regime = Literal["paired", "decoupled"]


class AugmentConfig(Strict):
    """One recipe for every row of a study. The regime is not in it: the method decides."""

    scale_min: float = Field(0.5, gt=0, description="smallest zoom; below 1 the scene shrinks and is padded")
    scale_max: float = Field(2.0, gt=0, description="largest zoom; above 1 it is cropped")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    rgb_jitter: float = Field(0.4, ge=0, lt=1, description="brightness, contrast and saturation, as a factor 1 +- this")
    rgb_hue: float = Field(0.1, ge=0, le=0.5, description="largest turn of the hue, in turns")
    blur_sigma: float = Field(1.0, ge=0, description="largest blur of rgb and thermal, in pixels")
    depth_gain: float = Field(0.1, ge=0, lt=1, description="depth multiplied by 1 +- this")
    depth_noise: float = Field(0.002, ge=0, description="largest noise of depth, in metres per square metre of depth")
    depth_holes: float = Field(0.1, ge=0, lt=1, description="largest share of depth lost in holes of 4x4 pixels")
    thermal_offset: float = Field(0.5, ge=0, description="thermal shifted by +- this many standard deviations of the sensor")
    thermal_gain: float = Field(0.1, ge=0, lt=1, description="thermal contrast multiplied by 1 +- this")


RECIPE = AugmentConfig()


@dataclass
class Batch:
    """A batch that networks see; every sensor has its own geometry, so its own labels.

    Attributes:
        images: sensor -> (B, C, H, W) float32, normalised as the card says, 0 where invalid.
        valid: sensor -> (B, 1, H, W) bool: inside the scene and measured.
        labels: sensor -> (B, H, W) int64 in [0, K) or 255, which is also everything outside the scene.
        warps: sensor -> (B, 2, 3) float32: normalised output coordinates (x, y in [-1, 1]) to the scene's, as in
            ``torch.nn.functional.affine_grid`` with ``align_corners=False``.
        ids: scene ids.
    """

    images: dict[str, Tensor]
    valid: dict[str, Tensor]
    labels: dict[str, Tensor]
    warps: dict[str, Tensor]
    ids: list[str]


def plain(
    scenes: Scenes, indices: list[int], card: DatasetCard, sensors: tuple[str, ...], device: torch.device
) -> Batch:
    """The scenes as they are, normalised: what validation, tests and latents see."""
    labels = _labels(scenes, indices, device)
    batch = Batch({}, {}, {}, {}, [scenes.ids[i] for i in indices])
    for sensor in sensors:
        values, valid = _values(scenes, indices, sensor, device)
        batch.images[sensor] = normalise(values, valid, card.sensors[sensor])
        batch.valid[sensor], batch.labels[sensor] = valid, labels
        batch.warps[sensor] = torch.eye(2, 3, device=device).expand(len(indices), 2, 3)
    return batch


def augment(
    scenes: Scenes,
    indices: list[int],
    card: DatasetCard,
    sensors: tuple[str, ...],
    regime: Regime,
    generator: torch.Generator,
    device: torch.device,
    config: AugmentConfig = RECIPE,
) -> Batch:
    """An augmented batch.

    Args:
        scenes: the split.
        indices: scenes of the batch.
        card: says how each sensor is normalised.
        sensors: sensors of the batch; each draws from a generator of its own, so adding one changes no other's draws.
        regime: ``paired`` draws geometry once per scene, ``decoupled`` once per sensor; photometry is always per sensor.
        generator: on the CPU; advanced by one draw.
        device: where the batch is made.
        config: the recipe.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    labels = _labels(scenes, indices, device)
    batch = Batch({}, {}, {}, {}, [scenes.ids[i] for i in indices])
    for sensor in sensors:
        position = list(card.sensors).index(sensor)
        geometry = torch.Generator().manual_seed(seed if regime == "paired" else seed + 1 + position)
        photometry = torch.Generator(device).manual_seed(seed + 1001 + position)
        warp = random_warp(len(indices), config, geometry).to(device)
        values, valid = _values(scenes, indices, sensor, device)
        values, valid, batch.labels[sensor] = apply_warp(values, valid, labels, warp, smooth=sensor != "depth")
        values, valid = _photometry(sensor)(values, valid, card.sensors[sensor], config, photometry)
        batch.images[sensor] = normalise(values, valid, card.sensors[sensor])
        batch.valid[sensor], batch.warps[sensor] = valid, warp
    return batch


def normalise(values: Tensor, valid: Tensor, sensor: Sensor) -> Tensor:
    """``(value - mean) / std`` per channel, 0 where invalid."""
    mean, std = (torch.tensor(x, device=values.device).view(1, -1, 1, 1) for x in (sensor.mean, sensor.std))
    return ((values - mean) / std * valid).contiguous(memory_format=torch.channels_last)


def random_warp(count: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Random zoom, crop position and flip: (count, 2, 3) maps from output to scene coordinates.

    The zoom is drawn evenly on a logarithmic scale. The window lies inside the scene where it is smaller, and holds the
    whole scene where it is larger.
    """
    low, high = math.log(config.scale_min), math.log(config.scale_max)
    draws = torch.rand(count, 4, generator=generator)
    window = torch.exp(-(low + (high - low) * draws[:, 0]))  # width of the window in widths of the scene
    flip = torch.where(draws[:, 1] < config.flip, -1.0, 1.0)
    shift = (2 * draws[:, 2:] - 1) * (1 - window).abs()[:, None]
    warp = torch.zeros(count, 2, 3)
    warp[:, 0, 0], warp[:, 1, 1] = flip * window, window
    warp[:, :, 2] = shift
    return warp


def apply_warp(
    values: Tensor, valid: Tensor, labels: Tensor, warp: Tensor, smooth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, validity and labels of a sensor seen through a warp.

    Args:
        values: (B, C, H, W) float32 in the sensor's unit.
        valid: (B, 1, H, W) bool.
        labels: (B, H, W) int64.
        warp: (B, 2, 3).
        smooth: interpolate values between valid pixels; otherwise take the nearest, as depth needs at its edges.
    """
    grid = F.affine_grid(warp, list(values.shape), align_corners=False)
    # labels are shifted by one so that outside, where grid_sample gives 0, becomes the label to ignore
    shifted = torch.cat([(labels + 1).unsqueeze(1).float(), valid.float()], dim=1)
    nearest = F.grid_sample(shifted, grid, mode="nearest", align_corners=False)
    warped_labels = nearest[:, 0].long() - 1
    warped_labels = torch.where(warped_labels < 0, IGNORE, warped_labels)
    warped_valid = nearest[:, 1:] > 0.5
    if not smooth:
        return F.grid_sample(values, grid, mode="nearest", align_corners=False), warped_valid, warped_labels
    stacked = torch.cat([values * valid, valid.float()], dim=1)
    blended = F.grid_sample(stacked, grid, mode="bilinear", align_corners=False)
    return blended[:, :-1] / blended[:, -1:].clamp(min=1e-3), warped_valid, warped_labels


def _photometry(sensor: str):
    return {"rgb": jitter_rgb, "depth": jitter_depth}.get(sensor, jitter_thermal)


def jitter_rgb(
    values: Tensor, valid: Tensor, sensor: Sensor, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, saturation, hue and blur, each scene for itself.

    The hue is turned as a rotation of the two colour axes of YIQ, which is linear and so the same for a whole batch.
    """
    brightness, contrast, saturation = (1 + config.rgb_jitter * _signed(values, generator) for _ in range(3))
    turn = 2 * math.pi * config.rgb_hue * _signed(values, generator)
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], device=values.device)
    yiq = torch.einsum("ij,bjhw->bihw", to_yiq, values * brightness)
    luma, i, q = yiq.unbind(dim=1)
    mean = luma.mean(dim=(1, 2), keepdim=True)
    luma = mean + contrast[:, 0] * (luma - mean)
    cos, sin = (contrast * saturation * f(turn) for f in (torch.cos, torch.sin))
    yiq = torch.stack([luma, cos[:, 0] * i - sin[:, 0] * q, sin[:, 0] * i + cos[:, 0] * q], dim=1)
    values = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to_yiq), yiq).clamp(0, 255)
    return blur(values, config.blur_sigma * _unsigned(values, generator)), valid


def jitter_depth(
    values: Tensor, valid: Tensor, sensor: Sensor, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Gain, noise that grows with the square of the distance, and square holes; in the sensor's unit, metres."""
    gain = 1 + config.depth_gain * _signed(values, generator)
    noise = torch.randn(values.shape, generator=generator, device=values.device)
    values = gain * values + config.depth_noise * _unsigned(values, generator) * values.square() * noise
    coarse = torch.rand(len(values), 1, *(-(-side // 4) for side in values.shape[-2:]), generator=generator, device=values.device)
    holes = coarse < config.depth_holes * _unsigned(values, generator)
    holes = holes.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)[..., : values.shape[-2], : values.shape[-1]]
    return values, valid & ~holes


def jitter_thermal(
    values: Tensor, valid: Tensor, sensor: Sensor, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Offset, gain about the sensor's mean, and blur: drift and focus of an uncooled camera."""
    mean, std = (torch.tensor(x, device=values.device).view(1, -1, 1, 1) for x in (sensor.mean, sensor.std))
    gain = 1 + config.thermal_gain * _signed(values, generator)
    offset = config.thermal_offset * std * _signed(values, generator)
    sigma = config.blur_sigma * _unsigned(values, generator)
    values = torch.where(valid, values, mean)  # so that the blur does not smear holes
    return blur(mean + gain * (values - mean) + offset, sigma), valid


def blur(values: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur over 5x5 pixels, a width per scene.

    Args:
        values: (B, C, H, W).
        sigma: (B, 1, 1, 1) in pixels.
    """
    batch, channels = values.shape[:2]
    offsets = torch.arange(-2, 3, device=values.device, dtype=values.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma.view(batch, 1).clamp(min=0.05)) ** 2)
    kernel = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = F.pad(values.reshape(1, batch * channels, *values.shape[-2:]), (2, 2, 2, 2), mode="replicate")
    flat = F.conv2d(flat, kernel.view(-1, 1, 1, 5), groups=batch * channels)
    flat = F.conv2d(flat, kernel.view(-1, 1, 5, 1), groups=batch * channels)
    return flat.view_as(values)


def _signed(values: Tensor, generator: torch.Generator) -> Tensor:
    return 2 * _unsigned(values, generator) - 1


def _unsigned(values: Tensor, generator: torch.Generator) -> Tensor:
    """One draw in [0, 1) a scene, shaped (B, 1, 1, 1)."""
    return torch.rand(len(values), 1, 1, 1, generator=generator, device=values.device)


def _values(scenes: Scenes, indices: list[int], sensor: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Values in the sensor's unit and validity."""
    values = torch.from_numpy(np.ascontiguousarray(scenes.images[sensor][indices])).to(device).float()
    if sensor == "rgb":
        return values, torch.ones_like(values[:, :1], dtype=torch.bool)
    return values, torch.from_numpy(np.ascontiguousarray(scenes.valid[sensor][indices])).to(device)


def _labels(scenes: Scenes, indices: list[int], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(scenes.labels[indices])).to(device).long()

"""How a network is shown depth and temperature: computed from the values as measured, after augmentation.

HHA, which needs the direction of gravity, is read from a folder where somebody has computed it: a sensor of kind rgb.
Explained in notebook 11.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from crodino_lib.config import DataConfig, choose
from crodino_lib.data.sample import DatasetCard, Sensor

NEAREST_M = 0.1  # below it inverse and logarithm would be ruled by noise; no sensor of these datasets measures nearer


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedSensor(Sensor):
    """A sensor as networks see it; channels, unit, mean and std are those after encoding.

    Attributes:
        raw: the sensor as measured.
        encoding: what is made of its values.
        holes: what a network sees where nothing was measured; validity says so in any case.
    """

    raw: Sensor
    encoding: str
    holes: str


def encoded(card: DatasetCard, config: DataConfig) -> DatasetCard:
    """``card`` with its sensors as ``config`` wants them seen.

    Raises:
        ValueError: an encoding for a sensor that the dataset does not have, or has in another form.
    """
    wanted = {
        "depth": (config.depth_encoding, config.depth_holes),
        "thermal": (config.thermal_encoding, "none"),
    }
    sensors = dict(card.sensors)
    for name, (encoding, holes) in wanted.items():
        if (encoding, holes) == ("raw", "none"):
            continue
        sensor = sensors[choose(name, sensors, f"sensor to encode of {card.name}")]
        if name == "depth" and (sensor.unit, sensor.channels) != ("m", 1):
            raise ValueError(
                f"depth of {card.name} is in {sensor.unit!r}, so it cannot be shown as {encoding!r}: needs m"
            )
        sensors[name] = _encoded_sensor(sensor, encoding, holes)
    return dataclasses.replace(card, sensors=sensors)


def measured(card: DatasetCard) -> DatasetCard:
    """``card`` with its sensors as measured."""
    return dataclasses.replace(card, sensors={name: raw_sensor(sensor) for name, sensor in card.sensors.items()})


def raw_sensor(sensor: Sensor) -> Sensor:
    """The sensor as measured."""
    return sensor.raw if isinstance(sensor, EncodedSensor) else sensor


def _encoded_sensor(raw: Sensor, encoding: str, holes: str) -> EncodedSensor:
    mean, std = raw.mean[0], raw.std[0]
    # statistics of a function of depth to first order about the mean: all rows of a study share them, none is tuned
    channels, unit, mean, std = {
        "raw": (raw.channels, raw.unit, raw.mean, raw.std),
        "inverse": (1, "1/m", (1 / mean,), (std / mean**2,)),
        "log": (1, "ln m", (math.log(mean),), (std / mean,)),
        "normals": (3, "unit vector", (0.0, 0.0, 0.5), (0.5, 0.5, 0.5)),
        "contrast": (raw.channels, "standard deviations of the picture", (0.0,) * raw.channels, (1.0,) * raw.channels),
    }[encoding]
    return EncodedSensor(channels, unit, mean, std, raw.focal, raw=raw, encoding=encoding, holes=holes)


def encode(values: Tensor, valid: Tensor, warp: Tensor, sensor: Sensor) -> tuple[Tensor, Tensor]:
    """Values as a network sees them, not yet normalised.

    Args:
        values: (B, C, H, W) float32 in the unit of the sensor as measured.
        valid: (B, 1, H, W) bool.
        warp: (B, 2, 3), which window of the scene the picture is.
        sensor: the sensor; one that is not encoded changes nothing.

    Returns:
        The values (B, C', H, W), and (B, 1, H, W) bool: where a network is shown them instead of the mean.
    """
    if not isinstance(sensor, EncodedSensor):
        return values, valid
    if sensor.holes != "none":
        values = values * valid if sensor.holes == "constant" else nearest_valid(values, valid)
        valid = torch.ones_like(valid)
    if sensor.encoding == "inverse":
        return 1 / values.clamp(min=NEAREST_M), valid
    if sensor.encoding == "log":
        return values.clamp(min=NEAREST_M).log(), valid
    if sensor.encoding == "normals":
        return surface_normals(values, valid, warp, sensor.focal)
    if sensor.encoding == "contrast":
        return picture_contrast(values, valid), valid
    return values, valid


def nearest_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Every hole takes the value of the nearest valid pixel; 0 in a picture without any."""
    filled = values * valid
    for picture, measured in zip(filled, valid[:, 0].cpu().numpy(), strict=True):
        if measured.any() and not measured.all():
            rows, columns = distance_transform_edt(~measured, return_distances=False, return_indices=True)
            picture[:] = picture[:, torch.from_numpy(rows), torch.from_numpy(columns)]
    return filled


def surface_normals(depth: Tensor, valid: Tensor, warp: Tensor, focal: float) -> tuple[Tensor, Tensor]:
    """Unit normals of the surface, x to the right, y down, z towards the camera.

    A pixel and its four neighbours are points in space; the normal is the cross product of the differences across it.

    Args:
        depth: (B, 1, H, W) in metres.
        valid: (B, 1, H, W) bool.
        warp: (B, 2, 3), which window of the scene the picture is; a mirrored one is a mirrored world.
        focal: focal length in widths of the scene's picture.

    Returns:
        (B, 3, H, W), 0 where invalid, and (B, 1, H, W) bool: where the pixel and its neighbours are valid.
    """
    height, width = depth.shape[-2:]
    points = torch.cat([depth * axis for axis in _rays(warp, height, width, focal)] + [depth], dim=1)
    across = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    down = points[..., 2:, 1:-1] - points[..., :-2, 1:-1]
    normals = torch.zeros_like(points)
    normals[..., 1:-1, 1:-1] = torch.nn.functional.normalize(torch.linalg.cross(down, across, dim=1), dim=1)
    normals[:, 2] *= -1
    known = torch.zeros_like(valid)
    inner = valid[..., 1:-1, 1:-1]
    for row, column in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner = inner & valid[..., row : row + height - 2, column : column + width - 2]
    known[..., 1:-1, 1:-1] = inner
    return normals * known, known


def _rays(warp: Tensor, height: int, width: int, focal: float) -> tuple[Tensor, Tensor]:
    """Slope of the line of sight of every pixel, sideways (B, 1, 1, W) and downwards (B, 1, H, 1)."""
    x, y = (torch.from_numpy((np.arange(n) + 0.5) * 2 / n - 1).to(warp) for n in (width, height))
    x = warp[:, :1, :1].sign() * (warp[:, :1, :1] * x + warp[:, :1, 2:])
    y = warp[:, 1:, 1:2] * y + warp[:, 1:, 2:]
    return x.unsqueeze(1) / (2 * focal), y.unsqueeze(1).transpose(-1, -2) * height / (2 * focal * width)


def picture_contrast(values: Tensor, valid: Tensor) -> Tensor:
    """Values in standard deviations from the mean of each picture's valid pixels: blind to drift and range."""
    count = valid.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (values * valid).sum(dim=(2, 3), keepdim=True) / count
    variance = ((values - mean).square() * valid).sum(dim=(2, 3), keepdim=True) / count
    return (values - mean) / variance.sqrt().clamp(min=1e-3)

"""How a network is shown depth and temperature: computed from the values as measured, on the scene's own grid.

HHA, which needs the direction of gravity, is read from a folder where somebody has computed it: a sensor of kind rgb.
Explained in notebook 11.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from crodino_lib.config import DataConfig, choose
from crodino_lib.data.sample import DatasetCard, Sensor

METRES = ("m", "metre", "metres", "meter", "meters")
NEAREST_M = 0.1  # below it inverse and logarithm would be ruled by noise; no sensor of these datasets measures nearer


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedSensor(Sensor):
    """A sensor as networks see it; channels, unit, mean and std are those after encoding.

    Attributes:
        raw: the sensor as measured.
        encoding: what is made of its values.
        holes: what a network sees where nothing was measured; ``Scenes.valid`` says where that is in any case.
        aspect: height of the camera's picture in its widths, whatever size networks see it at.
    """

    raw: Sensor
    encoding: str
    holes: str
    aspect: float


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
    width, height = card.native_size
    for name, (encoding, holes) in wanted.items():
        if (encoding, holes) == ("raw", "none"):
            continue
        sensor = sensors[choose(name, sensors, f"sensor to encode of {card.name}")]
        if name == "depth" and not metric(sensor):
            raise ValueError(
                f"depth of {card.name} is in {sensor.unit!r}, so it cannot be shown as {encoding!r}: needs m"
            )
        if name == "depth" and sensor.mean[0] <= 0:
            raise ValueError(f"depth of {card.name} has the mean {sensor.mean[0]} m; distances are above 0")
        if (encoding, holes) == ("normals", "constant"):
            raise ValueError("depth_holes = 'constant' has no normals; choose 'none' or 'nearest'")
        sensors[name] = _encoded_sensor(sensor, encoding, holes, height / width)
    return dataclasses.replace(card, sensors=sensors)


def metric(sensor: Sensor) -> bool:
    """Whether the sensor measures distances: between two of them, across an edge, nothing is."""
    raw = raw_sensor(sensor)
    return raw.unit in METRES and raw.channels == 1


def measured(card: DatasetCard) -> DatasetCard:
    """``card`` with its sensors as measured."""
    return dataclasses.replace(card, sensors={name: raw_sensor(sensor) for name, sensor in card.sensors.items()})


def raw_sensor(sensor: Sensor) -> Sensor:
    """The sensor as measured."""
    return sensor.raw if isinstance(sensor, EncodedSensor) else sensor


def _encoded_sensor(raw: Sensor, encoding: str, holes: str, aspect: float) -> EncodedSensor:
    channels, unit, mean, std = raw.channels, raw.unit, raw.mean, raw.std
    # statistics of a function of depth to first order about the mean: all rows of a study share them, none is tuned
    if encoding == "inverse":
        unit, mean, std = "1/m", (1 / raw.mean[0],), (raw.std[0] / raw.mean[0] ** 2,)
    elif encoding == "log":
        unit, mean, std = "ln m", (math.log(raw.mean[0]),), (raw.std[0] / raw.mean[0],)
    elif encoding == "normals":
        channels, unit, mean, std = 3, "unit vector", (0.0, 0.0, 0.5), (0.5, 0.5, 0.5)
    elif encoding == "contrast":
        unit, mean, std = "standard deviations of the picture", (0.0,) * channels, (1.0,) * channels
    return EncodedSensor(channels, unit, mean, std, raw.focal, raw=raw, encoding=encoding, holes=holes, aspect=aspect)


def encode(values: Tensor, valid: Tensor, sensor: Sensor) -> tuple[Tensor, Tensor]:
    """Values as a network sees them, neither warped nor normalised yet.

    Args:
        values: (B, C, H, W) float32 in the unit of the sensor as measured, the whole scene.
        valid: (B, 1, H, W) bool.
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
    if is_normals(sensor):
        return surface_normals(values, valid, sensor.focal, sensor.aspect)
    if sensor.encoding == "contrast":
        return picture_contrast(values, valid), valid
    return values, valid


def is_normals(sensor: Sensor) -> bool:
    """Whether a network is shown normals. Noise, small beside a distance, would drown the difference of two."""
    return isinstance(sensor, EncodedSensor) and sensor.encoding == "normals"


def mirrored(values: Tensor, warp: Tensor, sensor: Sensor) -> Tensor:
    """Encoded values of warped pictures: in a mirrored world normals point the other way sideways."""
    if not is_normals(sensor):
        return values
    return torch.cat([values[:, :1] * warp[:, :1, :1, None].sign(), values[:, 1:]], dim=1)


def nearest_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Every hole takes the value of the nearest valid pixel; 0 in a picture without any."""
    filled = values * valid
    for picture, measured in zip(filled, valid[:, 0].cpu().numpy(), strict=True):
        if measured.any() and not measured.all():
            rows, columns = distance_transform_edt(~measured, return_distances=False, return_indices=True)
            picture[:] = picture[:, torch.from_numpy(rows), torch.from_numpy(columns)]
    return filled


def surface_normals(depth: Tensor, valid: Tensor, focal: float, aspect: float) -> tuple[Tensor, Tensor]:
    """Unit normals of the surface, x to the right, y down, z towards the camera.

    A pixel and its four neighbours are points in space; the normal is the cross product of the differences across it.
    Steps in depth turn it: the half precision of the cache turns normals at 4 m by a degree at 64 pixels a width,
    and by ten at 640.

    Args:
        depth: (B, 1, H, W) in metres, the whole scene.
        valid: (B, 1, H, W) bool.
        focal: focal length in widths of the picture.
        aspect: height of the camera's picture in its widths; the pixels here need not be square.

    Returns:
        (B, 3, H, W), 0 where invalid, and (B, 1, H, W) bool: where the pixel and its neighbours are valid.
    """
    height, width = depth.shape[-2:]
    x, y = ((torch.arange(n, device=depth.device) + 0.5) / n - 0.5 for n in (width, height))
    rays = x.view(1, 1, 1, -1) / focal, y.view(1, 1, -1, 1) * aspect / focal
    points = torch.cat([*(depth * ray for ray in rays), depth], dim=1)
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


def picture_contrast(values: Tensor, valid: Tensor) -> Tensor:
    """Values in standard deviations from the mean of each picture's valid pixels: blind to drift and range."""
    count = valid.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (values * valid).sum(dim=(2, 3), keepdim=True) / count
    variance = ((values - mean).square() * valid).sum(dim=(2, 3), keepdim=True) / count
    return (values - mean) / variance.sqrt().clamp(min=1e-3)

"""Encode depth and temperature for networks: computed from the values as measured, on the scene's own grid.

HHA, which needs the direction of gravity, is read from a folder where somebody has computed it: a sensor of kind rgb.
Explained in notebook 11.
"""

import dataclasses
import math

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import normalize

from crodino_lib.config import DataConfig
from crodino_lib.data.sample import DatasetCard, Sensor
from crodino_lib.settings import choose

NEAREST_M = 0.1  # below it inverse and logarithm would be ruled by noise; no sensor of these datasets measures nearer


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedSensor(Sensor):
    """A sensor as networks see it, and as measured (``raw``); channels, unit, mean and std are those after encoding."""

    raw: Sensor
    encoding: str
    holes: str
    aspect: float  # height of the camera's picture in its widths, whatever size networks see it at

    @property
    def measured(self) -> Sensor:
        """The sensor as measured."""
        return self.raw

    @property
    def smooth(self) -> bool:
        """Return whether networks see normals: noise on depth would drown the difference of two distances."""
        return self.encoding == "normals"

    def encode(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Encode whole scenes; see ``Sensor.encode``."""
        if self.holes != "none":
            values = values * valid if self.holes == "constant" else nearest_valid(values, valid)
            valid = torch.ones_like(valid)
        if self.encoding == "normals":
            return surface_normals(values, valid, self.focal, self.aspect)
        if self.encoding == "contrast":
            return picture_contrast(values, valid), valid
        near = values.clamp(min=NEAREST_M)
        return {"inverse": 1 / near, "log": near.log()}.get(self.encoding, values), valid

    def mirror(self, values: Tensor, warp: Tensor) -> Tensor:
        """Turn the normals of mirrored pictures: in a mirrored world they point the other way sideways."""
        if self.encoding != "normals":
            return values
        return torch.cat([values[:, :1] * warp[:, :1, :1, None].sign(), values[:, 1:]], dim=1)


def encoded(card: DatasetCard, config: DataConfig) -> DatasetCard:
    """Return ``card`` with its sensors encoded as ``config`` sets; ValueError where it lacks one, or in that form."""
    wanted = {"depth": (config.depth_encoding, config.depth_holes), "thermal": (config.thermal_encoding, "none")}
    sensors, (width, height) = dict(card.sensors), card.native_size
    for name, (encoding, holes) in wanted.items():
        if (encoding, holes) == ("raw", "none"):
            continue
        sensor = sensors[choose(name, sensors, f"sensor to encode of {card.name}")]
        if name == "depth" and not sensor.metric:
            raise ValueError(f"depth of {card.name} is in {sensor.unit!r}; to encode it as {encoding!r} needs m")
        if name == "depth" and sensor.mean[0] <= 0:
            raise ValueError(f"depth of {card.name} has the mean {sensor.mean[0]} m; expected a distance above 0")
        if (encoding, holes) == ("normals", "constant"):
            raise ValueError("depth_holes = 'constant' has no normals; choose 'none' or 'nearest'")
        own = {"raw": sensor, "encoding": encoding, "holes": holes, "aspect": height / width, "focal": sensor.focal}
        sensors[name] = EncodedSensor(*_statistics(sensor, encoding), **own)
    return dataclasses.replace(card, sensors=sensors)


def _statistics(raw: Sensor, encoding: str) -> tuple[int, str, tuple[float, ...], tuple[float, ...]]:
    """Return channels, unit, mean and std after encoding, of depth to first order about its mean: none is tuned."""
    mean, std = raw.mean[0], raw.std[0]
    if encoding == "inverse":
        return 1, "1/m", (1 / mean,), (std / mean**2,)
    if encoding == "log":
        return 1, "ln m", (math.log(mean),), (std / mean,)
    if encoding == "normals":
        return 3, "unit vector", (0.0, 0.0, 0.5), (0.5, 0.5, 0.5)
    if encoding == "contrast":
        return raw.channels, "standard deviations of the picture", (0.0,) * raw.channels, (1.0,) * raw.channels
    return raw.channels, raw.unit, raw.mean, raw.std


def nearest_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Fill every hole with the value of the nearest valid pixel, and a picture without any with 0."""
    filled = values * valid
    for picture, known in zip(filled, valid[:, 0].cpu().numpy(), strict=True):
        if known.any() and not known.all():
            rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
            picture[:] = picture[:, torch.from_numpy(rows), torch.from_numpy(columns)]
    return filled


def surface_normals(depth: Tensor, valid: Tensor, focal: float, aspect: float) -> tuple[Tensor, Tensor]:
    """Compute unit normals of the surface, x to the right, y down, z towards the camera.

    A pixel and its four neighbours are points in space; the normal is the cross product of the differences across it.
    ``depth`` is (B, 1, H, W) in metres, the whole scene; ``focal`` and ``aspect`` are in widths of the picture.

    Returns:
        (B, 3, H, W), 0 where invalid, and (B, 1, H, W) bool: where the pixel and its neighbours are valid.
    """
    height, width = depth.shape[-2:]
    x, y = ((torch.arange(n, device=depth.device) + 0.5) / n - 0.5 for n in (width, height))
    rays = x.view(1, 1, 1, -1) / focal, y.view(1, 1, -1, 1) * aspect / focal
    points = torch.cat([*(depth * ray for ray in rays), depth], dim=1)
    across = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    down = points[..., 2:, 1:-1] - points[..., :-2, 1:-1]
    normals, known = torch.zeros_like(points), torch.zeros_like(valid)
    normals[..., 1:-1, 1:-1] = normalize(torch.linalg.cross(down, across, dim=1), dim=1)
    normals[:, 2] *= -1
    rows, columns = valid[..., 1:-1, :], valid[..., :, 1:-1]  # a pixel counts where its four neighbours do
    beside = rows[..., :-2] & rows[..., 2:] & columns[..., :-2, :] & columns[..., 2:, :]
    known[..., 1:-1, 1:-1] = valid[..., 1:-1, 1:-1] & beside
    return normals * known, known


def picture_contrast(values: Tensor, valid: Tensor) -> Tensor:
    """Return values in standard deviations from the mean of each picture's valid pixels: free of drift and range."""
    count = valid.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (values * valid).sum(dim=(2, 3), keepdim=True) / count
    variance = ((values - mean).square() * valid).sum(dim=(2, 3), keepdim=True) / count
    return (values - mean) / variance.sqrt().clamp(min=1e-3)

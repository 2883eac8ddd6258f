"""A student as it is used: pictures in their own units and at their own size go in, classes come out at that size."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crodino_lib.augment import normalise
from crodino_lib.data.sample import Sensor


class Deployed(nn.Module):
    """A student behind its preprocessing; what it computes is a graph of tensors, which can be exported whole.

    Args:
        network: the student; it returns a ``SegOutput``.
        sensors: of the student, in its order, as the dataset's card has them.
        size: (width, height) that the network sees.
    """

    def __init__(self, network: nn.Module, sensors: Mapping[str, Sensor], size: tuple[int, int]):
        super().__init__()
        self.network, self.sensors, self.size = network, dict(sensors), size

    def forward(self, *pictures: Tensor) -> Tensor:
        """Return the class of every pixel, (H, W) uint8.

        Args:
            pictures: one of each sensor, aligned. RGB: (H, W, 3) uint8. Others: (H, W) float32 in the sensor's unit,
                (H, W, C) where it has several channels; what is not finite, and 0 m of depth, is no measurement.
        """
        images = [self.see(name, picture) for name, picture in zip(self.sensors, pictures, strict=True)]
        (width, height), (rows, columns) = self.size, pictures[0].shape[:2]
        logits = F.interpolate(self.network(*images).logits, size=(height, width), mode="bilinear")
        classes = logits.argmax(dim=1)[0].to(torch.uint8)
        return classes[nearest_pixels(rows, height)][:, nearest_pixels(columns, width)]

    def see(self, name: str, picture: Tensor) -> Tensor:
        """Return one picture as the network sees it, (1, C, height, width): resized as the study's scenes are."""
        (width, height), (rows, columns) = self.size, picture.shape[:2]
        values = picture.reshape(rows, columns, -1).permute(2, 0, 1).float()
        if name == "rgb":  # antialiased; Pillow rounds after each direction
            values = (values @ resampling(columns, width, box=False).T).round()
            values = (resampling(rows, height, box=False) @ values).round()
            valid = torch.ones_like(values[:1], dtype=torch.bool)
        else:  # the mean of valid pixels
            valid = torch.isfinite(values).all(dim=0, keepdim=True)
            if name == "depth" and self.sensors[name].metric:
                valid = valid & (values != 0).all(dim=0, keepdim=True)
            across, down = resampling(columns, width, box=True).T, resampling(rows, height, box=True)
            weight = down @ (valid.float() @ across)
            total = down @ (torch.where(valid, values, 0.0) @ across)
            values, valid = total / weight.clamp(min=0.5), weight >= 0.5
        sensor = self.sensors[name]
        seen, known = sensor.encode((values * valid)[None], valid[None])
        return normalise(seen, known, sensor)


def resampling(source: int, target: int, box: bool) -> Tensor:
    """Return the weights (target, source) of Pillow's filter BOX or BILINEAR, antialiased, along one side of a picture.

    Distances are integers, in half pixels of a grid that both sides divide, so that every engine finds the same pixels
    inside the filter; where a pixel lies on its very edge, Pillow leaves that to rounding errors.
    """
    reach = torch.sym_max(source, target)
    middles = (2 * torch.arange(target) + 1) * source
    distances = (2 * torch.arange(source) + 1) * target - middles[:, None]
    inside = (distances > -reach) & (distances <= reach)
    weights = inside.double() if box else (1 - distances.abs().double() / (2 * reach)).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def nearest_pixels(count: int, source: int) -> Tensor:
    """Return, for each of ``count`` pixels along a side, the one of ``source`` pixels that its middle lies in."""
    return (2 * torch.arange(count) + 1) * source // (2 * count)

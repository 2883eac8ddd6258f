"""Define classes, pairs, factors and the description of a scene that renderer and sensors work from."""

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crodino_lib.rooms.furniture import Paint, Part, Vector

SPEC = Path(__file__).with_name("dataset.toml")
_TABLE = tomllib.loads(SPEC.read_text())
CLASSES, SPLITS = tuple(_TABLE["classes"]), tuple(_TABLE["splits"])
SENSORS = ("rgb", "depth", "thermal")
PAIRS = {  # the one sensor that tells two classes apart, and the two classes
    "picture or wall": ("rgb", "picture", "wall"),
    "rug or floor": ("rgb", "rug", "floor"),
    "person or statue": ("thermal", "person", "statue"),
    "appliance or cabinet": ("thermal", "appliance", "cabinet"),
    "near small or far large ball": ("depth", "small ball", "large ball"),
}
FACTORS = {  # recorded per scene: `shared` or the sensor it is private to, its meaning, and where it is uniform: range
    "room_width_m": ("shared", "width of the room, metres", (3.8, 6.2)),
    "room_depth_m": ("shared", "depth of the room, metres", (4.2, 7.0)),
    "camera_height_m": ("shared", "height of the camera above the floor, metres", (1.1, 1.8)),
    "camera_yaw_deg": ("shared", "heading of the camera, degrees to the left of the back wall's middle", (-15, 15)),
    "object_count": ("shared", "things standing on the floor", None),
    "night": ("rgb", "1 at night", None),
    "light_level": ("rgb", "radiance of the light, relative", None),
    "light_warmth": ("rgb", "colour of the light, -1 blue to 1 red", (-1, 1)),
    "palette_hue_x": ("rgb", "cosine of the palette's hue", None),
    "palette_hue_y": ("rgb", "sine of the palette's hue", None),
    "palette_chroma": ("rgb", "saturation of the palette", (0.2, 0.95)),
    "depth_noise": ("depth", "noise at 1 m, metres; uniform in its logarithm", (math.log(0.0008), math.log(0.004))),
    "depth_holes": ("depth", "share of pixels lost to blobs", (0, 0.15)),
    "ambient_c": ("thermal", "temperature of the room, degrees C", (14, 29)),
    "thermal_drift_c": ("thermal", "drift of the thermal sensor at the corners, degrees C", (-3, 3)),
}
FIELD_OF_VIEW = math.radians(72)  # horizontal


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: where it is, and the unit vectors to its right, downwards and forwards."""

    position: np.ndarray
    right: np.ndarray
    down: np.ndarray
    forward: np.ndarray

    @classmethod
    def aimed(cls, position: Vector, yaw: float, pitch: float) -> "Camera":
        """Look along +y, turned by ``yaw`` to the left and raised by ``pitch`` (radians)."""
        forward = np.array([-math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch)])
        right = np.array([math.cos(yaw), math.sin(yaw), 0.0])
        return cls(np.array(position), right, np.cross(forward, right), forward)

    def rays(self, across: np.ndarray, down: np.ndarray, aspect: float) -> np.ndarray:
        """Directions (..., 3) of depth 1 through image positions in -1..1; ``aspect`` is height over width."""
        wide, outer = math.tan(FIELD_OF_VIEW / 2), np.multiply.outer
        return self.forward + outer(across * wide, self.right) + outer(down * wide * aspect, self.down)


@dataclass(frozen=True)
class Ball:
    """A ball in mid-air, drawn over the rendered picture so that it casts no shadow."""

    centre: np.ndarray
    radius: float
    paint: Paint
    celsius: float
    label: str
    site: int


@dataclass(frozen=True)
class Blank:
    """An empty place for a picture on a wall or a rug on the floor: the other class of the pair."""

    centre: Vector
    half: Vector
    yaw: float
    label: str
    site: int


@dataclass
class Scene:
    """Everything the renderer and the sensors need; ``factors`` is what is recorded."""

    size: Vector
    camera: Camera
    parts: list[Part]
    factors: dict[str, float]
    light: np.ndarray
    balls: list[Ball] = field(default_factory=list)
    blanks: list[Blank] = field(default_factory=list)

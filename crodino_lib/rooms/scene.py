"""What a scene is: its classes and pairs, its camera, and everything the renderer and the sensors need."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from crodino_lib.rooms.furniture import Paint, Part, Vector

CLASSES = (
    *("wall", "floor", "ceiling", "window", "door", "picture", "rug", "table", "seat", "cabinet", "appliance"),
    *("lamp", "person", "statue", "small ball", "large ball"),
)
SPLITS = ("train", "val", "test", "test_night")
PAIRS = {  # what only one sensor can tell apart: sensor, then the two classes
    "picture or wall": ("rgb", "picture", "wall"),
    "rug or floor": ("rgb", "rug", "floor"),
    "person or statue": ("thermal", "person", "statue"),
    "appliance or cabinet": ("thermal", "appliance", "cabinet"),
    "near small or far large ball": ("depth", "small ball", "large ball"),
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
    def aimed(cls, position: Vector, yaw: float, pitch: float) -> Camera:
        """Look along +y, turned by ``yaw`` to the left and raised by ``pitch`` (radians)."""
        forward = np.array([-math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch)])
        right = np.array([math.cos(yaw), math.sin(yaw), 0.0])
        return cls(np.array(position), right, np.cross(forward, right), forward)

    def rays(self, across: np.ndarray, down: np.ndarray, aspect: float) -> np.ndarray:
        """Directions (..., 3) of depth 1 through image positions in -1..1; ``aspect`` is height over width."""
        wide = math.tan(FIELD_OF_VIEW / 2)
        return (
            self.forward
            + np.multiply.outer(across * wide, self.right)
            + np.multiply.outer(down * wide * aspect, self.down)
        )


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
    """A place on a wall or the floor where a picture or a rug might be and is not: the other half of its pair."""

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

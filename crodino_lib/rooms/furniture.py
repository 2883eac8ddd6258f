"""Build furniture, people and machines from boxes, balls, capsules and drums, in metres."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Vector = tuple[float, float, float]
SKIN = ((0.70, 0.48, 0.37), (0.55, 0.34, 0.23), (0.36, 0.21, 0.13), (0.20, 0.11, 0.07))


@dataclass(frozen=True)
class Paint:
    """Diffuse reflectance, linear RGB in 0..1; checked with a second colour where ``tiles`` counts pairs of checks."""

    colour: Vector
    second: Vector | None = None
    tiles: tuple[float, float] = (1, 1)


@dataclass(frozen=True)
class Part:
    """One primitive of a scene, with the properties of its surface that each sensor measures; metres, z points up."""

    kind: Literal["box", "ball", "capsule", "drum"]  # a capsule has round ends, a drum flat ones
    a: Vector  # centre, or first end
    b: Vector  # half sizes of a box, or second end
    paint: Paint
    celsius: float
    radius: float = 0.0  # of everything but a box
    yaw: float = 0.0  # of a box about the vertical, radians
    label: str = ""
    site: int = 0  # number of the pair object it belongs to; 0 for none
    glow: Vector = (0.0, 0.0, 0.0)  # emitted radiance, linear RGB


class Palette:
    """The colours of one scene, six around ``hue`` (in turns): every object, whatever its class, is painted from it."""

    def __init__(self, rng: np.random.Generator, hue: float, chroma: float):
        hues = hue + rng.normal(0, 0.07, 6) + rng.choice([0, 0.5], 6, p=[0.85, 0.15])
        saturations = chroma * rng.uniform(0.5, 1, 6)
        values = rng.permutation(np.linspace(0.08, 0.8, 6))
        self.colours = [_hsv(*hsv) for hsv in zip(hues, saturations, values, strict=True)]

    def paint(self, rng: np.random.Generator) -> Paint:
        """Draw one of the colours, slightly lighter or darker."""
        colour = np.array(self.colours[rng.integers(len(self.colours))]) * rng.uniform(0.85, 1.15)
        return Paint(tuple(np.clip(colour, 0.02, 0.9)))


def _hsv(hue: float, saturation: float, value: float) -> Vector:
    wheel = np.clip(np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return tuple(value * (1 - saturation * (1 - wheel)))


def place(parts: Iterable[Part], x: float, y: float, yaw: float, label: str, site: int = 0) -> list[Part]:
    """Turn parts about the vertical, move them to (x, y), and name them."""
    cos, sin = math.cos(yaw), math.sin(yaw)

    def moved(p: Vector) -> Vector:
        return (x + cos * p[0] - sin * p[1], y + sin * p[0] + cos * p[1], p[2])

    return [
        replace(p, a=moved(p.a), b=p.b if p.kind == "box" else moved(p.b), yaw=p.yaw + yaw, label=label, site=site)
        for p in parts
    ]


def _box(x, y, z, width, depth, height, paint: Paint, celsius: float) -> Part:
    """Return a box that stands on height ``z`` with its middle at (x, y)."""
    return Part("box", (x, y, z + height / 2), (width / 2, depth / 2, height / 2), paint, celsius)


def _legs(width: float, depth: float, height: float, thick: float, paint: Paint, celsius: float) -> list[Part]:
    reach_x, reach_y = width / 2 - thick, depth / 2 - thick
    corners = [(x, y) for x in (-reach_x, reach_x) for y in (-reach_y, reach_y)]
    return [_box(x, y, 0, thick, thick, height, paint, celsius) for x, y in corners]


def table(rng: np.random.Generator, palette: Palette, celsius: float) -> list[Part]:
    """Build a rectangular or a round table; its front faces -y, as all fronts here."""
    top, leg = palette.paint(rng), palette.paint(rng)
    height = rng.uniform(0.65, 0.8)
    if rng.random() < 0.4:
        radius = rng.uniform(0.45, 0.65)
        return [
            Part("drum", (0, 0, height), (0, 0, height + 0.05), top, celsius, radius),
            Part("drum", (0, 0, 0.03), (0, 0, height), leg, celsius, 0.06),
            Part("drum", (0, 0, 0), (0, 0, 0.03), leg, celsius, 0.3),
        ]
    width, depth = rng.uniform(0.9, 1.6), rng.uniform(0.6, 0.9)
    return [_box(0, 0, height, width, depth, 0.06, top, celsius), *_legs(width, depth, height, 0.07, leg, celsius)]


def seat(rng: np.random.Generator, palette: Palette, celsius: float) -> list[Part]:
    """Build a chair or a sofa."""
    cover, frame = palette.paint(rng), palette.paint(rng)
    if rng.random() < 0.5:
        width, height, back = rng.uniform(0.42, 0.55), rng.uniform(0.42, 0.5), rng.uniform(0.45, 0.6)
        bottom = _box(0, 0, height, width, width, 0.06, cover, celsius)
        behind = _box(0, width / 2 - 0.03, height, width, 0.05, back, cover, celsius)
        return [*_legs(width, width, height, 0.05, frame, celsius), bottom, behind]
    width, depth, height = rng.uniform(1.3, 1.9), rng.uniform(0.75, 0.9), rng.uniform(0.36, 0.45)
    arm = rng.uniform(0.14, 0.22)
    return [
        _box(0, 0, 0, width, depth, height, cover, celsius),
        _box(0, depth / 2 - 0.1, height, width, 0.2, rng.uniform(0.35, 0.5), cover, celsius),
        *(_box(x * (width - arm) / 2, 0, height, arm, depth, 0.2, frame, celsius) for x in (-1, 1)),
    ]


def lamp(rng: np.random.Generator, palette: Palette, celsius: float, shade_c: float, glow: Vector) -> list[Part]:
    """Build a floor lamp whose shade is warm, whether or not it shines."""
    pole, shade = palette.paint(rng), palette.paint(rng)
    height, radius = rng.uniform(1.1, 1.5), rng.uniform(0.2, 0.28)
    return [
        Part("drum", (0, 0, 0), (0, 0, 0.04), pole, celsius, 0.2),
        Part("drum", (0, 0, 0.04), (0, 0, height), pole, celsius, 0.025),
        Part("drum", (0, 0, height), (0, 0, height + rng.uniform(0.35, 0.5)), shade, shade_c, radius, glow=glow),
    ]


def box_furniture(rng: np.random.Generator, palette: Palette, body_c: float, front_c: float) -> list[Part]:
    """Build a cabinet, or a machine of the same shape: a body with doors or a round hatch at its front."""
    body, front, knob = (palette.paint(rng) for _ in range(3))
    width, depth = rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.65)
    height = rng.choice([rng.uniform(0.85, 1.0), rng.uniform(1.4, 1.9)])
    parts = [_box(0, 0, 0, width, depth, height, body, body_c)]
    if rng.random() < 0.35:
        middle, radius = (0, -depth / 2, height * 0.55), 0.33 * width
        return [*parts, Part("drum", middle, (0, -depth / 2 - 0.03, height * 0.55), front, front_c, radius)]
    doors = rng.integers(1, 3)
    for i in range(doors):
        top, bottom = height * (1 - i / doors) - 0.03, height * (1 - (i + 1) / doors) + 0.03
        parts.append(_box(0, -depth / 2 - 0.01, bottom, width - 0.08, 0.03, top - bottom, front, front_c))
        parts.append(_box(-width * 0.3, -depth / 2 - 0.04, (top + bottom) / 2, 0.03, 0.04, 0.16, knob, front_c))
    return parts


def figure(rng: np.random.Generator, palette: Palette, skin_c: float, clothes_c: float) -> list[Part]:
    """Build a standing human shape: a person, or the statue of one in the same clothes."""
    skin = Paint(SKIN[rng.integers(len(SKIN))])
    shirt, trousers, hair = (palette.paint(rng) for _ in range(3))
    tall, stride = rng.uniform(1.55, 1.85), rng.uniform(0.07, 0.13)
    hip, shoulder, head = 0.5 * tall, 0.8 * tall, 0.93 * tall
    parts = [
        Part("capsule", (0, 0, hip), (0, 0, shoulder - 0.06), shirt, clothes_c, 0.17),
        Part("capsule", (-0.13, 0, shoulder), (0.13, 0, shoulder), shirt, clothes_c, 0.09),
        Part("ball", (0, -0.01, head), (0, 0, 0), skin, skin_c, 0.125),
        Part("ball", (0, 0.03, head + 0.03), (0, 0, 0), hair, clothes_c, 0.122),
    ]
    for side in (-1, 1):
        step = rng.uniform(-0.12, 0.12)
        parts.append(Part("capsule", (side * stride, 0, hip), (side * stride, step, 0.08), trousers, clothes_c, 0.085))
        spread, reach = rng.uniform(0.05, 0.2), rng.uniform(-0.3, 0.05)
        elbow = (side * (0.24 + spread / 2), reach / 3, shoulder - 0.28)
        hand = (side * (0.24 + spread), reach, shoulder - 0.5 + 0.4 * abs(reach))
        parts.append(Part("capsule", (side * 0.22, 0, shoulder), elbow, shirt, clothes_c, 0.06))
        parts.append(Part("capsule", elbow, hand, skin, skin_c, 0.05))
    return parts

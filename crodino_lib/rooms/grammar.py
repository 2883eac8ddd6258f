"""Compose scenes: from a seed to a room, everything in it, its camera and its factors."""

import itertools
import math

import numpy as np

from crodino_lib.rooms import furniture
from crodino_lib.rooms.furniture import Paint, Palette, Part
from crodino_lib.rooms.scene import FACTORS, SPLITS, Ball, Blank, Camera, Scene

NIGHT_SHARE = 0.2
SKIN_C = 34.0
STANDING = ("figure", "figure", "box", "box", "table", "seat", "seat", "lamp")
RADIUS_M = {"figure": 0.35, "box": 0.5, "table": 0.75, "seat": 0.7, "lamp": 0.3}  # kept clear around each


def compose(seed: int, split: str, index: int) -> Scene:
    """Return the scene with this number; it does not depend on how many others are composed."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return _Composer(rng, night=split == "test_night" or rng.random() < NIGHT_SHARE).compose()


class _Composer:
    """Draw one scene; every draw comes from one generator in one order."""

    def __init__(self, rng: np.random.Generator, night: bool):
        self.rng = rng
        self.factors = f = self._draw_factors(night)
        self.size = (f["room_width_m"], f["room_depth_m"], rng.uniform(2.4, 2.9))
        hue = math.atan2(f["palette_hue_y"], f["palette_hue_x"]) / math.tau
        self.palette = Palette(rng, hue, f["palette_chroma"])
        self.ambient = f["ambient_c"]
        self.light = f["light_level"] * np.array([1 + 0.3 * f["light_warmth"], 1, 1 - 0.3 * f["light_warmth"]])
        at = (self.size[0] * rng.uniform(0.4, 0.6), 0.3, f["camera_height_m"])
        self.yaw = math.radians(f["camera_yaw_deg"])
        self.camera = Camera.aimed(at, self.yaw, math.radians(rng.uniform(-12, -5)))
        self.sites = itertools.count(1)
        self.scene = Scene(self.size, self.camera, [], f, self.light)
        self.taken: list[tuple[float, float, float, float]] = []  # x, y, radius, height of what stands
        self.hung: dict[str, list[tuple[float, float]]] = {"back": [], "left": [], "right": []}

    def compose(self) -> Scene:
        self._shell()
        for kind, chance in (("window", 0.7), ("door", 0.6)):
            if self.rng.random() < chance:
                self._opening(kind)
        for _ in range(2):
            self._picture()
        if self.rng.random() < 0.75:
            self._rug()
        wanted = self.rng.permutation(STANDING)[: self.rng.integers(3, 8)]
        for kind in sorted(wanted, key=lambda kind: -RADIUS_M[kind]):
            self._stand(kind)
        for _ in range(self.rng.integers(1, 3)):
            self._hang_ball()
        return self.scene

    def _draw_factors(self, night: bool) -> dict[str, float]:
        rng = self.rng
        hue = rng.uniform(0, math.tau)
        level = rng.uniform(0.02, 0.08) if night else math.exp(rng.uniform(math.log(0.4), math.log(1.6)))
        told = {"object_count": 0.0, "night": float(night), "light_level": level}
        told |= {"palette_hue_x": math.cos(hue), "palette_hue_y": math.sin(hue)}
        factors = {name: rng.uniform(*span) if span else told[name] for name, (*_, span) in FACTORS.items()}
        return factors | {"depth_noise": math.exp(factors["depth_noise"])}

    def _light_paint(self) -> Paint:
        """Return a pale palette colour: rooms are painted lighter than things, in the same hues."""
        colour = np.array(self.palette.paint(self.rng).colour)
        return Paint(tuple(0.35 * colour / colour.max() + 0.65 * self.rng.uniform(0.35, 0.95)))

    def _shell(self) -> None:
        width, depth, height = self.size
        self.wall, self.wall_c = self._light_paint(), self.ambient + self.rng.normal(0, 0.4)
        self.floor, self.floor_c = self._light_paint(), self.ambient + self.rng.normal(-0.7, 0.5)
        if self.rng.random() < 0.4:
            shade = tuple(np.array(self.floor.colour) * self.rng.uniform(0.8, 0.95))
            self.floor = Paint(self.floor.colour, shade, (round(width * 1.2), round(depth * 1.2)))
        slab, x, y, z = 0.05, width / 2, depth / 2, height / 2
        lid, long, side, wall = (x, y, slab), (x + slab, slab, z), (slab, y, z), (self.wall, self.wall_c)
        for label, at, half, surface in (
            ("floor", (x, y, -slab), lid, (self.floor, self.floor_c)),
            ("ceiling", (x, y, height + slab), lid, (self._light_paint(), self.ambient + self.rng.normal(0, 0.9))),
            ("wall", (x, depth + slab, z), long, wall),
            ("wall", (x, -slab, z), long, wall),
            ("wall", (-slab, y, z), side, wall),
            ("wall", (width + slab, y, z), side, wall),
        ):
            self.scene.parts.append(Part("box", at, half, *surface, label=label))

    def _on_wall(self, width: float) -> tuple[float, float, float] | None:
        """Return (x, y, yaw) of a free stretch of a visible wall; None where ten draws find none."""
        for _ in range(10):
            name = self.rng.choice(["back", "left", "right"], p=[0.6, 0.2, 0.2])
            low, high = (0.1, self.size[0] - 0.1) if name == "back" else (2.6, self.size[1] - 0.1)
            if high - low <= width:
                continue
            middle = self.rng.uniform(low + width / 2, high - width / 2)
            if any(abs(middle - other) < (width + wide) / 2 + 0.1 for other, wide in self.hung[name]):
                continue
            x, y, yaw = self._at_wall(name, middle, 0.0)
            if self._bearing(x, y) <= math.radians(32):
                self.hung[name].append((middle, width))
                return x, y, yaw
        return None

    def _at_wall(self, name: str, along: float, gap: float) -> tuple[float, float, float]:
        """Return (x, y, yaw) of a thing that faces the room, ``gap`` away from a wall."""
        width, depth, _ = self.size
        if name == "back":
            return along, depth - gap, 0.0
        return (gap, along, math.pi / 2) if name == "left" else (width - gap, along, -math.pi / 2)

    def _bearing(self, x: float, y: float) -> float:
        """Return the angle between the camera's heading and a point of the plan, radians, without sign."""
        return abs((self._polar(x, y)[0] - self.yaw + math.pi) % math.tau - math.pi)

    def _polar(self, x: float, y: float) -> tuple[float, float]:
        """Return direction (radians from +y, left is positive) and distance of a point of the plan from the camera."""
        dx, dy = x - self.camera.position[0], y - self.camera.position[1]
        return math.atan2(-dx, dy), math.hypot(dx, dy)

    def _opening(self, label: str) -> None:
        width = self.rng.uniform(0.9, 1.6) if label == "window" else self.rng.uniform(0.8, 0.95)
        if (at := self._on_wall(width)) is None:
            return
        frame, leaf = self.palette.paint(self.rng), self.palette.paint(self.rng)
        if label == "door":
            celsius = self.ambient + self.rng.normal(0, 2)
            parts = [
                Part("box", (0, -0.03, 1.02), (width / 2, 0.03, 1.02), frame, celsius),
                Part("box", (0, -0.04, 1.0), (width / 2 - 0.08, 0.04, 0.96), leaf, celsius),
                Part("ball", (width * 0.35, -0.1, 1.0), (0, 0, 0), frame, celsius, 0.04),
            ]
            self.taken.append((at[0], at[1], 0.4, 0.0))
        else:
            glass_c = self.ambient - self.rng.uniform(4, 10)
            half, middle = self.rng.uniform(0.45, 0.65), self.rng.uniform(1.4, 1.55)
            sky = tuple(self.light * self.rng.uniform(0.6, 1.1) * np.array([0.9, 1.0, 1.15]))
            parts = [Part("box", (0, -0.01, middle), (width / 2, 0.01, half), leaf, glass_c, glow=sky)]
            rim_c = (glass_c + self.ambient) / 2
            bars = [((x, -0.035, middle), (0.035, 0.035, half)) for x in (-width / 2, 0, width / 2)]
            bars += [((0, -0.04, z), (width / 2 + 0.035, 0.04, 0.035)) for z in (middle - half, middle + half)]
            parts += [Part("box", *bar, frame, rim_c) for bar in bars]
        self.scene.parts += furniture.place(parts, *at, label)

    def _contrasting(self, ground: Paint) -> Paint:
        """Return a paint unlike ``ground``, checked in half of the cases."""
        paints = [self.palette.paint(self.rng) for _ in range(12)]
        away = np.array([np.abs(np.sqrt(p.colour) - np.sqrt(ground.colour)).max() for p in paints])
        chosen = paints[int(np.argmax(np.minimum(away, 0.25)))]  # the first that stands out, else the best
        if self.rng.random() < 0.5:
            return Paint(chosen.colour, paints[-1].colour, tuple(self.rng.integers(1, 4, 2).astype(float)))
        return chosen

    def _picture(self) -> None:
        half = (self.rng.uniform(0.35, 0.65), 0.001, self.rng.uniform(0.28, 0.45))
        if at := self._on_wall(2 * half[0]):
            centre = (0, -0.001, self.rng.uniform(1.5, 1.8))
            self._flat("picture", "wall", centre, half, at, self._contrasting(self.wall), self.wall_c)

    def _rug(self) -> None:
        half = (self.rng.uniform(0.7, 1.1), self.rng.uniform(0.5, 0.8), 0.0015)
        at = (*self._in_view(2.5, self.size[1] - 1.0, math.radians(18)), self.rng.uniform(-0.4, 0.4))
        self._flat("rug", "floor", (0, 0, 0.0015), half, at, self._contrasting(self.floor), self.floor_c)

    def _flat(self, label, ground, centre, half, at, paint: Paint, celsius: float) -> None:
        """Put a flat thing at the temperature of its ground, or leave its place blank, with even odds."""
        site = next(self.sites)
        if self.rng.random() < 0.5:
            self.scene.parts += furniture.place([Part("box", centre, half, paint, celsius)], *at, label, site)
        else:
            self.scene.blanks.append(Blank((*at[:2], centre[2]), half, at[2], ground, site))

    def _in_view(self, nearest: float, farthest: float, bearing: float) -> tuple[float, float]:
        """Return a point within ``bearing`` of the camera's heading, ``nearest..farthest`` from the front wall."""
        y = self.rng.uniform(nearest, max(farthest, nearest))
        angle = self.yaw + self.rng.uniform(-bearing, bearing)
        x = self.camera.position[0] - math.tan(angle) * (y - self.camera.position[1])
        return float(np.clip(x, 0.6, self.size[0] - 0.6)), y

    def _clear(self, x: float, y: float, radius: float) -> bool:
        """Return whether a footprint touches nothing and overlaps no other by more than a third in the picture."""
        direction, distance = self._polar(x, y)
        for ox, oy, other, height in self.taken:
            towards, reach = self._polar(ox, oy)
            hides = height and abs(direction - towards) < 0.65 * (radius / distance + other / reach)
            if hides or math.hypot(x - ox, y - oy) < radius + other:
                return False
        return True

    def _stand(self, kind: str) -> None:
        radius = RADIUS_M[kind]
        for _ in range(40):
            if kind == "box" or (kind == "seat" and self.rng.random() < 0.5):
                wall = self.rng.choice(["back", "left", "right"], p=[0.5, 0.25, 0.25])
                low, high = (0.6, self.size[0] - 0.6) if wall == "back" else (2.4, self.size[1] - 0.6)
                x, y, yaw = self._at_wall(wall, self.rng.uniform(low, high), 0.36 if kind == "box" else 0.5)
            else:
                (x, y), yaw = self._in_view(2.2, self.size[1] - 0.7, math.radians(29)), self.rng.uniform(-0.9, 0.9)
            if self._bearing(x, y) < math.radians(30) and self._clear(x, y, radius):
                break
        else:
            return
        label, parts, site = self._furnish(kind)
        self.scene.parts += furniture.place(parts, x, y, yaw, label, site)
        top = max(p.a[2] + (p.b[2] if p.kind == "box" else p.radius) for p in parts)
        self.taken.append((x, y, radius, top))
        self.factors["object_count"] += 1

    def _furnish(self, kind: str) -> tuple[str, list[Part], int]:
        """Return label, parts and pair site of one standing thing; figures and boxes are warm with even odds."""
        rng, palette, near = self.rng, self.palette, self.ambient + self.rng.normal(0, 0.9)
        if kind in ("table", "seat"):
            return kind, (furniture.table if kind == "table" else furniture.seat)(rng, palette, near), 0
        if kind == "lamp":
            shade_c, shines = rng.uniform(32, 55), rng.random() < 0.5  # heat is independent of light
            glow = tuple(self.light * 1.5) if shines else (0.0, 0.0, 0.0)
            return "lamp", furniture.lamp(rng, palette, near, shade_c, glow), 0
        warm, site = rng.random() < 0.5, next(self.sites)
        if kind == "figure":
            clothes = self.ambient + rng.uniform(0.35, 0.6) * (SKIN_C - self.ambient)
            heat = (SKIN_C + rng.normal(0, 0.5), clothes) if warm else (near, near)
            return ("person" if warm else "statue"), furniture.figure(rng, palette, *heat), site
        heat = (near + rng.uniform(4, 10), near + rng.uniform(10, 25)) if warm else (near, near)
        return ("appliance" if warm else "cabinet"), furniture.box_furniture(rng, palette, *heat), site

    def _hang_ball(self) -> None:
        """Hang a ball where a near small and a far large one of the same look are both clear of everything."""
        rng = self.rng
        paint, celsius = self.palette.paint(rng), self.ambient + rng.normal(0, 2)
        for _ in range(60):
            across, down, angle = rng.uniform(-0.75, 0.75), rng.uniform(-0.35, 0.25), rng.uniform(0.06, 0.09)
            near, far = rng.uniform(0.7, 1.1), rng.uniform(2.4, 3.6)
            ray = _unit(self.camera.rays(np.array(across), np.array(down), 0.75))
            if self._hangs_clear(self.camera.position + far * ray, far * angle, angle):
                break
        else:
            return
        small = bool(rng.random() < 0.5)
        distance, label = (near, "small ball") if small else (far, "large ball")
        centre = self.camera.position + distance * ray
        self.scene.balls.append(Ball(centre, distance * angle, paint, celsius, label, next(self.sites)))

    def _hangs_clear(self, centre: np.ndarray, radius: float, angle: float) -> bool:
        margin = radius + 0.3
        if np.any(centre < margin) or np.any(centre > np.array(self.size) - margin):
            return False
        here, way = self.camera.position, centre - self.camera.position
        direction, distance = self._polar(*centre[:2])
        lowest = way[2] / distance - 1.2 * angle
        for x, y, other, height in self.taken:
            towards, reach = self._polar(x, y)
            beside = abs(direction - towards) >= angle + other / reach
            if height and not beside and (height - here[2]) / reach > lowest:
                return False
        others = [ball.centre - here for ball in self.scene.balls]
        return all(np.linalg.norm(_unit(way) - _unit(other)) > 3 * angle for other in others)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)

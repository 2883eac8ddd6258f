"""Trace the light of a scene, and find the surface under every pixel."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from crodino_lib.rooms.furniture import Part
from crodino_lib.rooms.scene import CLASSES, FIELD_OF_VIEW, Ball, Blank, Scene

SAMPLES_PER_PIXEL = 8
BALL_SUBPIXELS = 4
AMBIENT = 0.35  # radiance a white surface gets from all others: 8 traced bounces per pixel would be mostly noise


@dataclass
class View:
    """The scene from the camera before any sensor adds noise."""

    radiance: np.ndarray  # (H, W, 3) linear RGB
    depth: np.ndarray  # (H, W) metres along the viewing axis
    celsius: np.ndarray  # (H, W) surface temperature
    label: np.ndarray  # (H, W) uint8, class index
    site: np.ndarray  # (H, W) uint8, number of the pair object; 0 for none


def render(scene: Scene, width: int, height: int, seed: int) -> View:
    """Render one scene with Mitsuba; the same seed gives the same picture."""
    import drjit as dr  # here, not above: opening a finished dataset needs no renderer
    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    dr.set_thread_count(1)  # scenes are rendered in parallel processes; one thread also fixes the order of sums
    traced = mi.load_dict(_description(mi, scene, width, height), optimize=False)  # merged shapes would lose their ids
    radiance = np.array(mi.render(traced, spp=SAMPLES_PER_PIXEL, seed=seed))[..., :3]
    under = mi.load_dict({"type": "aov", "aovs": "distance:depth,shape:shape_index,albedo:albedo"})
    layers = np.array(mi.render(traced, integrator=under, spp=1, seed=seed + 1))
    distance, shape, radiance = layers[..., 0], layers[..., 1], radiance + AMBIENT * scene.light * layers[..., 2:]
    owner = np.array([int(s.id().split("_")[1]) for s in traced.shapes()])
    part = owner[np.round(shape).astype(int) - 1]  # Mitsuba counts shapes from 1
    return _assemble(scene, radiance, distance, part)


def _assemble(scene: Scene, radiance: np.ndarray, distance: np.ndarray, part: np.ndarray) -> View:
    height, width = distance.shape
    rays = scene.camera.rays(*_pixel_centres(width, height), height / width)
    depth = distance / np.linalg.norm(rays, axis=-1)
    points = scene.camera.position + depth[..., None] * rays
    label = np.array([CLASSES.index(p.label) for p in scene.parts], np.uint8)[part]
    site = np.array([p.site for p in scene.parts], np.uint8)[part]
    for blank in scene.blanks:
        site[_inside(points, blank) & (label == CLASSES.index(blank.label))] = blank.site
    celsius = np.array([p.celsius for p in scene.parts])[part] + 0.6 * (points[..., 2] - 1.2)  # warm air rises
    view = View(radiance, depth, celsius, label, site)
    for ball in sorted(scene.balls, key=lambda ball: -ball.radius):
        _draw_ball(view, scene, ball)
    return view


def _pixel_centres(width: int, height: int, times: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.meshgrid(*((np.arange(n * times) + 0.5) / (n * times) * 2 - 1 for n in (width, height))))


def _inside(points: np.ndarray, blank: Blank) -> np.ndarray:
    """Return where world points lie in a blank place, thickened to 5 cm."""
    away, cos, sin = points - np.array(blank.centre), math.cos(blank.yaw), math.sin(blank.yaw)
    along, across = away[..., 0] * cos + away[..., 1] * sin, away[..., 1] * cos - away[..., 0] * sin
    reach = np.maximum(blank.half, 0.05)
    return (abs(along) < reach[0]) & (abs(across) < reach[1]) & (abs(away[..., 2]) < reach[2])


def _draw_ball(view: View, scene: Scene, ball: Ball) -> None:
    """Draw a ball in the light of the room, without shadow: its look must not tell its distance."""
    to_centre = ball.centre - scene.camera.position
    height, width = view.depth.shape
    window = _window(scene, to_centre, ball.radius, width, height)
    fine = tuple(slice(s.start * BALL_SUBPIXELS, s.stop * BALL_SUBPIXELS) for s in window)
    rays = scene.camera.rays(*(c[fine] for c in _pixel_centres(width, height, BALL_SUBPIXELS)), height / width)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    along = rays @ to_centre
    inside = ball.radius**2 - (to_centre @ to_centre - along**2)
    hit, reach = inside > 0, along - np.sqrt(np.maximum(inside, 0))
    normal = (reach[..., None] * rays - to_centre) / ball.radius
    shade = 0.55 + 0.25 * normal[..., 2] - 0.35 * normal @ scene.camera.forward

    covered = np.maximum(_pooled(hit), 1e-9)
    depth = _pooled(hit * reach * (rays @ scene.camera.forward)) / covered
    cover = _pooled(hit) * (depth < view.depth[window])
    reflected = np.array(ball.paint.colour) * scene.light * (_pooled(hit * shade) / covered)[..., None]
    view.radiance[window] += cover[..., None] * (reflected - view.radiance[window])
    whole = cover >= 0.5
    view.depth[window][whole] = depth[whole]
    view.celsius[window][whole] = ball.celsius
    view.label[window][whole] = CLASSES.index(ball.label)
    view.site[window][whole] = ball.site


def _window(scene: Scene, to_centre: np.ndarray, radius: float, width: int, height: int) -> tuple[slice, slice]:
    """Return the rows and columns that a ball may touch."""
    across, down, ahead = (to_centre @ axis for axis in (scene.camera.right, scene.camera.down, scene.camera.forward))
    focal = width / 2 / math.tan(FIELD_OF_VIEW / 2)
    reach = 1.5 * focal * radius / ahead + 2
    middle = (height / 2 + focal * down / ahead, width / 2 + focal * across / ahead)
    ends = zip(middle, (height, width), strict=True)
    return tuple(slice(max(int(m - reach), 0), min(int(m + reach) + 1, n)) for m, n in ends)


def _pooled(fine: np.ndarray) -> np.ndarray:
    """Return the mean over the subpixels of every pixel."""
    height, width = np.array(fine.shape) // BALL_SUBPIXELS
    return fine.reshape(height, BALL_SUBPIXELS, width, BALL_SUBPIXELS).mean((1, 3))


def _description(mi: ModuleType, scene: Scene, width: int, height: int) -> dict:
    to_world, (width_m, depth_m, height_m) = mi.ScalarTransform4f, scene.size
    start, target = scene.camera.position, scene.camera.position + scene.camera.forward
    above = to_world().translate([width_m / 2, depth_m * 0.45, height_m - 0.01]).rotate([1, 0, 0], 180).scale(0.7)
    behind = to_world().translate([width_m / 2, 0.01, height_m / 2]).rotate([1, 0, 0], -90)
    behind = behind.scale([width_m / 2, height_m / 2, 1])
    described = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": 2},
        "sensor": {
            "type": "perspective",
            "fov": math.degrees(FIELD_OF_VIEW),
            "fov_axis": "x",
            "to_world": to_world().look_at(origin=list(start), target=list(target), up=[0, 0, 1]),
            "film": {"type": "hdrfilm", "width": width, "height": height, "rfilter": {"type": "box"}},
            "sampler": {"type": "multijitter"},
        },
    }
    # the panel is seen as ceiling; daylight comes from behind the camera: shadows hide behind what casts them
    for name, place, strength in (("part_1_panel", above, 4), ("part_3_daylight", behind, 0.8)):
        emitter = {"type": "area", "radiance": _rgb(scene.light * strength)}
        described[name] = {"type": "rectangle", "to_world": place, "emitter": emitter}
    for i, part in enumerate(scene.parts):
        described |= {f"part_{i}_{j}": shape | _surface(mi, part) for j, shape in enumerate(_shapes(mi, part))}
    return described


def _rgb(colour: Iterable[float]) -> dict:
    return {"type": "rgb", "value": [float(c) for c in colour]}


def _shapes(mi: ModuleType, part: Part) -> list[dict]:
    if part.kind == "box":
        turned = mi.ScalarTransform4f().translate(list(part.a)).rotate([0, 0, 1], math.degrees(part.yaw))
        return [{"type": "cube", "to_world": turned.scale(list(part.b))}]
    ends = [{"type": "sphere", "center": list(p), "radius": part.radius} for p in (part.a, part.b)]
    if part.kind == "ball":
        return ends[:1]
    tube = {"type": "cylinder", "p0": list(part.a), "p1": list(part.b), "radius": part.radius}
    if part.kind == "capsule":
        return [tube, *ends]
    lids = []
    for end, other in ((part.a, part.b), (part.b, part.a)):  # disks that close a drum, facing outwards
        away = np.array(end) - np.array(other)
        up = [1, 0, 0] if abs(away[2]) > abs(away[0]) else [0, 0, 1]
        looking = mi.ScalarTransform4f().look_at(origin=list(end), target=list(np.array(end) + away), up=up)
        lids.append({"type": "disk", "to_world": looking.scale([part.radius, part.radius, 1])})
    return [tube, *lids]


def _surface(mi: ModuleType, part: Part) -> dict:
    paint, texture = part.paint, _rgb(part.paint.colour)
    if paint.second:
        scale = mi.ScalarTransform3f().scale([float(n) for n in paint.tiles])
        texture = {"type": "checkerboard", "color0": texture, "color1": _rgb(paint.second), "to_uv": scale}
    surface = {"bsdf": {"type": "diffuse", "reflectance": texture}}
    if any(part.glow):  # small lights only add noise, so none is sampled
        surface["emitter"] = {"type": "area", "radiance": _rgb(part.glow), "sampling_weight": 0.0}
    return surface

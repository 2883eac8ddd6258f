"""What is shared and what is private between the sensors, by construction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Factor:
    """One recorded generative factor of a scene.

    Attributes:
        name: its column in the dataset's factors.
        carried: ``shared`` where every sensor sees the cause, else the one sensor it is private to.
        says: what it is, with its unit.
    """

    name: str
    carried: str
    says: str


FACTORS = (
    Factor("room_width_m", "shared", "width of the room, metres"),
    Factor("room_depth_m", "shared", "depth of the room, metres"),
    Factor("camera_height_m", "shared", "height of the camera above the floor, metres"),
    Factor("camera_yaw_deg", "shared", "heading of the camera, degrees to the left of the back wall's middle"),
    Factor("object_count", "shared", "things standing on the floor"),
    Factor("night", "rgb", "1 at night"),
    Factor("light_level", "rgb", "radiance of the light, relative"),
    Factor("light_warmth", "rgb", "colour of the light, -1 blue to 1 red"),
    Factor("palette_hue_x", "rgb", "cosine of the palette's hue"),
    Factor("palette_hue_y", "rgb", "sine of the palette's hue"),
    Factor("palette_chroma", "rgb", "saturation of the palette"),
    Factor("depth_noise", "depth", "noise at 1 m, metres"),
    Factor("depth_holes", "depth", "share of pixels lost to blobs"),
    Factor("ambient_c", "thermal", "temperature of the room, degrees C"),
    Factor("thermal_drift_c", "thermal", "drift of the thermal sensor at the corners, degrees C"),
)

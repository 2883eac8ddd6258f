"""Three cameras that measure the same view, each with its own faults."""

import numpy as np
from scipy import ndimage

from crodino_lib.rooms.render import View
from crodino_lib.rooms.scene import CLASSES, Scene

FULL_WELL = 4000.0  # electrons of a pixel at radiance 1
READ_NOISE = 6.0  # electrons
LENS_BLUR = 0.008  # of the thermal lens, standard deviation as a fraction of the picture's width
NETD_C = 0.15  # noise of the thermal sensor, degrees C


def photograph(view: View, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 (H, W, 3): photons, partly corrected exposure and white balance, sRGB."""
    electrons = np.maximum(view.radiance * FULL_WELL, 0)
    noisy = electrons + rng.normal(0, 1, electrons.shape) * np.sqrt(electrons + READ_NOISE**2)
    tint = scene.light / scene.light.mean()
    linear = noisy / FULL_WELL / tint ** rng.uniform(0.4, 0.7) * rng.normal(1, 0.03, 3)
    exposure = (0.25 / np.maximum(linear.mean(), 1e-4)) ** 0.6 * np.exp(rng.normal(0, 0.1))
    linear = np.clip(linear * exposure, 0, 1)
    srgb = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


def measure_depth(view: View, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Return uint16 (H, W) in millimetres, 0 where invalid: noise grows with z^2; edges, glass and blobs drop out."""
    z = view.depth
    measured = z + rng.normal(0, 1, z.shape) * scene.factors["depth_noise"] * z**2
    bend = np.abs(ndimage.laplace(1 / z)) * z > 0.08  # 1 / z is linear across a plane, however oblique
    blobs = ndimage.gaussian_filter(rng.normal(0, 1, z.shape), z.shape[1] / 64)
    holes = blobs > np.quantile(blobs, 1 - scene.factors["depth_holes"])
    holes |= bend & (rng.random(z.shape) < 0.6)
    holes |= (view.label == CLASSES.index("window")) & (rng.random(z.shape) < 0.4)
    return np.where(holes, 0, np.clip(np.round(measured * 1000), 0, 65535)).astype(np.uint16)


def measure_heat(view: View, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Return uint16 (H, W) in hundredths of a degree above -100 C: lens blur, noise, drift towards the corners."""
    height, width = view.celsius.shape
    blurred = ndimage.gaussian_filter(view.celsius, LENS_BLUR * width, mode="nearest")
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    drifted = blurred + scene.factors["thermal_drift_c"] * (x**2 + y**2) / 2
    return (np.round((drifted + rng.normal(0, NETD_C, drifted.shape)) * 100) + 10000).astype(np.uint16)

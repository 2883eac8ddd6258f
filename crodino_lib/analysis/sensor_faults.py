"""Break a sensor of a split: take it away, or degrade it in five severities.

A fault is always the same for a scene, but *another scene*, which is the scene half a split away.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from crodino_lib.data.sample import DatasetCard, Scenes, Sensor
from crodino_lib.settings import choose

SEVERITIES = (1, 2, 3, 4, 5)
FULL_WELL, READ_NOISE = 4000.0, 6.0  # electrons of a white pixel, and of the noise of reading one
GAMMA = 2.2  # about sRGB
Maps = tuple[np.ndarray, np.ndarray]  # values (C, H, W) in the sensor's unit, where they are valid (1, H, W)


def zeros(values: np.ndarray, valid: np.ndarray, sensor: Sensor, *_) -> Maps:
    """Return black, or no valid value."""
    return np.zeros_like(values), np.zeros_like(valid)


def mean(values: np.ndarray, valid: np.ndarray, sensor: Sensor, *_) -> Maps:
    """Return the sensor's mean everywhere, which networks see as 0 where it is not encoded."""
    return np.broadcast_to(np.reshape(sensor.mean, (-1, 1, 1)), values.shape), np.ones_like(valid)


def noise(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, rng: np.random.Generator) -> Maps:
    """Return noise with the sensor's mean and standard deviation."""
    level, spread = (np.reshape(moment, (-1, 1, 1)) for moment in (sensor.mean, sensor.std))
    return level + spread * rng.normal(size=values.shape), np.ones_like(valid)


def dark(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, rng: np.random.Generator) -> Maps:
    """Darken to 0.4**severity of the light, with the noise of few photons; exposure does not follow."""
    electrons = (values / 255) ** GAMMA * FULL_WELL * 0.4**severity
    noisy = electrons + rng.normal(size=values.shape) * np.sqrt(electrons + READ_NOISE**2)
    return 255 * (np.maximum(noisy, 0) / FULL_WELL) ** (1 / GAMMA), valid


def over_exposed(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, *_) -> Maps:
    """Add 0.7 stops of light a severity, and cut at white."""
    return 255 * np.minimum((values / 255) ** GAMMA * 2 ** (0.7 * severity), 1) ** (1 / GAMMA), valid


def blurred(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, *_) -> Maps:
    """Blur by a Gaussian of 0.5 % of the picture's width a severity, among valid pixels."""
    sigma = 0.005 * severity * values.shape[-1]
    known = gaussian_filter(valid.astype(float), (0, sigma, sigma))
    return gaussian_filter(values * valid, (0, sigma, sigma)) / np.maximum(known, 1e-3), valid


def noisy(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, rng: np.random.Generator) -> Maps:
    """Add noise of 0.2 standard deviations of the sensor a severity."""
    spread = 0.2 * severity * np.reshape(sensor.std, (-1, 1, 1))
    return values + spread * rng.normal(size=values.shape), valid


def holes(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, rng: np.random.Generator) -> Maps:
    """Remove the values of blobs, on 15 % of the picture a severity."""
    blobs = gaussian_filter(rng.normal(size=valid.shape), (0, *[valid.shape[-1] / 24] * 2))
    return values, valid & (blobs <= np.quantile(blobs, 1 - 0.15 * severity))


def quantised(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, *_) -> Maps:
    """Round to steps of 0.05 to 0.8 standard deviations of the sensor, doubled with each severity."""
    step = 0.05 * 2 ** (severity - 1) * sensor.std[0]
    return np.round(values / step) * step, valid


def short_ranged(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, *_) -> Maps:
    """Remove values beyond the mean plus (1.5 - 0.5 severity) standard deviations."""
    return values, valid & (values <= sensor.mean[0] + (1.5 - 0.5 * severity) * sensor.std[0])


def drifting(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, *_) -> Maps:
    """Raise the corners by 0.4 standard deviations a severity above the middle."""
    height, width = values.shape[-2:]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return values + 0.4 * severity * np.reshape(sensor.std, (-1, 1, 1)) * (x**2 + y**2) / 2, valid


def saturated(values: np.ndarray, valid: np.ndarray, sensor: Sensor, severity: int, *_) -> Maps:
    """Cut values at the mean plus (1.5 - 0.5 severity) standard deviations."""
    highest = np.reshape(sensor.mean, (-1, 1, 1)) + (1.5 - 0.5 * severity) * np.reshape(sensor.std, (-1, 1, 1))
    return np.minimum(values, highest), valid


ABSENT: dict[str, Callable[..., Maps] | None] = {"zeros": zeros, "mean": mean, "noise": noise, "another scene": None}
DEGRADED: dict[str, dict[str, Callable[..., Maps]]] = {
    "rgb": {"dark": dark, "over-exposed": over_exposed, "blurred": blurred, "noisy": noisy},
    "depth": {"holes": holes, "quantised": quantised, "short-ranged": short_ranged},
    "other": {"drifting": drifting, "saturated": saturated, "out of focus": blurred},
}


def faults_of(name: str, card: DatasetCard) -> dict[str, Callable[..., Maps]]:
    """Return the faults with severities of one sensor of a dataset: those of RGB, of depth, or of any other sensor."""
    return DEGRADED["rgb" if name == "rgb" else "depth" if card.sensors[name].metric else "other"]


def broken(scenes: Scenes, card: DatasetCard, name: str, fault: str, severity: int = 0) -> Scenes:
    """Return scenes in which one sensor has a fault; labels and other sensors are the same objects.

    Args:
        scenes: one split.
        card: of the dataset.
        name: of the sensor.
        fault: one of ``ABSENT``, which have no severity, or of ``faults_of``.
        severity: 1 to 5.

    Raises:
        ValueError: the sensor has no such fault, proposes the nearest; or there is no other scene.
    """
    known = ABSENT | faults_of(choose(name, card.sensors, "sensor"), card)
    apply, sensor = known[choose(fault, known, f"fault of {name}")], card.sensors[name].measured
    images = scenes.images[name]
    valid = scenes.valid.get(name, np.ones_like(images[:, :1], dtype=bool))
    if apply is None:
        if len(scenes) < 2:
            raise ValueError(f"{fault!r} needs at least two scenes, found {len(scenes)}")
        images, valid = (np.roll(part, len(scenes) // 2, axis=0) for part in (images, valid))
    else:
        maps = [
            apply(image.astype(float), mask, sensor, severity, _drawn(scene, fault))
            for image, mask, scene in zip(images, valid, scenes.ids, strict=True)
        ]
        values, valid = (np.stack(part) for part in zip(*maps, strict=True))
        images = np.clip(np.round(values), 0, 255) if name == "rgb" else np.where(valid, values, 0)
    masks = scenes.valid if name == "rgb" else scenes.valid | {name: valid}
    return replace(scenes, images=scenes.images | {name: images.astype(scenes.images[name].dtype)}, valid=masks)


def _drawn(scene: str, fault: str) -> np.random.Generator:
    """Return the generator of a scene and a fault: the severities of a fault share their noise."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{scene}/{fault}".encode()).digest()[:8]))

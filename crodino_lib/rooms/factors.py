"""What is shared and what is private between the sensors: as built, and as verified by regression.

The table says what the sensors contain. It does not say what a model's shared and private halves must hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from crodino_lib.data.sample import Sample, SceneDataset

CELLS = 16  # rows and columns of the small pictures that regressors see
SHUFFLES = 200
CARRIED = 0.05  # least R^2 that counts: chance alone is exceeded by less with many scenes


@dataclass(frozen=True)
class Factor:
    """One recorded generative factor of a scene.

    Attributes:
        name: its column in the dataset's factors.
        carried: ``shared`` where every sensor sees the cause, else the one sensor it is private to.
        description: what it is, with its unit.
    """

    name: str
    carried: str
    description: str


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


def truth_table(dataset: SceneDataset, train: str = "train", test: str = "test", seed: int = 0) -> pd.DataFrame:
    """Verify which factor each sensor carries: one supervised regressor per sensor and factor, on held-out scenes.

    A factor that a sensor carries faintly, or only in ways that small pictures do not show, may be missed: a high R^2
    proves that the sensor carries it, a low one only that this regressor did not find it.

    Args:
        dataset: rooms.
        train: split the regressors learn from.
        test: split they are judged on.
        seed: of regressors and shuffles.

    Returns:
        One row per factor and sensor: ``factor``, ``built`` (shared, or the sensor it is private to), ``sensor``,
        ``r2`` (1 is perfect, 0 is the mean), ``chance`` (95th percentile of R^2 with the scenes shuffled) and
        ``carries`` (R^2 is above both chance and 0.05).
    """
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.metrics import r2_score

    truth = {split: dataset.factors(split) for split in (train, test)}
    rng, rows = np.random.default_rng(seed), []
    for sensor in dataset.card.sensors:
        old, new = (
            np.stack([_features(dataset.read(name), sensor) for name in truth[split].index]) for split in (train, test)
        )
        for factor in FACTORS:
            forest = ExtraTreesRegressor(100, min_samples_leaf=2, max_features=0.33, n_jobs=-1, random_state=seed)
            guess = forest.fit(old, truth[train][factor.name]).predict(new)
            actual = truth[test][factor.name].to_numpy()
            r2 = r2_score(actual, guess)
            chance = np.quantile([r2_score(actual, rng.permutation(guess)) for _ in range(SHUFFLES)], 0.95)
            rows.append((factor.name, factor.carried, sensor, r2, chance, bool(r2 > max(chance, CARRIED))))
    return pd.DataFrame(rows, columns=["factor", "built", "sensor", "r2", "chance", "carries"])


def _features(sample: Sample, sensor: str) -> np.ndarray:
    """A small picture of a sensor's values and of its edges, and the statistics of values and of fine noise."""
    image, valid = _channels(sample, sensor)
    smooth = ndimage.gaussian_filter(image, (0, 1, 1))
    edges = np.hypot(ndimage.sobel(smooth, 1), ndimage.sobel(smooth, 2)).sum(0)
    edges = np.log1p(edges / (np.median(edges) + 1e-6))
    fine = np.abs(image[:, :, 2:] + image[:, :, :-2] - 2 * image[:, :, 1:-1])
    measured = fine[:, valid[:, 2:] & valid[:, :-2] & valid[:, 1:-1]]
    statistics = [
        [1 - valid.mean()],
        image.mean((1, 2)),
        image.std((1, 2)),
        np.quantile(image, np.linspace(0, 1, 11), axis=(1, 2)).ravel(),
        np.quantile(measured, [0.1, 0.25, 0.5, 0.75, 0.9], axis=1).ravel() if measured.size else [],
    ]
    profiles = [edges.mean(0), edges.mean(1)]
    return np.concatenate([_small(image).ravel(), _small(edges[None]).ravel(), *profiles, *statistics])


def _channels(sample: Sample, sensor: str) -> tuple[np.ndarray, np.ndarray]:
    """(C, H, W) with holes filled from their nearest neighbour, and where it was measured; colour gains its tints."""
    image = sample[sensor].astype(np.float64)
    if sensor == "rgb":
        tint = image / np.maximum(image.sum(0), 1)
        saturation = np.ptp(image, axis=0) / np.maximum(image.max(0), 1)
        return np.concatenate([image, tint[:1] - tint[1:2], tint[2:] - tint[1:2], saturation[None]]), image[0] >= 0
    valid = sample[f"{sensor}_valid"][0]
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return image[:, nearest[0], nearest[1]], valid


def _small(image: np.ndarray) -> np.ndarray:
    channels, height, width = image.shape
    return image.reshape(channels, CELLS, height // CELLS, CELLS, width // CELLS).mean((2, 4))

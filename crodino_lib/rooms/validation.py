"""Verify what rooms promises: which sensor carries which factor, and which sensor tells the classes of a pair apart."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.metrics import balanced_accuracy_score, r2_score

from crodino_lib.data.sample import Sample
from crodino_lib.rooms.generate import RoomsDataset
from crodino_lib.rooms.scene import CLASSES, FACTORS, PAIRS, SENSORS

CELLS = 16  # rows and columns of the small pictures that regressors see
CROP = 12  # cells across the crop around an object
TREES = 30  # of a forest; 100 are three times as slow and raise R^2 by about 0.02
FOREST = {"min_samples_leaf": 2, "n_jobs": -1}
SHUFFLES = 200
CARRIED = 0.05  # least R^2 that counts: chance alone is exceeded by less with many scenes
MIN_AREA = 1 / 800  # of the picture; smaller objects are mostly hidden


def truth_table(dataset: RoomsDataset, sensors: Iterable[str], seed: int = 0) -> pd.DataFrame:
    """Measure which factor each sensor carries: one regressor per sensor and factor, tested on held-out scenes.

    A high R^2 proves that the sensor carries the factor; a low one only that this regressor, which sees small pictures
    and statistics, did not find it. The table describes sensors, not what the blocks of a model must hold.

    Columns: ``factor``, ``built`` (shared, or the sensor it is private to), ``sensor``, ``r2`` (1 is perfect, 0 is the
    mean), ``chance`` (95th percentile of R^2 with the scenes shuffled), ``carries`` (R^2 above both chance and 0.05).
    """
    old_truth, new_truth = dataset.factors("train"), dataset.factors("test")
    splits = dataset.ids("train"), dataset.ids("test")
    rng, rows = np.random.default_rng(seed), []
    for sensor in (name for name in sensors if name in SENSORS):
        old, new = (np.stack([_scene_features(dataset.rendered(i), sensor) for i in ids]) for ids in splits)
        for factor, (carried, *_) in FACTORS.items():
            forest = ExtraTreesRegressor(TREES, max_features=0.33, random_state=seed, **FOREST)
            predicted = forest.fit(old, old_truth[factor]).predict(new)
            r2 = r2_score(new_truth[factor], predicted)
            actual, repeated = (np.tile(values, (SHUFFLES, 1)).T for values in (new_truth[factor], predicted))
            shuffled = rng.permuted(repeated, axis=0)
            chance = np.quantile(r2_score(actual, shuffled, multioutput="raw_values"), 0.95)
            rows.append((factor, carried, sensor, r2, chance, bool(r2 > max(chance, CARRIED))))
    return pd.DataFrame(rows, columns=["factor", "built", "sensor", "r2", "chance", "carries"])


def pair_separability(dataset: RoomsDataset, seed: int = 0) -> pd.DataFrame:
    """Measure which sensor tells a pair apart: one classifier per pair and sensor, tested on held-out scenes.

    Columns: ``pair``, ``sensor``, ``decisive`` (this sensor should tell the pair apart), ``balanced_accuracy`` (0.5 is
    chance), ``n_train`` and ``n_test`` objects.

    Raises:
        ValueError: a split has no object of one of a pair's classes; names it and asks for more scenes.
    """
    objects, rows = {split: _objects(dataset, split) for split in ("train", "test")}, []
    for pair, (decisive, *classes) in PAIRS.items():
        for split, table in objects.items():
            if missing := set(classes) - set(table["label"]):
                raise ValueError(f"split {split!r} shows no {' and no '.join(sorted(missing))}: render more scenes")
        old, new = (table[table["label"].isin(classes)] for table in objects.values())
        for sensor in SENSORS:
            forest = ExtraTreesClassifier(TREES, class_weight="balanced", random_state=seed, **FOREST)
            forest.fit(np.stack(old[sensor]), old["label"])
            accuracy = balanced_accuracy_score(new["label"], forest.predict(np.stack(new[sensor])))
            rows.append((pair, sensor, sensor == decisive, accuracy, len(old), len(new)))
    return pd.DataFrame(rows, columns=["pair", "sensor", "decisive", "balanced_accuracy", "n_train", "n_test"])


def _scene_features(sample: Sample, sensor: str) -> np.ndarray:
    """Return small pictures of a sensor's values and edges, and statistics of its values and of its fine noise."""
    valid, image = _valid(sample, sensor), sample[sensor].astype(np.float64)
    if sensor == "rgb":  # add tints and saturation
        tint, saturation = image / np.maximum(image.sum(0), 1), np.ptp(image, axis=0) / np.maximum(image.max(0), 1)
        image = np.concatenate([image, tint[:1] - tint[1:2], tint[2:] - tint[1:2], saturation[None]])
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    image = image[:, nearest[0], nearest[1]]  # fills the holes
    smooth = ndimage.gaussian_filter(image, (0, 1, 1))
    edges = np.hypot(ndimage.sobel(smooth, 1), ndimage.sobel(smooth, 2)).sum(0)
    edges = np.log1p(edges / (np.median(edges) + 1e-6))
    fine = np.abs(image[:, :, 2:] + image[:, :, :-2] - 2 * image[:, :, 1:-1])
    measured = fine[:, valid[:, 2:] & valid[:, :-2] & valid[:, 1:-1]]
    values = np.quantile(image, np.linspace(0, 1, 11), axis=(1, 2)).ravel()
    noise = np.quantile(measured, [0.1, 0.25, 0.5, 0.75, 0.9], axis=1).ravel() if measured.size else []
    statistics = [1 - valid.mean()], image.mean((1, 2)), image.std((1, 2)), values, noise
    height, width = valid.shape
    layers = np.concatenate([image, edges[None]])
    small = layers.reshape(-1, CELLS, height // CELLS, CELLS, width // CELLS).mean((2, 4))
    return np.concatenate([small.ravel(), edges.mean(0), edges.mean(1), *statistics])


def _valid(sample: Sample, sensor: str) -> np.ndarray:
    return np.ones(sample["label"].shape, bool) if sensor == "rgb" else sample[f"{sensor}_valid"][0]


def _objects(dataset: RoomsDataset, split: str) -> pd.DataFrame:
    """Return one row per pair object that is large enough to see: its label and each sensor's features of it."""
    rows, sensors = [], list(SENSORS)
    for scene_id in dataset.ids(split):
        sample, sites = dataset.rendered(scene_id), dataset.sites(scene_id)
        for site in np.unique(sites[sites > 0]):
            mask = sites == site
            if mask.mean() >= MIN_AREA:
                label = CLASSES[np.bincount(sample["label"][mask]).argmax()]
                rows.append({"label": label, **{sensor: _object_features(sample, sensor, mask) for sensor in sensors}})
    return pd.DataFrame(rows, columns=["label", *sensors])


def _object_features(sample: Sample, sensor: str, mask: np.ndarray) -> np.ndarray:
    """Return an object's shape and place, what the sensor measures on and around it, and a small picture of both."""
    image, valid = sample[sensor].astype(float), _valid(sample, sensor)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    around = ndimage.binary_dilation(mask, iterations=3) & ~mask
    on, off = (_statistics(image, region & valid) for region in (mask, around))
    place = [mask.mean(), rows.mean(), columns.mean(), np.ptp(rows), np.ptp(columns), valid[mask].mean()]
    grid = [  # the bounding box with a margin of a half on every side
        np.clip(np.linspace(span[0] - len(span) / 2, span[-1] + len(span) / 2, CROP), 0, size - 1).round().astype(int)
        for span, size in zip((rows, columns), mask.shape, strict=True)
    ]
    crop = image[:, grid[0][:, None], grid[1]]
    return np.concatenate([place, on, off, on - off, np.abs(on - off), crop.ravel()])


def _statistics(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return mean and spread per channel; zeros where nothing is valid."""
    values = image[:, region] if region.any() else np.zeros((len(image), 1))
    return np.concatenate([values.mean(1), values.std(1)])

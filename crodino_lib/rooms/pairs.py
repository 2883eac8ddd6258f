"""Whether each pair of classes can be told apart by one sensor only, as the grammar promises."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from crodino_lib.data.sample import Sample
from crodino_lib.rooms.dataset import RoomsDataset
from crodino_lib.rooms.scene import CLASSES, PAIRS

CROP = 12  # cells across the crop around an object
MIN_AREA = 1 / 800  # of the picture; smaller objects are mostly hidden
SENSORS = ("rgb", "depth", "thermal")


def pair_separability(dataset: RoomsDataset, train: str = "train", test: str = "test", seed: int = 0) -> pd.DataFrame:
    """Train one small classifier per pair and sensor on crops around the objects, and test it on held-out scenes.

    Args:
        dataset: rooms.
        train: split whose objects the classifiers learn from.
        test: split whose objects they are judged on.
        seed: of the classifiers.

    Returns:
        One row per pair and sensor: ``pair``, ``sensor``, ``decisive`` (whether this is the sensor that should tell),
        ``balanced_accuracy`` (0.5 is chance), ``n_train`` and ``n_test`` objects.

    Raises:
        ValueError: a split has no object of one of a pair's classes; names it and asks for more scenes.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import balanced_accuracy_score

    learnt, held = _objects(dataset, train), _objects(dataset, test)
    rows = []
    for pair, (decisive, *classes) in PAIRS.items():
        for split, objects in ((train, learnt), (test, held)):
            if missing := set(classes) - set(objects["label"]):
                raise ValueError(f"split {split!r} shows no {' and no '.join(sorted(missing))}: render more scenes")
        (old, new) = (objects[objects["label"].isin(classes)] for objects in (learnt, held))
        for sensor in SENSORS:
            forest = ExtraTreesClassifier(
                200, min_samples_leaf=2, class_weight="balanced", n_jobs=-1, random_state=seed
            )
            forest.fit(np.stack(old[sensor]), old["label"])
            accuracy = balanced_accuracy_score(new["label"], forest.predict(np.stack(new[sensor])))
            rows.append((pair, sensor, sensor == decisive, accuracy, len(old), len(new)))
    return pd.DataFrame(rows, columns=["pair", "sensor", "decisive", "balanced_accuracy", "n_train", "n_test"])


def _objects(dataset: RoomsDataset, split: str) -> pd.DataFrame:
    """One row per pair object that is large enough to see: its label, and what each sensor shows of it."""
    rows = []
    for scene_id in dataset.ids(split):
        sample, sites = dataset.read(scene_id), dataset.sites(scene_id)
        for site in np.unique(sites[sites > 0]):
            mask = sites == site
            if mask.mean() >= MIN_AREA:
                label = CLASSES[np.bincount(sample["label"][mask]).argmax()]
                rows.append({"label": label, **{sensor: _features(sample, sensor, mask) for sensor in SENSORS}})
    return pd.DataFrame(rows, columns=["label", *SENSORS])


def _features(sample: Sample, sensor: str, mask: np.ndarray) -> np.ndarray:
    """Shape and place of an object, what the sensor measures on and around it, and a small picture of both."""
    image = sample[sensor].astype(float)
    valid = sample[f"{sensor}_valid"][0] if sensor != "rgb" else np.ones(mask.shape, bool)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    around = ndimage.binary_dilation(mask, iterations=3) & ~mask
    on, off = (_statistics(image, region & valid) for region in (mask, around))
    place = [mask.mean(), rows.mean(), columns.mean(), np.ptp(rows), np.ptp(columns), valid[mask].mean()]
    crop = _crop(image, rows, columns)
    return np.concatenate([place, on, off, on - off, np.abs(on - off), crop.ravel()])


def _statistics(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Mean and spread per channel; zeros where nothing is valid."""
    values = image[:, region] if region.any() else np.zeros((len(image), 1))
    return np.concatenate([values.mean(1), values.std(1)])


def _crop(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The object's bounding box with a margin of a half on every side, as (C, CROP, CROP)."""
    grid = [
        np.clip(np.linspace(span[0] - len(span) / 2, span[-1] + len(span) / 2, CROP), 0, size - 1).round().astype(int)
        for span, size in zip((rows, columns), image.shape[1:], strict=True)
    ]
    return image[:, grid[0][:, None], grid[1]]

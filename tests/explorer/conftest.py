"""Two runs over the toy scenes, laid out so that halves of the cloud hold known points."""

import numpy as np
import pandas as pd
import pytest

from crodino_lib.data.sample import IGNORE
from crodino_lib.explorer.payload import Cloud, ExploredRun

SENSORS = ("rgb", "depth")
LEFT_OUT = (3, 7)  # scenes without rows


def regions_of(scenes, card):
    rows = []
    for index in np.random.default_rng(1).permutation(len(scenes)):  # not in the order of the scenes
        for label in np.setdiff1d(scenes.labels[index], [IGNORE]):
            y, x = np.nonzero(scenes.labels[index] == label)
            box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
            if index not in LEFT_OUT:
                rows.append((scenes.ids[index], int(label), card.classes[label], *box))
    return pd.DataFrame(rows, columns=["image", "class", "name", "left", "top", "right", "bottom"])


def explored_run(name, rows, scenes, generator):
    """Shared clouds: class 0 on the left, the others on the right. Private: rgb on the left, depth on the right."""
    count = len(SENSORS) * len(rows)
    classes, sensors = np.tile(rows["class"], len(SENSORS)), np.repeat(range(len(SENSORS)), len(rows))
    clouds = []
    for block, right in (("shared", classes > 0), ("private", sensors > 0)):
        for embedding in ("UMAP", "PCA"):
            points = generator.random((count, 2)) + np.stack([3.0 * right, 0 * right], axis=1)
            clouds.append(Cloud(block, embedding, f"{embedding} of {block}: T 0.91, C 0.88.", points))
    errors = {block: generator.random(count) for block in ("shared", "private")}
    errors["shared"][5] = np.nan
    predictions = {sensor: generator.integers(4, size=scenes.labels.shape).astype(np.uint8) for sensor in SENSORS}
    return ExploredRun(name, SENSORS, rows, clouds, errors, predictions)


@pytest.fixture(scope="session")
def toy_runs(toy_scenes, toy_card):
    """One of all regions, and one of half of them in another order."""
    generator = np.random.default_rng(2)
    rows = regions_of(toy_scenes, toy_card)
    fewer = rows.iloc[::-2].reset_index(drop=True)
    return [
        explored_run("trained", rows, toy_scenes, generator),
        explored_run("untrained", fewer, toy_scenes, generator),
    ]
